"""What later records of a log, and people, look up of its matters and closes.

Four tables follow from the records: `matters` and `closes` hold the records themselves, `named`
says where the first declaration or dispute with a digest is, `ended` what opened a declaration or
let a record lapse. What is on its way to the disk is looked up in memory first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import digest_key, index_key, index_of, log_key
from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.matters import Nameable, Said
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import (
    Answer,
    Close,
    Declaration,
    Dispute,
    Lapse,
    Matter,
    Record,
    Reveal,
    decode_record,
)

FOLLOWING = ("matters", "closes", "named", "ended")
CLOSE_PREFIX = b"\x93\x04"  # how every canonical close begins: array of 3, kind 4

CHECKPOINT_MARK = b"tallystick checkpoint"  # stands in every batch that has a Close record

ROW_BYTES = 128  # what a small row takes of the store at most, beside its value
# Honest parties say little, and whoever derives goes through all of it: so a matter counts against
# a quota as what it costs there, not as what it takes of the disk.
MATTER_BYTES = 64 * 1024

Row = tuple[str, bytes, bytes]  # table, key, value
Placed = tuple[int, Record, bytes]  # a record: its index, itself, its bytes


def rows_of(
    log: int,
    placed: Iterable[Placed],
    find: Callable[[bytes], int | None],
) -> list[Row]:
    """The rows that follow from valid records; deltas, of which nothing follows, may be left out.

    `find` says where a digest is named in the records before them.
    """
    rows: list[Row] = []
    named: dict[bytes, int] = {}
    for index, record, part in placed:
        match record:
            case Close():
                rows.append(("closes", index_key(log, index), part))
                continue
            case Declaration() | Dispute():
                digest = hashlib.sha256(part).digest()
                if digest not in named and find(digest) is None:
                    named[digest] = index
                    rows.append(("named", digest_key(log, digest), _value(index)))
            case Reveal():
                opened = find(record.declaration)
                opened = named.get(record.declaration) if opened is None else opened
                if opened is not None:
                    rows.append(("ended", index_key(log, opened), _value(index)))
            case Lapse():
                rows.append(("ended", index_key(log, record.index), _value(index)))
            case _:
                pass
        if isinstance(record, Matter):
            rows.append(("matters", index_key(log, index), part))
    return rows


def counted_rows(rows: Iterable[Row]) -> int:
    """What these rows count against a quota, beside the batch that they follow from. Closes do not:
    `closed_bytes` has them.
    """
    counts = {"matters": MATTER_BYTES, "closes": 0}
    return sum(counts.get(table, len(value) + ROW_BYTES) for table, _, value in rows)


def rows_from(txn: Txn, log: int, size: int) -> list[tuple[str, bytes]]:
    """The tables and keys of the rows that follow from records from index `size` on."""
    start, stop = log_key(log), log_key(log + 1)
    found = []
    for table in FOLLOWING:
        for key, value in txn.scan(table, start, stop):
            index = index_of(key) if table in ("matters", "closes") else _index(value)
            if index >= size:
                found.append((table, key))
    return found


def _value(index: int) -> bytes:
    return index.to_bytes(8, "big")


def _index(value: bytes) -> int:
    return int.from_bytes(value, "big")


@dataclass(slots=True)
class _Ahead:
    """What a batch on its way to the disk adds."""

    rows: list[Row]
    found: dict[tuple[str, bytes], bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.found = {(table, key): value for table, key, value in self.rows}


class LogMatters:
    """The look-ups of one log; a `MatterPast`."""

    __slots__ = ("_ahead", "_unwritten", "number", "store")

    def __init__(self, store: Store, log: int) -> None:
        self.store = store
        self.number = log
        self._ahead: list[_Ahead] = []
        self._unwritten: dict[bytes, bytes] = {}  # closes of an old store, opened for reading only

    def clear_matters(self) -> None:
        """Forget what was on its way to the disk."""
        self._ahead.clear()

    def prepare_matters(self, placed: Iterable[Placed]) -> list[Row]:
        """The rows to be written with a batch, which are found from now on; see `rows_of`."""
        ahead = _Ahead(rows_of(self.number, placed, self.index_of))
        self._ahead.append(ahead)
        return ahead.rows

    def matters_written(self) -> bool:
        """The oldest batch that was prepared is on the disk; whether it had any such record."""
        return bool(self._ahead.pop(0).rows)

    def adopt_closes(self, parts: Iterable[tuple[int, bytes]]) -> None:
        """Write the closes that an older version of this program did not note."""
        rows = {index_key(self.number, index): part for index, part in parts}
        if self.store.read_only:
            self._unwritten = rows
            return

        def job(txn: Txn) -> None:
            for key, value in rows.items():
                txn.put("closes", key, value)

        self.store.commit_now(job)

    def _get(self, table: str, key: bytes) -> bytes | None:
        for ahead in self._ahead:
            value = ahead.found.get((table, key))
            if value is not None:
                return value
        with self.store.read() as txn:
            return txn.get(table, key)

    def matter(self, index: int) -> Nameable | None:
        """The close, declaration, dispute or answer at an index; None if another record is."""
        key = index_key(self.number, index)
        value = self._get("matters", key) or self._get("closes", key) or self._unwritten.get(key)
        record = None if value is None else decode_record(value)
        return record if isinstance(record, Close | Declaration | Dispute | Answer) else None

    def index_of(self, digest: bytes) -> int | None:
        """Where the first declaration or dispute with this digest is; None if there is none."""
        value = self._get("named", digest_key(self.number, digest))
        return None if value is None else _index(value)

    def ended(self, index: int) -> bool:
        """Whether a reveal opened the declaration at an index, or the record there lapsed."""
        return self.ended_by(index) is not None

    def ended_by(self, index: int) -> int | None:
        """Where the reveal or the lapse is that ended the record at an index."""
        value = self._get("ended", index_key(self.number, index))
        return None if value is None else _index(value)

    def matters(self, size: int, first: int = 0) -> list[Said]:
        """The durable closes and matters from index `first` on among the log's first `size`
        records, by index.
        """
        start, stop = index_key(self.number, first), index_key(self.number, size)
        with self.store.read() as txn:
            rows = [*txn.scan("matters", start, stop), *txn.scan("closes", start, stop)]
        rows += [row for row in self._unwritten.items() if start <= row[0] < stop]
        found: list[Said] = []
        for key, value in sorted(rows):
            record = decode_record(value)
            assert isinstance(record, Close | Matter)
            found.append((index_of(key), record))
        return found

    def closes(self) -> list[tuple[int, Close]]:
        """The durable closes, by index."""
        with self.store.read() as txn:
            rows = dict(txn.scan("closes", log_key(self.number), log_key(self.number + 1)))
        return [
            (index_of(key), _close(row)) for key, row in sorted((rows | self._unwritten).items())
        ]

    def newest_close(self) -> Close | None:
        """The newest of them."""
        with self.store.read() as txn:
            found = txn.floor("closes", index_key(self.number, 2**64 - 1))
        if found is None or not found[0].startswith(log_key(self.number)):
            return None
        return _close(found[1])


def _close(data: bytes) -> Close:
    record = decode_record(data)
    assert isinstance(record, Close)
    return record


def close_digest(record: Close) -> bytes:
    """The digest of a close's checkpoint."""
    return parse_checkpoint(parse_note(record.checkpoint).text).digest()
