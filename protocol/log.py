"""One party's log as a value, and which records may come next in it.

`LogState` is all that is needed to append: how many records, the last leaf's hash, the Merkle
frontier and the few facts that later records depend on. Validity (`check_batch`) is a pure
function of that, the terms and the records, so two honest nodes never disagree on it. What needs
the log's past (that an id is new, what a correction corrects, what a matter names) is checked by
whoever holds the past, with `LogPast`; the rules of matters are in `matters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import msgspec
from msgspec import Struct

from tallystick.protocol.checkpoint import check_close, parse_checkpoint
from tallystick.protocol.errors import FormatError, InvalidRecord
from tallystick.protocol.keyring import Keyring, announced
from tallystick.protocol.matters import MatterPast, MatterRules, Matters
from tallystick.protocol.merkle import Frontier, chain_leaves
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import (
    Announced,
    Close,
    Correction,
    Delta,
    Epoch,
    Matter,
    Record,
    Role,
    Rotation,
    Terms,
    check_reason,
    check_texts,
    texts_plain,
)


class LogFacts(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What the records of a log say that later ones depend on.

    `checkpoint` is the digest of the newest Close's checkpoint (empty before the first), `epoch`
    the number of the newest Epoch, `keys` every rotation, in order, `lost_size` the largest size
    that an Epoch says was lost.
    """

    recorded_at: int = 0
    checkpoint: bytes = b""
    epoch: int = 0
    keys: tuple[Announced, ...] = ()
    lost_size: int = 0


@dataclass(frozen=True, slots=True)
class LogState:
    """A log up to a size. `last_leaf` is the channel id while the log is empty."""

    last_leaf: bytes
    frontier: Frontier
    facts: LogFacts

    @classmethod
    def empty(cls, channel_id: bytes) -> LogState:
        """The log before its first record."""
        return cls(channel_id, Frontier.empty(), LogFacts())

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


def append(state: LogState, parts: Sequence[bytes], facts: LogFacts) -> Appended:
    """The log with these records' bytes appended; the facts are from `check_batch`."""
    leaves = chain_leaves(state.last_leaf, parts)
    frontier, tiles = state.frontier.extend_with_tiles(leaves)
    after = LogState(leaves[-1] if leaves else state.last_leaf, frontier, facts)
    return Appended(after, leaves, tiles)


def fold_facts(facts: LogFacts, first: int, records: Sequence[Record]) -> LogFacts:
    """The facts after records, from index `first` on, that are known to be valid."""
    for index, record in enumerate(records, first):
        if isinstance(record, Terms):
            continue
        checkpoint, epoch, keys, lost = facts.checkpoint, facts.epoch, facts.keys, facts.lost_size
        match record:
            case Close():
                checkpoint = parse_checkpoint(parse_note(record.checkpoint).text).digest()
            case Epoch():
                epoch, lost = record.number, max(lost, record.lost_size)
            case Rotation():
                keys = (*keys, announced(index, record))
            case _:
                pass
        facts = LogFacts(record.recorded_at, checkpoint, epoch, keys, lost)
    return facts


class LogPast(MatterPast, Protocol):
    """What the validity of corrections and matters needs to know of the log before them."""

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        """The delta and its quantity as corrected so far (None: voided); None if unknown."""


class Counted(Protocol):
    """What is recorded, or is to be."""

    @property
    def meter(self) -> str:
        """The meter's name."""

    @property
    def quantity(self) -> int:
        """In the meter's scale."""


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
        self._ring = Keyring(terms)
        self._matters = MatterRules(terms, role)

    def keyring(self, facts: LogFacts) -> Keyring:
        """The keys of both parties as a log with these facts knows them."""
        if self._ring.announced != facts.keys:
            self._ring = Keyring(self.terms, facts.keys)
        return self._ring

    def allows(self, meter: str, quantity: int) -> bool:
        """Whether a delta of this meter and quantity is valid in this party's log."""
        limits = self._limits.get(meter)
        return limits is not None and limits[0] <= quantity <= limits[1]

    def allows_all(self, counted: Iterable[Counted]) -> bool:
        """Whether deltas of all these meters and quantities are."""
        limits = self._limits
        for one in counted:
            limit = limits.get(one.meter)
            if limit is None or not limit[0] <= one.quantity <= limit[1]:
                return False
        return True

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

    def check_batch(self, state: LogState, records: Sequence[Record], past: LogPast) -> LogFacts:
        """Check all but the ids' newness; return the facts after these records.

        Raises `InvalidRecord` that names the first record that does not fit, by its index.
        """
        limits = self._limits
        facts = state.facts
        last = facts.recorded_at
        index = state.size
        texts: list[str] = []
        corrected: dict[tuple[str, str], tuple[Delta, int | None]] | None = None
        matters: Matters | None = None
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
                elif not isinstance(record, Terms):
                    matters = matters or Matters(past)
                    facts = self._check_rare(facts, index, record, matters)
                    matters.note(index, record)
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
        return msgspec.structs.replace(facts, recorded_at=last)

    def _check_rare(
        self,
        facts: LogFacts,
        index: int,
        record: Close | Epoch | Rotation | Matter | Correction | Delta,
        matters: Matters,
    ) -> LogFacts:
        match record:
            case Close():
                digest = check_close(self.role, self.keyring(facts), record, facts.checkpoint)
                return msgspec.structs.replace(facts, checkpoint=digest)
            case Epoch():
                self._check_epoch(facts, index, record)
                lost = max(facts.lost_size, record.lost_size)
                return msgspec.structs.replace(facts, epoch=record.number, lost_size=lost)
            case Rotation():
                ring = self.keyring(facts).after(index, record)
                return msgspec.structs.replace(facts, keys=ring.announced)
            case Correction() | Delta():
                raise AssertionError(record)
            case _:
                ring, lost = self.keyring(facts), facts.lost_size
                self._matters.check(index, record, matters, ring, lost)
                return facts

    def _check_epoch(self, facts: LogFacts, index: int, record: Epoch) -> None:
        check_reason(record.reason)
        if record.number != facts.epoch + 1:
            _refuse(f"epoch {record.number} does not follow epoch {facts.epoch}")
        if len(record.lost_root) != (32 if record.lost_size else 0):
            _refuse("an epoch names a lost head whole or not at all")
        if record.lost_size and record.lost_size <= index:
            _refuse(f"it says that size {record.lost_size} was lost, but that is not after it")

    def _check_correction(
        self,
        record: Correction,
        past: LogPast,
        corrected: dict[tuple[str, str], tuple[Delta, int | None]],
    ) -> None:
        check_texts(record.id, what="id")
        check_reason(record.reason)
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
