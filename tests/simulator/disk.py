"""A disk that fails: the store's tables in memory, and files that are torn when power is cut.

What a commit wrote is there as a whole or not at all, as LMDB promises; a cut may come before or
after that point. Files are real, in a folder of their own: what was not fsynced may be torn.
"""

from __future__ import annotations

import bisect
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import trio

from tallystick.node.errors import StoreError
from tallystick.node.segments.reading import Segments
from tallystick.node.store.disk import Job, Store, Txn
from tallystick.node.store.keyspace import TABLES


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

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value, or None."""
        return self._disk.tables[table].values.get(key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value."""
        self._disk.tables[table].put(key, value)

    def delete(self, table: str, key: bytes) -> None:
        """Remove the key if it is there."""
        self._disk.tables[table].delete(key)

    def scan(self, table: str, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Items with start <= key < stop, in order."""
        held = self._disk.tables[table]
        keys = held.keys[bisect.bisect_left(held.keys, start) : bisect.bisect_left(held.keys, stop)]
        yield from [(key, held.values[key]) for key in keys]

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
        self._begin_queue()
        self.on_failure = []
        self._check_version(False)

    def close(self) -> None:
        """Nothing is open."""

    def place(self) -> bytes:
        """What tells this store from a copy of it."""
        return str(self.disk.inode).encode()

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
            for job in jobs:
                job(txn)
        if cut:
            self._lose_power()  # whatever the node's code would make of the error
            raise PowerCut

    async def off_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Take a while, as a disk does, and then do it at once."""
        await trio.sleep(self.disk.dice.uniform(0, self.disk.slow_seconds))
        return work(*arguments)
