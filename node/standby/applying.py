"""A standby's store brought to what its primary's is: commit by commit, or all at once.

A commit is applied whole, with the number up to which everything is there, in one transaction with
those that came with it. The whole store is compared row by row with what is here, so that only
what differs is written; until that is durable, what was here before stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from tallystick.node.errors import StoreError
from tallystick.node.standby.marks import (
    MIRRORED,
    is_mirrored,
    pack_mirrored,
    unpack_mirrored,
)
from tallystick.node.standby.opening import decode_derived, size_of
from tallystick.node.store.disk import Store, Txn, unseal
from tallystick.node.store.keyspace import TABLES
from tallystick.node.store.recorder import Row
from tallystick.protocol.errors import FormatError

TOGETHER_BYTES = 8 * 1024 * 1024  # in one transaction, where it may be several
# What says that a home has peers and channels: without it, nothing is read of the rest.
_LAST = frozenset({"meta", "peers", "channels"})

Commits = Sequence[tuple[int, Sequence[Row]]]


class Mirrored:
    """The store and the index files of a standby."""

    def __init__(self, store: Store, index_folder: Path) -> None:
        self.store = store
        self.folder = index_folder
        index_folder.mkdir(mode=0o700, exist_ok=True)
        with store.read() as txn:
            self.line, self.number = unpack_mirrored(txn.get("meta", MIRRORED))

    def forget(self) -> None:
        """Take whatever is here for nothing, so that the whole is sent next."""
        self.line, self.number = b"", 0

    def apply(self, commits: Commits) -> None:
        """Apply commits that follow each other and what is here, durably; `FormatError` if they do
        not.
        """
        last = self.number
        for number, _ in commits:
            if number != last + 1:
                raise FormatError(f"commit {number} came after commit {last}")
            last = number
        self._apply(commits, last)

    def _apply(self, commits: Iterable[tuple[int, Iterable[Row]]], last: int) -> None:
        named: set[str] = set()  # by rows that are replaced
        touched: set[bytes] = set()

        def job(txn: Txn) -> None:
            for _, rows in commits:
                for row in rows:
                    table, key, _ = _checked(row)
                    if table == "derived":
                        touched.add(key)
                        named.update(_files(txn.get(table, key)))
                    _put(txn, row)
            for key in touched:
                named.difference_update(_files(txn.get("derived", key)))
            txn.put("meta", MIRRORED, pack_mirrored(self.line, last))

        self.store.commit_now(job)
        self.number = last
        self._remove(named)

    def apply_changes(self, number: int, rows: Iterator[Row]) -> None:
        """Apply the rows that changed since what is here, as they are at commit `number`."""
        self._apply([(number, rows)], number)

    def apply_whole(self, line: bytes, number: int, rows: Iterator[Row]) -> int:
        """Make the store what these rows are, which are all of it; how many differed.

        Where there is nothing yet that could be promoted, it is done piece by piece, so that
        what is written waits on the disk and not in memory. What says that there is a node at all
        comes last.
        """
        changed = 0
        before = self.store.moment()

        def write(some: Iterable[Row], *, last: bool) -> None:
            def job(txn: Txn) -> None:
                nonlocal changed
                for row in some:
                    _put(txn, row)
                    changed += 1
                if last:
                    txn.put("meta", MIRRORED, pack_mirrored(line, number))

            self.store.commit_now(job)

        try:
            with before.read() as old:
                differing = _differences(old, rows)
                if old.get("meta", MIRRORED) is None:
                    held: list[Row] = []
                    for some in _some(differing, held):
                        write(some, last=False)
                    differing = iter(held)
                write(differing, last=True)
        finally:
            before.close()
        self.line, self.number = line, number
        with self.store.read() as txn:
            named = {
                file for _, value in txn.scan("derived", b"", b"\xff" * 5) for file in _files(value)
            }
        self._remove([path.name for path in self.folder.iterdir() if path.name not in named])
        return changed

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                (self.folder / name).unlink()


def _put(txn: Txn, row: Row) -> None:
    table, key, stored = row
    if stored is None:
        txn.delete(table, key)
    else:
        txn.put_raw(table, key, stored)


def _some(rows: Iterator[Row], held: list[Row]) -> Iterator[list[Row]]:
    """Rows in groups of a bounded size; those of the tables `_LAST` go to `held` instead."""
    group: list[Row] = []
    size = 0
    for row in rows:
        if row[0] in _LAST:
            held.append(row)
            continue
        group.append(row)
        size += size_of(row)
        if size >= TOGETHER_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _differences(old: Txn, rows: Iterator[Row]) -> Iterator[Row]:
    """What is to be put and deleted where `old` is, so that these rows are all that there is."""
    left = groupby(rows, key=lambda row: row[0])
    there = next(left, None)
    for table in TABLES:
        fresh: Iterator[Row] = iter(())
        if there is not None and there[0] == table:
            fresh = there[1]
        yield from _differing(table, _here(old, table), fresh)
        if there is not None and there[0] == table:
            there = next(left, None)
    if there is not None:
        raise FormatError(f"table {there[0]!r} is unknown, or came out of its turn")


def _here(txn: Txn, table: str) -> Iterator[tuple[bytes, bytes]]:
    for key, stored in txn.stored(table):
        if is_mirrored(table, key):
            yield key, stored


def _differing(
    table: str, old: Iterator[tuple[bytes, bytes]], fresh: Iterator[Row]
) -> Iterator[Row]:
    here = next(old, None)
    last = b""
    for row in fresh:
        _, key, stored = _checked(row)
        if stored is None or key <= last:
            raise FormatError(f"rows of {table} came out of their order")
        last = key
        while here is not None and here[0] < key:
            yield table, here[0], None
            here = next(old, None)
        if here is None or here[0] != key or here[1] != stored:
            yield row
        if here is not None and here[0] == key:
            here = next(old, None)
    while here is not None:
        yield table, here[0], None
        here = next(old, None)


def _checked(row: Row) -> Row:
    """A row as it came; an error if it is none of a store, or not what was written."""
    table, key, stored = row
    if table not in TABLES or not is_mirrored(table, key) or not key:
        raise FormatError(f"a row of {table!r} that no primary sends")
    if stored is not None:
        try:
            unseal(table, key, stored)
        except StoreError:
            raise StoreError(
                f"the primary's store is damaged: table {table}, key {key.hex()} is not what was"
                " written",
                "Run tally doctor where the primary is; what was mirrored before stands here",
            ) from None
    return row


def _files(value: bytes | None) -> set[str]:
    return {row.file for row in decode_derived(value).runs} if value else set()
