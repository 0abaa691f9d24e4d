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
from tallystick.node.standby.marks import MIRRORED, OF_THE_HOME, pack_mirrored, unpack_mirrored
from tallystick.node.standby.recording import decode_derived
from tallystick.node.store.disk import Store, Txn, unseal
from tallystick.node.store.keyspace import TABLES
from tallystick.node.store.recorder import Row
from tallystick.protocol.errors import FormatError

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
        named: set[str] = set()  # by rows that are replaced
        touched: set[bytes] = set()

        def job(txn: Txn) -> None:
            for _, rows in commits:
                for row in rows:
                    table, key, stored = _checked(row)
                    if table == "derived":
                        touched.add(key)
                        named.update(_files(txn.get(table, key)))
                    if stored is None:
                        txn.delete(table, key)
                    else:
                        txn.put_raw(table, key, stored)
            for key in touched:
                named.difference_update(_files(txn.get("derived", key)))
            txn.put("meta", MIRRORED, pack_mirrored(self.line, last))

        last = self.number
        for number, _ in commits:
            if number != last + 1:
                raise FormatError(f"commit {number} came after commit {last}")
            last = number
        self.store.commit_now(job)
        self.number = last
        self._remove(named)

    def apply_whole(self, line: bytes, number: int, rows: Iterator[Row]) -> int:
        """Make the store what these rows are, which are all of it; how many differed."""
        changed = 0
        before = self.store.moment()

        def job(txn: Txn) -> None:
            nonlocal changed
            with before.read() as old:
                left = groupby(rows, key=lambda row: row[0])
                there = next(left, None)
                for table in TABLES:
                    fresh: Iterator[Row] = iter(())
                    if there is not None and there[0] == table:
                        fresh = there[1]
                    changed += _follow(txn, table, _here(old, table), fresh)
                    if there is not None and there[0] == table:
                        there = next(left, None)
                if there is not None:
                    raise FormatError(f"table {there[0]!r} is unknown, or came out of its turn")
            txn.put("meta", MIRRORED, pack_mirrored(line, number))

        try:
            self.store.commit_now(job)
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


def _here(txn: Txn, table: str) -> Iterator[tuple[bytes, bytes]]:
    for key, stored in txn.stored(table):
        if table != "meta" or key not in OF_THE_HOME:
            yield key, stored


def _follow(txn: Txn, table: str, old: Iterator[tuple[bytes, bytes]], fresh: Iterator[Row]) -> int:
    """Make a table what it is to be; how many rows differed."""
    changed = 0
    here = next(old, None)
    last = b""
    for row in fresh:
        _, key, stored = _checked(row)
        if stored is None or key <= last:
            raise FormatError(f"rows of {table} came out of their order")
        last = key
        while here is not None and here[0] < key:
            txn.delete(table, here[0])
            changed, here = changed + 1, next(old, None)
        if here is None or here[0] != key or here[1] != stored:
            txn.put_raw(table, key, stored)
            changed += 1
        if here is not None and here[0] == key:
            here = next(old, None)
    while here is not None:
        txn.delete(table, here[0])
        changed, here = changed + 1, next(old, None)
    return changed


def _checked(row: Row) -> Row:
    """A row as it came; an error if it is none of a store, or not what was written."""
    table, key, stored = row
    if table not in TABLES or (table == "meta" and key in OF_THE_HOME) or not key:
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
