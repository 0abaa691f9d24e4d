"""A log in its node: the durable records, and all that follows from them kept up to date.

`ChannelLog` prepares a batch on the trio thread (validity, ids, chain, tree, balances), hands one
job to the store, and shows the batch to readers once it is durable. `state` runs ahead of the disk
by what is queued there; `durable_size` does not. If the disk fails, everything prepared is dropped
and memory is loaded again, so a log never continues from records that were not written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio

from tallystick.node.batches import Batch, Prepared, cut_at_tiles
from tallystick.node.errors import StoreError
from tallystick.node.lookups import Lookups
from tallystick.node.quotas import counted_bytes
from tallystick.node.rebuilding import find_closes, index_anew, rebuild
from tallystick.node.store.disk import Job, Store, Ticket, Txn
from tallystick.node.store.idindex import IdIndex, fingerprints
from tallystick.node.store.keyspace import (
    COVERED_NOTHING,
    DerivedRow,
    HeadRow,
    LogRow,
    delta_key,
    encode_row,
    index_key,
    line_key,
    line_of,
    log_key,
    record_name,
    unpack_tally,
)
from tallystick.node.store.matters import LogMatters, Placed, Row, counted_rows
from tallystick.node.store.source import batches, heads_from, kept_from, sealed_below, stored_parts
from tallystick.node.store.tiles import put_tile, tile_rows
from tallystick.node.telemetry.counts import Growth
from tallystick.node.tree import LogTree
from tallystick.protocol.derive import Book, Folder, LineKey, Tally
from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.heads import Head
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import origin
from tallystick.protocol.log import LogFacts, LogState, Rules, append
from tallystick.protocol.merkle import Frontier
from tallystick.protocol.records import (
    Correction,
    Delta,
    Record,
    Role,
    batch_bytes,
    batch_count,
    decode_batch,
    decode_record,
    join_batches,
    split_batch,
)

READ_BYTES_MAX = 1024 * 1024  # one batch read for catching up
READ_RECORDS_MAX = 8192  # and its records, before the last of our batches in it
RECENT_BYTES_MAX = 4 * 1024 * 1024  # durable batches kept in memory for the peer

# A new head and its log's facts to the signature and co-signature on it; either may be empty.
Sign = Callable[[Head, LogFacts], tuple[bytes, bytes]]

_log = logging.getLogger("tallystick.logs")
_decode_log = msgspec.msgpack.Decoder(LogRow).decode
_decode_head = msgspec.msgpack.Decoder(HeadRow).decode
_decode_derived = msgspec.msgpack.Decoder(DerivedRow).decode


def _nothing(mattered: bool) -> None:
    pass


class ChannelLog(LogMatters):
    """One log of a channel, ours or the peer's. Thousands are in memory, most of them idle."""

    __slots__ = (
        "_flushing", "_in_flight", "_recent", "_recent_bytes", "_recent_bytes_max",
        "_rules", "_seed", "book", "channel_id", "cosigned_ahead", "cosigned_size", "covered",
        "dropped", "durable_size", "flush_soon", "folder", "grew", "growth", "held_bytes", "index",
        "index_folder", "lookups", "mattered", "party", "role", "sealed", "signed_size", "state",
        "terms",
    )  # fmt: skip

    def __init__(
        self,
        store: Store,
        index_folder: Path,
        seed: int,
        number: int,
        folder: Folder,
        role: Role,
        ours: bool,
    ) -> None:
        super().__init__(store, number)
        self.folder = folder
        self.terms = terms = folder.terms
        self.role = role
        self.party = terms.provider if role == "provider" else terms.consumer
        self._rules: Rules | None = None
        self.index_folder = index_folder
        self._seed = seed
        self._recent_bytes_max = RECENT_BYTES_MAX if ours else 0
        self._flushing: trio.Lock | None = None
        self.grew: Callable[[bool], None] = _nothing  # durably; whether by a close or a matter
        self.mattered = 0  # how often a close or a matter became durable
        self.flush_soon = False
        self.index: IdIndex = IdIndex(index_folder, number, [])
        self.lookups = Lookups(store, number)
        self._in_flight: list[Prepared] = []
        self._recent: dict[int, Batch] = {}  # by their first index, the oldest first
        self._recent_bytes = 0
        self.growth = Growth(cosigned_by_peer=ours)

    def load(self, channel_id: bytes) -> None:
        """Bring memory to what is on disk."""
        self.channel_id = channel_id
        with self.store.read() as txn:
            row, derived = self._log_row(txn), self._derived_row(txn)
        find_closes(self, row.facts.checkpoint)
        if derived.covered == COVERED_NOTHING:
            if self.store.read_only:
                raise StoreError(
                    f"the balances of {self.party.name}'s log are to be made anew",
                    "Start the node, or wait until it has done so",
                )
            rebuild(self, row.size)
        with self.store.read() as txn:
            row = self._log_row(txn)
            derived = self._derived_row(txn)
            frontier = Frontier.from_bytes(row.size, row.frontier)
            self.state = LogState(row.last_leaf, frontier, row.facts)
            self.durable_size = row.size
            self.held_bytes = row.held_bytes
            self.sealed = sealed_below(txn, self.number)
            self.dropped = kept_from(txn, self.number) if self.sealed else 0
            self.signed_size = row.signed_size
            self.cosigned_size = self.cosigned_ahead = row.cosigned_size
            self.covered = derived.covered
            self.index.close()
            self.index = self._open_index(derived)
            self.book = Book(self.folder, self._load_tally)
            self._in_flight.clear()
            self.growth.forget()
            self.clear_matters()
            self._recent.clear()
            self._recent_bytes = 0
            self.lookups.clear()
            for first, records in self._stored(txn, derived.covered):
                self._fold(first, records, txn)

    def _open_index(self, derived: DerivedRow) -> IdIndex:
        """The id index; made anew from the records if a file of it is missing or cut."""
        try:
            pin = self.store.read_only
            return IdIndex(self.index_folder, self.number, derived.runs, pin=pin)
        except StoreError as error:
            if self.store.read_only:
                raise
            said = {"party": self.party.name, "reason": error.message}
            _log.warning("making the index of a log anew", extra=said)
        return index_anew(self, derived.covered)

    def _log_row(self, txn: Txn) -> LogRow:
        value = txn.get("logs", log_key(self.number))
        if value is None:
            return LogRow(0, self.channel_id, b"", LogFacts(), 0, 0)
        return _decode_log(value)

    def _derived_row(self, txn: Txn) -> DerivedRow:
        value = txn.get("derived", log_key(self.number))
        return _decode_derived(value) if value else DerivedRow(0, [])

    def _fold(self, first: int, records: Sequence[Record], txn: Txn) -> None:
        """Add stored records to the index and the balances."""
        deltas = [(first + n, r) for n, r in enumerate(records) if type(r) is Delta]
        names = [record_name(delta.meter, delta.id) for _, delta in deltas]
        self.index.add(fingerprints(names, self._seed), [index for index, _ in deltas])
        self.book.apply(self.folder.fold(records))
        self._correct(first, records, txn)

    def _load_tally(self, key: LineKey) -> Tally | None:
        with self.store.read() as txn:
            value = txn.get("lines", line_key(self.number, key))
        return unpack_tally(value) if value else None

    # Reading

    def _stored(self, txn: Txn, start: int) -> Iterator[tuple[int, list[Record]]]:
        """Durable records from index `start`, batch by batch."""
        for first, value in batches(txn, self.number, start):
            records, _ = decode_batch(value)
            skip = max(start - first, 0)
            if skip < len(records):
                yield first + skip, records[skip:]

    def records(self, start: int, stop: int) -> Iterator[tuple[int, list[Record]]]:
        """Durable records of the indexes from `start` up to `stop`, batch by batch."""
        while start < stop:
            with self.store.read() as txn:
                found = next(self._stored(txn, start), None)
            if found is None:
                return
            first, records = found
            yield first, records[: stop - first]
            start = first + len(records)

    def record(self, index: int) -> Record:
        """The record at an index below `state.size`."""
        for prepared in self._in_flight:
            if prepared.first <= index < prepared.first + len(prepared.records):
                return prepared.records[index - prepared.first]
        if index < self.dropped:
            with self.store.read() as txn:
                return decode_record(next(stored_parts(txn, self.number, index, index + 1)))
        return self.lookups.record(index)

    def find(self, meter: str, id: str) -> tuple[int, Delta] | None:
        """The delta with this meter and id, and its index."""
        value = fingerprints([record_name(meter, id)], self._seed)
        for index in self.index.find(value).get(value[0], ()):
            record = self.record(index)
            if isinstance(record, Delta) and (record.meter, record.id) == (meter, id):
                return index, record
        return None

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        """The delta and its quantity as corrected so far; None if there is no such delta."""
        found = self.find(meter, id)
        if found is None:
            return None
        for prepared in reversed(self._in_flight):
            for record in reversed(prepared.records):
                if isinstance(record, Correction) and (record.meter, record.id) == (meter, id):
                    return found[1], record.quantity
        with self.store.read() as txn:
            return found[1], self._corrected(txn, found[1], 2**63)

    def _corrected(self, txn: Txn, delta: Delta, before: int) -> int | None:
        """A delta's quantity by the corrections before an index of the log."""
        prefix = delta_key(self.number, delta.meter, delta.id)
        found = txn.floor("corrections", prefix + (before - 1).to_bytes(8, "big"))
        if found is None or not found[0].startswith(prefix):
            return delta.quantity
        quantity: int | None = msgspec.msgpack.decode(found[1], type=int | None)
        return quantity

    def root_at(self, size: int) -> bytes:
        """The root of the log's first `size` durable records."""
        with self.store.read() as txn:
            return LogTree(txn, self.number, self.channel_id, size).root()

    def rest(self) -> None:
        """Keep nothing at hand that can be read again."""
        if self.settled:
            self._recent.clear()
            self._recent_bytes = 0
            self.lookups.clear()
            self.index.rest()

    @property
    def settled(self) -> bool:
        """Whether nothing of the log is on its way to the disk."""
        return not self._in_flight

    async def settle(self) -> None:
        """Return when nothing of the log is on its way to the disk."""
        while not self.settled:
            await self.store.commit(lambda txn: None)

    def batch_from(self, start: int, limit: int) -> Batch:
        """Records from index `start` for the peer: whole batches, up to about a mebibyte.

        The signature is empty where the head at its end is not signed yet.
        """
        recent = self._recent.get(start)
        if recent is not None and recent.size <= limit:
            return recent
        pieces: list[bytes] = []
        size, at, stop = 0, start, start
        with self.store.read() as txn:
            stored = batches(txn, self.number, start)
            for after in heads_from(txn, self.number, start + 1, limit):
                if pieces and (size > READ_BYTES_MAX or stop - start >= READ_RECORDS_MAX):
                    break
                while at < after:
                    first, value = next(stored)
                    below = first + batch_count(value)
                    if first < start:  # the peer stands inside a batch of ours
                        value = batch_bytes(split_batch(value, start - first, below - first))
                    pieces.append(value)
                    size, at = size + len(value), below
                stop = after
            head = self.head_row(txn, stop)
        assert head is not None
        data = join_batches(stop - start, pieces)
        return Batch(start, data, head.root, head.signature)

    def head_row(self, txn: Txn, size: int) -> HeadRow | None:
        """What is stored of the head of that size."""
        value = txn.get("heads", index_key(self.number, size))
        return _decode_head(value) if value else None

    @property
    def rules(self) -> Rules:
        """The terms as this log must follow them."""
        if self._rules is None:
            self._rules = Rules(self.terms, self.role)
        return self._rules

    @property
    def flushing(self) -> trio.Lock:
        """Held from a flush's preparation until it is durable."""
        if self._flushing is None:
            self._flushing = trio.Lock()
        return self._flushing

    @property
    def keyring(self) -> Keyring:
        """The keys of both parties as this log knows them now."""
        return self.rules.keyring(self.state.facts)

    def keyring_at(self, size: int) -> Keyring:
        """The keys as the log's first `size` records give them."""
        return self.keyring.at(size)

    def head(self, size: int, root: bytes) -> Head:
        """A head of this log."""
        return Head(origin(self.party.name, self.channel_id), size, root)

    def tallies(self) -> dict[LineKey, Tally]:
        """Every line's tally at `durable_size`."""
        found = {}
        with self.store.read() as txn:
            scan = txn.scan("lines", log_key(self.number), log_key(self.number + 1))
            for key, value in scan:
                found[line_of(key)] = unpack_tally(value)
        found.update(self.book.dirty)
        return found

    def tallies_of(self, lines: Iterable[LineKey]) -> dict[LineKey, Tally]:
        """The tallies of these lines at `durable_size`, of those that have one."""
        found = {line: self.book.dirty.get(line) or self._load_tally(line) for line in lines}
        return {line: tally for line, tally in found.items() if tally is not None}

    def tallies_at(self, size: int) -> dict[LineKey, Tally]:
        """Every line's tally at an earlier size: what came after is taken back."""
        tallies = {
            key: Tally(t.total, t.deltas, t.billed, t.billed_deltas)
            for key, t in self.tallies().items()
        }
        again: set[LineKey] = set()
        # Not all that is on the disk: a commit may be over and not yet counted above.
        with self.store.read() as txn:
            for first, records in self.records(size, self.durable_size):
                for key, change in self.folder.fold(records).items():
                    tally = tallies[key]
                    tally.deltas -= change.deltas
                    if self.folder.aggregates[key.meter] != "max":
                        tally.total -= change.quantity
                    else:
                        again.add(key)
                for index, record in enumerate(records, first):
                    if isinstance(record, Correction):
                        again.add(self._correct_back(txn, tallies, index, record))
        for key, highest in self._highest(again, size).items():
            tallies[key].total, tallies[key].deltas = highest
        return {key: tally for key, tally in tallies.items() if tally != Tally()}

    def _correct_back(
        self, txn: Txn, tallies: dict[LineKey, Tally], index: int, record: Correction
    ) -> LineKey:
        found = self.find(record.meter, record.id)
        assert found is not None
        key = self.folder.key_of(found[1])
        old = self._corrected(txn, found[1], index)
        assert old is not None
        tally = tallies[key]
        match self.folder.aggregates[key.meter]:
            case "sum":
                tally.total -= (record.quantity or 0) - old
                tally.deltas += record.quantity is None
            case "count":
                tally.total += record.quantity is None
                tally.deltas += record.quantity is None
            case _:
                pass
        return key

    def _highest(self, keys: Iterable[LineKey], size: int) -> dict[LineKey, tuple[int, int]]:
        """The highest quantity and the count at a size of those of the lines that are `max`, from
        the records themselves: one pass for all, for it reads the whole log.
        """
        meters = self.folder.aggregates
        found = {key: (0, 0) for key in keys if meters[key.meter] == "max"}
        if not found:
            return found
        with self.store.read() as txn:
            for first, records in self._stored(txn, 0):
                for record in records[: max(size - first, 0)]:
                    if isinstance(record, Delta) and meters[record.meter] == "max":
                        key = self.folder.key_of(record)
                        quantity = self._corrected(txn, record, size) if key in found else None
                        if quantity is not None:
                            highest, deltas = found[key]
                            found[key] = max(highest, quantity) if deltas else quantity, deltas + 1
        return found

    # Appending

    def fingerprints(self, deltas: Sequence[tuple[str, str]]) -> list[int]:
        """The fingerprints of (meter, id) pairs."""
        return fingerprints([record_name(*pair) for pair in deltas], self._seed)

    def known(self, prints: Sequence[int]) -> dict[int, list[int]]:
        """Candidates among what the log holds, by fingerprint."""
        return self.index.find(prints)

    def submit(
        self,
        records: Sequence[Record],
        parts: Sequence[bytes],
        prints: Sequence[int],
        sign: Sign,
        then: Callable[[Batch], None],
    ) -> Ticket:
        """Append valid records whose ids are new: prepare all, and queue one job for the disk.

        `prints` are those of the deltas among them; `sign` gives the head's signature and
        co-signature (either may be empty); `then` runs once the batch is durable.
        """
        facts = self.rules.check_batch(self.state, records, self)
        if self.dropped:  # what `_correct` will need must be readable before anything is done
            found = [self.find(r.meter, r.id) for r in records if isinstance(r, Correction)]
            self._highest({self.folder.key_of(one[1]) for one in found if one}, self.durable_size)
        return self.submit_checked(records, parts, prints, facts, sign, then)

    def submit_checked(
        self,
        records: Sequence[Record],
        parts: Sequence[bytes],
        prints: Sequence[int],
        facts: LogFacts,
        sign: Sign,
        then: Callable[[Batch], None],
        beside: Sequence[Row] = (),
    ) -> Ticket:
        """The same for records that `Rules.check_batch` has passed already, with rows `beside`."""
        first = self.state.size
        appended = append(self.state, parts, facts)
        root = appended.state.frontier.root()
        signature, cosignature = sign(self.head(appended.state.size, root), facts)
        head = HeadRow(root, signature, cosignature)
        indexes: Sequence[int] = range(first, first + len(records))
        others: list[Placed] = []  # than deltas: mostly there are none
        if len(prints) != len(records):
            placed = list(zip(indexes, records, parts, strict=True))
            indexes = [n for n, record, _ in placed if type(record) is Delta]
            others = [one for one in placed if type(one[1]) is not Delta]
        self.index.add(prints, indexes)
        data = batch_bytes(parts)
        cut = cut_at_tiles(first, parts, data)
        matters = self.prepare_matters(others)
        corrections = [(n, record) for n, record, _ in others if isinstance(record, Correction)]
        changes = self.folder.fold(records)
        prepared = Prepared(first, records, data, head, changes, bool(corrections))
        self._in_flight.append(prepared)
        self.state = appended.state
        stored = sum(len(piece) for _, piece in cut)
        self.held_bytes += counted_bytes(stored, len(records), len(prepared.changes))
        self.held_bytes += counted_rows(matters)
        size = appended.state.size
        if signature:
            self.signed_size = size
        if cosignature:
            self.cosigned_ahead = size
        row = encode_row(self.row())
        tiles = tile_rows(first, appended.leaves, appended.tiles)

        def job(txn: Txn) -> None:
            for at, piece in cut:
                txn.put("batches", index_key(self.number, at), piece)
            txn.put("heads", index_key(self.number, size), encode_row(head))
            txn.put("logs", log_key(self.number), row)
            for number, value in tiles:
                put_tile(txn, self.number, number, value)
            for index, record in corrections:
                prefix = delta_key(self.number, record.meter, record.id)
                value = msgspec.msgpack.encode(record.quantity)
                txn.put("corrections", prefix + index.to_bytes(8, "big"), value)
            for table, key, value in (*matters, *beside):
                txn.put(table, key, value)

        def done() -> None:
            if cosignature:
                self.cosigned_size = max(self.cosigned_size, size)
            self._show(prepared)
            then(Batch(first, data, root, signature))

        return self.store.submit(job, done)

    def row(self) -> LogRow:
        """The log's state as the next job leaves it on the disk."""
        return LogRow(
            self.state.size,
            self.state.last_leaf,
            self.state.frontier.to_bytes(),
            self.state.facts,
            self.signed_size,
            self.cosigned_ahead,
            self.held_bytes,
        )

    def _show(self, prepared: Prepared) -> None:
        """The oldest batch in flight is durable: count it, and tell who waits."""
        taken = self._in_flight.pop(0)
        assert taken is prepared
        matters = self.matters_written()
        self.durable_size = prepared.first + len(prepared.records)
        self.growth.durable(self.durable_size, len(prepared.records))
        self.book.apply(prepared.changes)
        if prepared.corrects:
            self.flush_soon |= bool(self.dropped)  # or a start would need the archive to fold it
            with self.store.read() as txn:
                self._correct(prepared.first, prepared.records, txn)
        self._keep(
            Batch(prepared.first, prepared.data, prepared.head.root, prepared.head.signature)
        )
        self.mattered += matters
        self.grew(matters)

    def _correct(self, first: int, records: Sequence[Record], txn: Txn) -> None:
        changed: list[tuple[LineKey, int, int | None]] = []
        for index, record in enumerate(records, first):
            if isinstance(record, Correction):
                found = self.find(record.meter, record.id)
                if found is None:
                    raise InvalidRecord(f"record {index} corrects an unknown delta")
                old = self._corrected(txn, found[1], index)
                assert old is not None
                changed.append((self.folder.key_of(found[1]), old, record.quantity))
        anew: dict[LineKey, tuple[int, int]] = {}
        final: set[LineKey] = set()

        def highest(key: LineKey) -> tuple[int, int]:
            if not anew:  # one pass for all, and it counts what else is in `changed`
                anew.update(self._highest({one for one, _, _ in changed}, first + len(records)))
            final.add(key)
            return anew[key]

        for key, old, new in changed:
            if key not in final:
                self.book.correct(key, old, new, partial(highest, key))

    def _keep(self, batch: Batch) -> None:
        """Keep a few batches at hand: they are about to be sent."""
        self._recent[batch.first] = batch
        self._recent_bytes += len(batch.data)
        while self._recent_bytes > self._recent_bytes_max:
            oldest = self._recent.pop(next(iter(self._recent)))
            self._recent_bytes -= len(oldest.data)

    def store_signature(self, size: int, root: bytes, signature: bytes) -> Ticket:
        """Make our signature on an earlier head durable, before it is sent."""
        self.signed_size = max(self.signed_size, size)
        return self.store.submit(self._head_job(size, HeadRow(root, signature, b"")))

    def store_cosignature(self, size: int, cosignature: bytes) -> Ticket:
        """Keep the peer's co-signature of a head that we signed."""
        with self.store.read() as txn:
            row = self.head_row(txn, size)
        assert row is not None
        self.cosigned_ahead = max(self.cosigned_ahead, size)

        def done() -> None:
            self.cosigned_size = max(self.cosigned_size, size)

        head = HeadRow(row.root, row.signature, cosignature)
        return self.store.submit_along(self._head_job(size, head), done)

    def _head_job(self, size: int, head: HeadRow) -> Job:
        row = encode_row(self.row())

        def job(txn: Txn) -> None:
            txn.put("heads", index_key(self.number, size), encode_row(head))
            txn.put("logs", log_key(self.number), row)

        return job
