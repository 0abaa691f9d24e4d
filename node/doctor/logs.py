"""One log, derived anew from its records: chain, tree, heads, validity, tiles, corrections,
matters.

The records are read as a stream, three times: for the tree, for validity, for balances. Memory
grows with the tiles and corrections and by sixteen bytes a delta, not with the records.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from tallystick.node.doctor.findings import Check, Damaged, LogFindings, told
from tallystick.node.doctor.sealed import check_segments, dropped_batches, segment_rows
from tallystick.node.doctor.tables import decoded, value_of
from tallystick.node.errors import ArchiveError
from tallystick.node.quotas import counted_bytes
from tallystick.node.store.disk import Txn
from tallystick.node.store.idindex import fingerprints
from tallystick.node.store.keyspace import (
    HeadRow,
    LogRow,
    digest_key,
    index_of,
    log_key,
    tile_key,
)
from tallystick.node.store.matters import FOLLOWING, counted_rows, rows_of
from tallystick.node.store.tiles import TILE
from tallystick.protocol.derive import Folder
from tallystick.protocol.errors import FormatError, ProofError, TallyError
from tallystick.protocol.heads import Head, verify_head_cosignature, verify_head_signature
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import origin
from tallystick.protocol.log import LogState, append, fold_facts
from tallystick.protocol.merkle import HASH_SIZE, root_of
from tallystick.protocol.records import (
    Correction,
    Delta,
    Record,
    Role,
    Terms,
    batch_count,
    decode_batch,
    join_batches,
)
from tallystick.protocol.replay import LogSummary, survey_log

_decode_head = msgspec.msgpack.Decoder(HeadRow).decode
_decode_log = msgspec.msgpack.Decoder(LogRow).decode


@dataclass(slots=True)
class _Seen:
    """What the records of a log gave, up to the first that does not fit."""

    state: LogState
    tiles: dict[bytes, bytes] = field(default_factory=dict)
    corrections: dict[bytes, bytes] = field(default_factory=dict)
    following: dict[str, dict[bytes, bytes]] = field(
        default_factory=lambda: {table: {} for table in FOLLOWING}
    )
    head: int = 0  # the newest head whose root fits
    roots: dict[int, bytes] = field(default_factory=dict)  # at the sizes that were asked for
    prints: array[int] = field(default_factory=lambda: array("Q"))
    indexes: array[int] = field(default_factory=lambda: array("Q"))
    fault: str = ""


class LogExamination:
    """The examination of one log. `party` is its author, `role` the author's in the terms."""

    def __init__(
        self,
        txn: Txn,
        channel_id: bytes,
        terms: Terms,
        number: int,
        role: Role,
        wanted: set[int],
        seed: int | None,
    ) -> None:
        self.role = role
        self.party = terms.provider if role == "provider" else terms.consumer
        self.found = LogFindings(number, channel_id, terms)
        self.summary: LogSummary | None = None
        self.checks: list[Check] = []
        self._txn, self._number, self._terms, self._id = txn, number, terms, channel_id
        self._wanted, self._seed = wanted, seed
        self._signed = self._cosigned = 0  # the newest such heads
        self._held_bytes = 0
        self._folder = Folder(terms)
        self.seen = _Seen(LogState.empty(channel_id))
        self.written_again: list[Damaged] = []  # rows of segments that can be made anew

    def batches(self) -> Iterator[bytes]:
        """The readable batches from the first record on; a `BatchSource`."""
        for first, value, _ in self._readable():
            if value is None or first >= self.found.size:
                return
            yield value

    def _batches(self) -> Iterator[tuple[int, bytes | None, int]]:
        """The batches from the first record on: first index (-1: the row's key is none), value
        (None: damaged), and how many bytes of it are in the store.
        """
        heads = (index_of(key) for key, _ in self._rows("heads") if len(key) == 12)
        return _joined(self._parts(), heads)

    def _parts(self) -> Iterator[tuple[int, bytes | None, int]]:
        """The same as they are stored."""
        kept = next((index_of(k) for k, _ in self._rows("batches") if len(k) == 12), 0)
        if kept and next(segment_rows(self._txn, self._number), None) is not None:
            self.found.kept_from = kept
            dropped = dropped_batches(self._txn, self._number, self._id, self.role, kept)
            yield from ((first, value, 0) for first, value in dropped)
        for key, stored in self._rows("batches"):
            value = value_of("batches", key, stored)
            yield index_of(key) if len(key) == 12 else -1, value, len(value or b"")

    def _rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        start, stop = log_key(self._number), log_key(self._number + 1)
        return self._txn.stored(table, start, stop)

    # Records, chain, tree and heads

    def read(self) -> None:
        """Read all records and heads: the first pass."""
        heads = self._heads()
        head = next(heads, None)
        for first, records, parts in self._good_batches():
            at = first
            while at < first + len(parts):
                while head is not None and head[0] <= at:
                    head = next(heads, None)
                stop = first + len(parts)
                stops = [s for s in self._wanted if at < s < stop]
                if head is not None and head[0] <= stop:
                    stops.append(head[0])
                until = min([stop, *stops])
                try:
                    self._append(
                        records[at - first : until - first], parts[at - first : until - first]
                    )
                except TallyError as error:
                    self._tear(f"record {at}: {error.message}")
                    return
                at = until
                if at in self._wanted:
                    self.seen.roots[at] = self.seen.state.frontier.root()
                if head is not None and head[0] == at and not self._take_head(*head):
                    return
            if self.seen.head != first + len(parts):
                self._tear(f"there is no head of size {first + len(parts)}, where a batch ends")
                return
        if head is not None and head[0] > self.found.size and not self.seen.fault:
            self._tear(f"there is a head of size {head[0]}, but {self.found.size} records")

    def _tear(self, fault: str) -> None:
        self.seen.fault = self.seen.fault or fault
        self.found.torn = True

    def _good_batches(self) -> Iterator[tuple[int, list[Record], list[bytes]]]:
        expected = 0
        for first, value, in_store in self._readable():
            if first != expected:
                self._tear(f"record {expected}: it is not there")
                return
            if value is None:
                self._tear(f"record {expected}: the batch that begins with it is damaged")
                return
            try:
                records, parts = decode_batch(value)
            except FormatError as error:
                self._tear(f"record {expected}: {error.message}")
                return
            self.found.size = expected + len(parts)
            with suppress(KeyError):  # a meter that the terms do not have: validity names it
                lines = len(self._folder.fold(records))
                self._held_bytes += counted_bytes(in_store, len(records), lines)
            yield expected, records, parts
            expected += len(parts)

    def _readable(self) -> Iterator[tuple[int, bytes | None, int]]:
        """The batches, as far as the archive has them."""
        try:
            yield from self._batches()
        except ArchiveError as error:
            self.found.unreadable = error.message
            self._tear(f"record {self.found.size}: {error.message}")

    def _heads(self) -> Iterator[tuple[int, HeadRow | None]]:
        for key, stored in self._rows("heads"):
            if len(key) == 12:
                yield index_of(key), decoded(_decode_head, value_of("heads", key, stored))

    def _append(self, records: list[Record], parts: list[bytes]) -> None:
        seen, state = self.seen, self.seen.state
        first = state.size
        appended = append(state, parts, fold_facts(state.facts, first, records))
        seen.state = appended.state
        for n, root in enumerate(appended.tiles):
            number = first // TILE + n
            leaf = appended.leaves[(number + 1) * TILE - 1 - first]
            self._add_tile(number, root + leaf)
        deltas = []
        rows = rows_of(
            self._number, zip(itertools.count(first), records, parts, strict=False), self._named
        )
        self._held_bytes += counted_rows(rows)
        for table, key, value in rows:
            seen.following[table][key] = value
        for index, record in enumerate(records, first):
            if type(record) is Delta:
                deltas.append(f"{record.meter}\0{record.id}".encode())
                seen.indexes.append(index)
            elif type(record) is Correction:
                name = f"{record.meter}\0{record.id}".encode()
                key = log_key(self._number) + hashlib.sha256(name).digest()[:16]
                value = msgspec.msgpack.encode(record.quantity)
                seen.corrections[key + index.to_bytes(8, "big")] = value
        if self._seed is not None:
            seen.prints.extend(fingerprints(deltas, self._seed))

    def _named(self, digest: bytes) -> int | None:
        value = self.seen.following["named"].get(digest_key(self._number, digest))
        return None if value is None else int.from_bytes(value, "big")

    def _add_tile(self, number: int, value: bytes) -> None:
        tiles, level = self.seen.tiles, 1
        tiles[tile_key(self._number, 1, number)] = value
        while (number + 1) % TILE == 0:
            below = [tiles[tile_key(self._number, level, number - n)] for n in range(TILE)]
            number, level = number // TILE, level + 1
            root = root_of([value[:HASH_SIZE] for value in reversed(below)])
            tiles[tile_key(self._number, level, number)] = root

    def _take_head(self, size: int, row: HeadRow | None) -> bool:
        if row is None:
            self._tear(f"record {self.seen.head}: the head of size {size} after it is damaged")
            return False
        if row.root != self.seen.state.frontier.root():
            self._tear(
                f"record {self.seen.head}: from it on, the records do not give the root of the"
                f" head of size {size}"
            )
            return False
        self.seen.head = size
        return True

    # What is checked

    def judge(self, rings: tuple[Keyring, Keyring], depend: str) -> None:
        """All checks of the log but balances and index. `rings` are ours and the peer's."""
        seen, found = self.seen, self.found
        fault = f"{seen.fault}; {depend}" if seen.fault else ""
        self._say("records", [fault] if fault else [], f"{found.size} records, chain and tree")
        self._signatures(rings)
        self.summary = self._validity()
        self._segments()
        names = ("state", "tiles", "corrections", "matters")
        if found.torn:
            self.checks += [Check(self.name(name), None, "cannot be judged") for name in names]
            return
        for name, faults in (
            ("state", self._state_faults()),
            ("tiles", self._differences("tiles", seen.tiles)),
            ("corrections", self._differences("corrections", seen.corrections)),
            ("matters", self._following_faults()),
        ):
            found.remake |= bool(faults)
            self._say(name, faults, "as the records give them")

    def _segments(self) -> None:
        """The segments, if there are any."""
        faults, again, count = check_segments(
            self._txn, self.found, self._terms, self.role, self.seen.tiles
        )
        self.written_again = again
        if count:
            self._say("segments", faults, f"{count} in the archive, as the records give them")

    def _following_faults(self) -> list[str]:
        # A store of an older version notes no closes; whoever opens it does (`find_closes`).
        noted = next(iter(self._rows("closes")), None) is not None
        return [
            fault
            for table, rows in self.seen.following.items()
            if noted or table != "closes"
            for fault in self._differences(table, rows)
        ]

    def name(self, what: str) -> str:
        """A check's name: the channel, the log's author, what is checked."""
        return f"{self._id.hex()[:8]} {self.party.name}: {what}"

    def _say(self, name: str, faults: list[str], fine: str) -> None:
        detail = told(faults) if faults else fine
        self.checks.append(Check(self.name(name), not faults, detail))

    def _signatures(self, rings: tuple[Keyring, Keyring]) -> None:
        other: Role = "consumer" if self.role == "provider" else "provider"
        name = origin(self.party.name, self._id)
        peer = self._terms.consumer if self.role == "provider" else self._terms.provider
        authors = {key.key for ring in rings for key in ring.keys(self.role, "log")}
        cosigners = {key.key for ring in rings for key in ring.keys(other, "cosigner")}
        faults: list[str] = []
        count = 0
        for size, row in self._heads():
            if size > self.seen.head or row is None:
                break
            count += 1
            head = Head(name, size, row.root)
            if row.signature and not _signed(head, authors, row.signature):
                faults.append(f"head of size {size}: its author's signature does not hold")
            elif row.cosignature and not _cosigned(head, peer.name, cosigners, row.cosignature):
                faults.append(f"head of size {size}: its co-signature does not hold")
            # The terms alone need no signature: signing them again gives the same bytes.
            if (row.signature or size == 1) and not faults:
                self.found.sound = size
            self._signed = size if row.signature else self._signed
            self._cosigned = size if row.cosignature else self._cosigned
        self.found.torn |= bool(faults)
        self._say("signatures", faults, f"on {count} heads")

    def _validity(self) -> LogSummary | None:
        terms, size = self._terms, self.found.size
        summary = survey_log(terms, self.role, self._id, self.batches, size)
        fault = summary.fault
        self._say("validity", [fault.message] if fault else [], "every record is valid")
        return None if fault else summary

    def row(self) -> LogRow:
        """The log's row as its records and heads give it; `judge` must have been called."""
        state, frontier = self.seen.state, self.seen.state.frontier.to_bytes()
        return LogRow(
            state.size, state.last_leaf, frontier, state.facts, self._signed, self._cosigned,
            self._held_bytes,
        )  # fmt: skip

    def _state_faults(self) -> list[str]:
        value = self._value("logs", log_key(self._number))
        if value is None and not self.seen.state.size:
            return []
        row = decoded(_decode_log, value)
        if row is None:
            self.found.torn = True  # nobody knows how long the log was
            return ["the log's row is missing or damaged"]
        expected = self.row()
        if row.size > expected.size or row.signed_size > expected.signed_size:
            self.found.torn = True
        return [
            f"its {what} is not what the records give"
            for what in LogRow.__struct_fields__
            # Our own log has no quota, and what was cut from it is still counted.
            if not (what == "held_bytes" and self._number % 2 == 0)
            and getattr(row, what) != getattr(expected, what)
        ]

    def _value(self, table: str, key: bytes) -> bytes | None:
        return value_of(table, key, self._txn.raw(table, key))

    def _differences(self, table: str, expected: dict[bytes, bytes]) -> list[str]:
        faults = []
        count = 0
        for key, stored in self._rows(table):
            count += 1
            if key not in expected:
                faults.append(f"row {key.hex()} follows from no record")
            elif value_of(table, key, stored) != expected[key]:
                faults.append(f"row {key.hex()} is not what the records give")
        if not faults and count != len(expected):
            faults.append(f"{len(expected) - count} rows are missing")
        return faults


def _joined(
    stored: Iterator[tuple[int, bytes | None, int]], heads: Iterator[int]
) -> Iterator[tuple[int, bytes | None, int]]:
    """Batches from what is stored of them: what was cut at a tile's end, where no head is, is one.
    What is damaged (None) stands for itself.
    """
    head = next(heads, None)
    begin = end = size = 0
    parts: list[bytes] = []
    for first, value, in_store in stored:
        while head is not None and head < end:
            head = next(heads, None)
        cut_here = first == end and end % TILE == 0 and head != end
        if parts and (value is None or not cut_here):
            yield begin, join_batches(end - begin, parts), size
            parts, size = [], 0
        if value is None:
            yield first, None, 0
            continue
        if not parts:
            begin = first
        parts.append(value)
        size += in_store
        end = first + batch_count(value)
    if parts:
        yield begin, join_batches(end - begin, parts), size


def _signed(head: Head, keys: set[bytes], signature: bytes) -> bool:
    for key in keys:
        with suppress(ProofError, FormatError):
            verify_head_signature(head, key, signature)
            return True
    return False


def _cosigned(head: Head, name: str, keys: set[bytes], cosignature: bytes) -> bool:
    for key in keys:
        with suppress(ProofError, FormatError):
            verify_head_cosignature(head, name, key, cosignature)
            return True
    return False
