"""One party's log as a value, and which records may come next in it.

`LogState` is all that is needed to append: how many records, the last leaf's hash, the Merkle
frontier and the newest `recorded_at`. Validity (`check_batch`) is a pure function of that, the
terms and the records, so two honest nodes never disagree on it. What needs the log's past (that an
id is new, what a correction corrects) is checked by whoever holds the past, with `LogPast`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from tallystick.protocol.checkpoint import check_close
from tallystick.protocol.errors import FormatError, InvalidRecord
from tallystick.protocol.merkle import Frontier, chain_leaves
from tallystick.protocol.records import (
    Close,
    Correction,
    Delta,
    Record,
    Role,
    Terms,
    check_texts,
    texts_plain,
)


@dataclass(frozen=True, slots=True)
class LogState:
    """A log up to a size. `last_leaf` is the channel id while the log is empty."""

    last_leaf: bytes
    frontier: Frontier
    last_recorded_at: int
    last_checkpoint: bytes  # digest of the newest Close's checkpoint, empty before the first

    @classmethod
    def empty(cls, channel_id: bytes) -> LogState:
        """The log before its first record."""
        return cls(channel_id, Frontier.empty(), 0, b"")

    @property
    def size(self) -> int:
        """How many records the log has."""
        return self.frontier.size


@dataclass(frozen=True, slots=True)
class Appended:
    """A log after an append: the new state, and what a store keeps to make proofs short.

    `leaves` are the new leaf hashes in order; `tiles` the roots of the aligned subtrees of 256
    leaves that they completed.
    """

    state: LogState
    leaves: list[bytes]
    tiles: list[bytes]


def append(
    state: LogState, parts: Sequence[bytes], recorded_at: int, checkpoint: bytes
) -> Appended:
    """The log with these records' bytes appended; the last two are from `check_batch`."""
    leaves = chain_leaves(state.last_leaf, parts)
    frontier, tiles = state.frontier.extend_with_tiles(leaves)
    after = LogState(leaves[-1] if leaves else state.last_leaf, frontier, recorded_at, checkpoint)
    return Appended(after, leaves, tiles)


class LogPast(Protocol):
    """What a correction's validity needs to know of the log before it."""

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        """The delta and its quantity as corrected so far (None: voided); None if unknown."""


class Rules:
    """The terms as one party's log must follow them, laid out for speed."""

    def __init__(self, terms: Terms, role: Role) -> None:
        self.terms = terms
        self.role = role
        self._limits = {
            meter.name: (meter.minimum, meter.maximum)
            for meter in terms.meters
            if meter.source in (role, "both")
        }

    def allows(self, meter: str, quantity: int) -> bool:
        """Whether a delta of this meter and quantity is valid in this party's log."""
        limits = self._limits.get(meter)
        return limits is not None and limits[0] <= quantity <= limits[1]

    def check_delta(self, meter: str, quantity: int) -> None:
        """Refuse a meter that this party does not record, or a quantity out of its range."""
        limits = self._limits.get(meter)
        if limits is None:
            known = ", ".join(sorted(self._limits)) or "none"
            raise InvalidRecord(
                f"the {self.role} does not record the meter {meter!r} under these terms",
                f"Meters that it records: {known}",
            )
        if not limits[0] <= quantity <= limits[1]:
            raise InvalidRecord(
                f"{quantity} is outside the range of {meter}, {limits[0]} to {limits[1]}"
                " (in the meter's smallest unit)"
            )

    def check_batch(
        self, state: LogState, records: Sequence[Record], past: LogPast
    ) -> tuple[int, bytes]:
        """Check all but the ids' newness; return the new `recorded_at` and checkpoint digest.

        Raises `InvalidRecord` that names the first record that does not fit, by its index.
        """
        limits = self._limits
        last, checkpoint = state.last_recorded_at, state.last_checkpoint
        index = state.size
        texts: list[str] = []
        corrected: dict[tuple[str, str], tuple[Delta, int | None]] | None = None
        try:
            for record in records:
                if type(record) is Delta:
                    limit = limits.get(record.meter)
                    if limit is None or not limit[0] <= record.quantity <= limit[1]:
                        self.check_delta(record.meter, record.quantity)
                    texts.append(record.id)
                    texts.append(record.subject)
                    if corrected is not None:
                        corrected[record.meter, record.id] = (record, record.quantity)
                elif type(record) is Correction:
                    if corrected is None:
                        before = records[: index - state.size]
                        corrected = {
                            (delta.meter, delta.id): (delta, delta.quantity)
                            for delta in before
                            if type(delta) is Delta
                        }
                    self._check_correction(record, past, corrected)
                elif type(record) is Close:
                    checkpoint = check_close(self.terms, record, checkpoint)
                elif index or record != self.terms:
                    _refuse("terms stand only at the beginning of a log")
                if not isinstance(record, Terms):
                    if not index:
                        _refuse("a log begins with its channel's terms")
                    if record.recorded_at < last:
                        _refuse("recorded_at goes back")
                    last = record.recorded_at
                index += 1
            if not texts_plain("".join(texts)):
                index = state.size
                for record in records:
                    if type(record) is Delta:
                        check_texts(record.id, record.subject, what="id or subject")
                    index += 1
        except (InvalidRecord, FormatError) as error:
            raise InvalidRecord(f"record {index}: {error.message}", error.advice) from None
        return last, checkpoint

    def _check_correction(
        self,
        record: Correction,
        past: LogPast,
        corrected: dict[tuple[str, str], tuple[Delta, int | None]],
    ) -> None:
        # A reason may be longer than other texts, so it is looked at in pieces.
        pieces = (record.reason[i : i + 32] for i in range(0, len(record.reason), 32))
        check_texts(record.id, *pieces, what="id or reason")
        key = (record.meter, record.id)
        known = corrected.get(key) or past.effective(*key)
        if known is None:
            raise InvalidRecord(f"it corrects {record.meter}/{record.id}, which is not recorded")
        if known[1] is None:
            raise InvalidRecord(f"it corrects {record.meter}/{record.id}, which is voided")
        if record.quantity is not None:
            self.check_delta(record.meter, record.quantity)
        corrected[key] = (known[0], record.quantity)


def _refuse(message: str) -> NoReturn:
    raise InvalidRecord(message)
