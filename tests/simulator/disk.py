"""A disk that fails: the store's tables in memory, and files that are torn when power is cut.

What a commit wrote is there as a whole or not at all, as LMDB promises; a cut may come before or
after that point. Files are real, in a folder of their own: what was not fsynced may be torn.
"""

from __future__ import annotations

import bisect
import copy
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import trio

from tallystick.node.errors import StoreError
from tallystick.node.segments.reading import Segments
from tallystick.node.store.changed import LINE, note
from tallystick.node.store.disk import Job, Store, Txn, seal, unseal
from tallystick.node.store.keyspace import TABLES
from tallystick.node.store.recorder import Row
from tallystick.node.store.writer import Writer


class PowerCut(Exception):
    """The machine lost power here."""


class Table:
    """Keys in order, and their values."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def copy(self) -> Table:
        """A copy that does not change with this one."""
        other = Table()
        other.values, other.keys = dict(self.values), list(self.keys)
        return other

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value."""
        if key not in self.values:
            bisect.insort(self.keys, key)
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key if it is there."""
        if self.values.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]


class Disk:
    """What survives a node's process: tables and files. `full` makes every write fail."""

    def __init__(self, folder: Path, dice: Random) -> None:
        self.folder = folder
        self.dice = dice
        self.tables = {name: Table() for name in TABLES}
        self.inode = 1
        self.number = 0  # of the newest commit
        self.full = False
        self.cut_in = -1  # commits until the power is cut; negative: never
        self.slow_seconds = 0.002
        folder.mkdir(parents=True, exist_ok=True)

    def snapshot(self) -> dict[str, Table]:
        """A backup: the tables as they are. Index files are left out, as they can be made anew."""
        return {name: table.copy() for name, table in self.tables.items()}

    def restore(self, tables: dict[str, Table], *, copied: bool) -> None:
        """Go back to a backup: by copying files, or as a whole machine's snapshot."""
        self.tables = {name: table.copy() for name, table in tables.items()}
        self.inode += copied
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def tear(self, synced: dict[Path, int]) -> None:
        """Power is cut: files that were not fsynced lose an end, or everything."""
        for path in sorted(self.folder.iterdir()):
            kept = synced.get(path, 0)
            if path.stat().st_size != kept:
                os.truncate(path, self.dice.randint(0, path.stat().st_size))


class MemoryTxn(Txn):
    """The verbs of a transaction on a disk in memory."""

    def __init__(self, disk: Disk, segments: Segments) -> None:
        self._disk = disk
        self.segments = segments
        self.changed: list[tuple[str, bytes, bytes | None]] = []  # what was put and deleted
        self._before: list[bytes | None] = []  # what was there instead

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value, or None."""
        return self._disk.tables[table].values.get(key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value."""
        self._note(table, key, value)
        self._disk.tables[table].put(key, value)

    def put_raw(self, table: str, key: bytes, stored: bytes) -> None:
        """Set a value with its sum, which is not kept here: nothing flips a bit."""
        self.put(table, key, unseal(table, key, stored))

    def delete(self, table: str, key: bytes) -> None:
        """Remove the key if it is there."""
        if key in self._disk.tables[table].values:
            self._note(table, key, None)
            self._disk.tables[table].delete(key)

    def _note(self, table: str, key: bytes, value: bytes | None) -> None:
        self._before.append(self._disk.tables[table].values.get(key))
        self.changed.append((table, key, value))

    def undo(self) -> None:
        """Take everything back."""
        for (table, key, _), value in zip(self.changed[::-1], self._before[::-1], strict=True):
            if value is None:
                self._disk.tables[table].delete(key)
            else:
                self._disk.tables[table].put(key, value)

    def scan(self, table: str, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Items with start <= key < stop, in order."""
        held = self._disk.tables[table]
        keys = held.keys[bisect.bisect_left(held.keys, start) : bisect.bisect_left(held.keys, stop)]
        yield from [(key, held.values[key]) for key in keys]

    def stored(
        self, table: str, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Items in order, with their sums."""
        held = self._disk.tables[table]
        for key in held.keys[bisect.bisect_left(held.keys, start) :]:
            if stop is not None and key >= stop:
                return
            yield key, seal(table, key, held.values[key])

    def keys(self, table: str) -> Iterator[bytes]:
        """Every key of a table."""
        yield from list(self._disk.tables[table].keys)

    def raw(self, table: str, key: bytes) -> bytes:
        """A value with its sum; empty if there is none."""
        value = self.get(table, key)
        return b"" if value is None else seal(table, key, value)

    def table_bytes(self, table: str) -> int:
        """What a table takes, roughly."""
        return sum(len(key) + len(value) for key, value in self._disk.tables[table].values.items())

    def floor_key(self, table: str, key: bytes) -> bytes | None:
        """The greatest key <= `key`."""
        held = self._disk.tables[table]
        place = bisect.bisect_right(held.keys, key)
        return held.keys[place - 1] if place else None

    def ahead(self, table: str, key: bytes) -> None:
        """All is in memory."""


class MemoryStore(Store):
    """The node's store on such a disk: its own queue and its own rules, other writes."""

    def __init__(self, disk: Disk, lose_power: Callable[[], None]) -> None:
        self.disk = disk
        self._lose_power = lose_power
        self.path = disk.folder
        self.read_only = False
        self.segments = Segments()
        self.dead = False
        self._writer = Writer()
        self._begin_queue()
        self.on_failure = []
        with self.read() as txn:
            self.noting = txn.get("meta", LINE) is not None
        self._check_version(False)

    def close(self) -> None:
        """Nothing is open."""

    def place(self) -> bytes:
        """What tells this store from a copy of it."""
        return str(self.disk.inode).encode()

    @property
    def number(self) -> int:
        """The number of the newest commit, or of the one that is looked at."""
        return self.disk.number

    def moment(self) -> Store:
        """This store as it is now."""
        found = copy.copy(self)
        found.disk = copy.copy(self.disk)
        found.disk.tables = self.disk.snapshot()
        found.read_only, found.on_failure = True, []
        return found

    @contextmanager
    def read(self) -> Iterator[Txn]:
        """A view; nothing is written while it is open."""
        yield MemoryTxn(self.disk, self.segments)

    def commit_now(self, *jobs: Job) -> None:
        """All jobs take effect, or none; the power may be cut before and after."""
        if self.dead:
            raise PowerCut
        disk = self.disk
        if disk.full:
            raise StoreError("the store cannot be written: no space left on device")
        cut = disk.cut_in == 0
        disk.cut_in -= disk.cut_in >= 0
        if not cut or disk.dice.random() < 0.5:
            txn = MemoryTxn(disk, self.segments)
            try:
                for job in jobs:
                    job(txn)
            except BaseException:
                txn.undo()
                raise
            self._told(txn)
        if cut:
            self._lose_power()  # whatever the node's code would make of the error
            raise PowerCut

    def _told(self, txn: MemoryTxn) -> None:
        if not txn.changed:
            return
        self.disk.number += 1
        rows: list[Row] = [
            (table, key, None if value is None else seal(table, key, value))
            for table, key, value in txn.changed
        ]
        if self.noting:
            note(MemoryTxn(self.disk, self.segments), self.disk.number, rows)
        if self.recorder is not None:
            self.recorder.took(self.disk.number, rows)

    async def write(self, jobs: Sequence[Job]) -> None:
        """Take a while as well."""
        await self.off_thread(self.commit_now, *jobs)

    async def off_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Take a while, as a disk does, and then do it at once."""
        await trio.sleep(self.disk.dice.uniform(0, self.disk.slow_seconds))
        return work(*arguments)
