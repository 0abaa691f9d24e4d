"""Targets for what lies on a disk that may be damaged: LMDB's pages, rows, a backup's manifest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import homes
import lmdb
import msgspec
from simulator.disk import Table

from fuzzing.contract import attempt, scratch_file, scratch_folder
from tallystick.node.backup import MANIFEST, STORE_FILE, Manifest, read_manifest, restore_backup
from tallystick.node.doctor.examination import examine
from tallystick.node.errors import StoreError
from tallystick.node.store.disk import Store, Txn, seal, unseal
from tallystick.node.store.keyspace import TABLES
from tallystick.node.store.metas import read_metas
from tallystick.node.store.pages import UNWRITTEN_MAX, walk
from tallystick.protocol.errors import InputError, TallyError

Items = list[tuple[str, bytes, bytes]]

PAGE = 4096
NEAR = 256
EDIT = 5  # bytes
_TABLES = ("a", "b")
# Only one value is right for each of their keys.
EXACT = ("batches", "tiles", "corrections", "matters", "closes", "named", "ended")


@cache
def known_file() -> bytes:
    """A small file of LMDB's: two tables, one of them of several pages, an overflow run, free
    pages.
    """
    with TemporaryDirectory() as folder:
        env = lmdb.open(folder, max_dbs=2, map_size=1 << 20, lock=False)
        with env.begin(write=True) as txn:
            a, b = (env.open_db(name.encode(), txn=txn) for name in _TABLES)
            for n in range(20):
                txn.put(b"key %d" % n, bytes([n]) * 200, db=a)
            txn.put(b"big", bytes(5000), db=b)
        with env.begin(write=True) as txn:
            txn.put(b"key 0", b"", db=a)
            txn.put(b"small", b"x", db=b)
        env.close()
        return (Path(folder) / "data.mdb").read_bytes()


def pages(data: bytes) -> None:
    """A store's file before LMDB may read it: what is found sound, LMDB reads, and as it was found.

    The first byte is 0: the rest is the file. Else the rest are edits to a known one: a byte for
    the page, one for the place in its first or last 256 bytes, one for the number's width, and two
    that are added to it.
    """
    file = data[1:] if data[:1] == b"\0" else _edited(data)
    view = memoryview(file)
    metas, faults = read_metas(view)
    if faults or not metas:
        assert faults
        return
    items: Items = []
    found = walk(view, metas, lambda table, key, value: items.append((table, key, bytes(value))))
    assert found.pages <= 2 * len(file) // metas[0].page_size + UNWRITTEN_MAX + 1
    assert all(0 <= start <= stop <= len(file) for start, stop in found.spare)
    for fault in found.faults:
        fault.encode()
    if not found.faults and metas[0].page_size == PAGE and set(found.entries) == set(_TABLES):
        assert _as_lmdb_reads(file) == sorted(items)


def _edited(data: bytes) -> bytes:
    file = bytearray(known_file())
    for at in range(1, len(data) - EDIT + 1, EDIT):
        page, near = data[at] % (len(file) // PAGE), 2 * data[at + 1]
        place = PAGE * page + (near if near < NEAR else PAGE + near - 2 * NEAR)
        width = (1, 2, 4, 6)[data[at + 2] % 4]
        old = int.from_bytes(file[place : place + width], "little")
        new = old + int.from_bytes(data[at + 3 : at + 5], "little", signed=True)
        file[place : place + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(file)


def _as_lmdb_reads(file: bytes) -> Items:
    path = scratch_file("data.mdb", file)
    env = lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_dbs=2, map_size=1 << 20)
    try:
        items: Items = []
        for name in _TABLES:
            table = env.open_db(name.encode(), create=False)
            with env.begin(db=table) as txn, txn.cursor() as cursor:
                items += [(name, key, value) for key, value in cursor]
        return sorted(items)
    finally:
        env.close()


class _Rows(Txn):
    """A snapshot in memory, of which the examination reads only what is stored."""

    def __init__(self, tables: dict[str, Table]) -> None:
        self._rows = tables

    def get(self, table: str, key: bytes) -> bytes | None:
        stored = self.raw(table, key)
        return unseal(table, key, stored) if stored else None

    def stored(
        self, table: str, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        held = self._rows[table]
        for key in held.keys:
            if key >= start and (stop is None or key < stop):
                yield key, held.values[key]

    def keys(self, table: str) -> Iterator[bytes]:
        yield from self._rows[table].keys

    def raw(self, table: str, key: bytes) -> bytes:
        return self._rows[table].values.get(key, b"")

    def entries(self, table: str) -> int:
        return len(self._rows[table].keys)


class _Snapshot(Store):
    def __init__(self, tables: dict[str, Table]) -> None:
        self._rows = tables

    @contextmanager
    def read(self) -> Iterator[Txn]:
        yield _Rows(self._rows)


@cache
def known_rows() -> dict[str, Table]:
    """Every row of a small home, as it is stored."""
    with TemporaryDirectory() as folder:
        home = homes.small_homes(Path(folder))[0]
        index = scratch_folder("ids")
        for file in (home.path / "ids").iterdir():
            shutil.copyfile(file, index / file.name)
        store = Store(home.store_path, read_only=True)
        tables = {name: Table() for name in TABLES}
        with store.read() as txn:
            for name, table in tables.items():
                for key, stored in txn.stored(name):
                    table.put(key, stored)
        store.close()
    return tables


def rows(data: bytes) -> None:
    """One row that is another than was written. Its sum tells, unless it is right as well: then
    the doctor says what does not fit, whatever is in it.

    The first byte is the table; with 128 in it the row is gone, with 64 its sum is wrong. The next
    is the key's size.
    """
    if len(data) < 2:
        return
    table = TABLES[data[0] % 64 % len(TABLES)]
    key, value = data[2 : 2 + data[1]], data[2 + data[1] :]
    tables = dict(known_rows())
    tables[table] = tables[table].copy()
    if data[0] & 0x80:
        tables[table].delete(key)
    elif data[0] & 0x40:
        attempt(StoreError, unseal, table, key, value)
        tables[table].put(key, value)
    else:
        stored = seal(table, key, value)
        assert unseal(table, key, stored) == value
        tables[table].put(key, stored)
    found = examine(_Snapshot(tables), scratch_folder("ids"), homes.NAMES[0])
    for check in found.checks:
        check.detail.encode()
    changed = tables[table].values != known_rows()[table].values
    if changed and (table in EXACT or data[0] & 0xC0 == 0x40):
        assert not found.ok


FILES = {"name": b"acme.example\n", STORE_FILE: bytes(64), "ids/0.run": b"", "seed": b"00" * 32}


def manifests(data: bytes) -> None:
    """A backup's manifest: it is read as written, and a home comes only of what it says."""
    folder = scratch_folder("backup")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_bytes(data)
    manifest = attempt(InputError, read_manifest, folder)
    if manifest is not None:
        again = msgspec.json.encode(manifest)
        assert msgspec.json.decode(again, type=Manifest) == manifest
    target = scratch_folder("restored") / "home"
    assert attempt(TallyError, restore_backup, folder, target, None) is None
    assert not list(target.parent.iterdir())
