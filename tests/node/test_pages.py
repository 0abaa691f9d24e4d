"""The walk through LMDB's file: sound stores pass, a flipped byte is found where it counts."""

from __future__ import annotations

from pathlib import Path
from random import Random

import lmdb
import pytest

from tallystick.node.doctor.structure import walk_snapshot
from tallystick.node.doctor.tables import value_of
from tallystick.node.home import Home
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import TABLES
from tallystick.node.store.metas import HEADER_SIZE, META_SIZE, read_metas
from tallystick.node.store.pages import walk

Items = list[tuple[str, bytes, bytes]]


@pytest.fixture
def file(busy: tuple[Home, Home]) -> bytes:
    """The store's file of a home with a busy channel."""
    return (busy[0].store_path / "data.mdb").read_bytes()


def _examine(data: bytes | bytearray) -> tuple[list[str], Items]:
    """What is wrong with a file's pages and sums, and what is in it."""
    view = memoryview(data)
    metas, faults = read_metas(view)
    if faults:
        return faults, []
    items: Items = []
    found = walk(view, metas, lambda table, key, value: items.append((table, key, bytes(value))))
    wrong = [
        f"{table} {key.hex()}"
        for table, key, value in items
        if table not in TABLES or value_of(table, key, value) is None
    ]
    return found.faults + wrong, items


def _spare(data: bytes) -> bytearray:
    """Which bytes LMDB does not read, as the walk says: 1 for each."""
    view = memoryview(data)
    mask = bytearray(len(data))
    for start, stop in walk(view, read_metas(view)[0]).spare:
        mask[start:stop] = b"\1" * (stop - start)
    return mask


def _lmdb_items(folder: Path, data: bytes | bytearray) -> Items:
    """Everything that LMDB itself reads of a file."""
    folder.mkdir()
    (folder / "data.mdb").write_bytes(data)
    env = lmdb.open(str(folder), max_dbs=len(TABLES), map_size=1 << 26, readonly=True)
    items: Items = []
    for table in sorted(TABLES):
        handle = env.open_db(table.encode(), create=False)
        with env.begin(db=handle) as txn, txn.cursor() as cursor:
            items += [(table, key, value) for key, value in cursor]
    env.close()
    return items


def test_the_walk_reads_what_lmdb_reads(file: bytes, tmp_path: Path) -> None:
    faults, items = _examine(file)
    assert faults == []
    assert sorted(items) == sorted(_lmdb_items(tmp_path / "s", file))
    assert len({table for table, _, _ in items}) > 8


def test_lmdb_does_not_read_what_is_spare(file: bytes, tmp_path: Path) -> None:
    spare = _spare(file)
    other = bytes(byte ^ 0xFF if spare[at] else byte for at, byte in enumerate(file))
    assert other != file
    assert _lmdb_items(tmp_path / "other", other) == _lmdb_items(tmp_path / "same", file)


def test_every_flip_in_the_meta_pages_is_found_or_in_spare_bytes(file: bytes) -> None:
    spare = _spare(file)
    size = read_metas(memoryview(file))[0][0].page_size
    read = [at for at in range(2 * size) if not spare[at]]
    assert all(at % size < HEADER_SIZE + META_SIZE for at in read)
    assert len(read) > 100
    for at in read:
        for flip in (0xFF, *(1 << bit for bit in range(8))):
            data = bytearray(file)
            data[at] ^= flip
            faults, _ = _examine(data)
            assert faults, f"byte {at} ^ {flip:#x}"


def test_a_flip_in_any_page_is_found_or_changes_nothing(file: bytes) -> None:
    dice = Random(20261125)
    spare = _spare(file)
    size = read_metas(memoryview(file))[0][0].page_size
    read = [at for at in range(2 * size, len(file)) if not spare[at]]
    # Structure is rarer than content, so half of the sample is of the first bytes of pages.
    heads = [at for at in read if at % size < 96]
    _, items = _examine(file)
    same = 0
    for at in dice.sample(heads, 1000) + dice.sample(read, 1000):
        data = bytearray(file)
        data[at] ^= dice.choice((0xFF, 1 << dice.randrange(8)))
        faults, now = _examine(data)
        if not faults:
            # A branch's key may be another that parts the same pages: nothing else is left.
            assert now == items, f"byte {at}"
            same += 1
    assert same < 40


def test_a_file_that_is_cut_is_found(file: bytes) -> None:
    size = read_metas(memoryview(file))[0][0].page_size
    for length in (0, 1, 100, size, size + 20, 2 * size, 5 * size, len(file) // 2):
        faults, _ = _examine(file[:length])
        assert faults, length


def test_garbage_is_found(file: bytes) -> None:
    dice = Random(7)
    size = read_metas(memoryview(file))[0][0].page_size
    for _ in range(100):
        data = bytearray(file)
        page = dice.randrange(2, len(file) // size)
        spare = all(_spare(file)[page * size : (page + 1) * size])
        data[page * size : (page + 1) * size] = dice.randbytes(size)
        assert spare or _examine(data)[0], page


def test_any_store_that_lmdb_writes_passes(tmp_path: Path) -> None:
    dice = Random(3)
    store = Store(tmp_path / "s")
    there: list[tuple[str, bytes]] = []
    reader = None
    for step in range(120):

        def job(txn: Txn) -> None:
            for _ in range(dice.randint(1, 30)):
                if there and dice.random() < 0.35:
                    txn.delete(*there.pop(dice.randrange(len(there))))
                    continue
                table, key = dice.choice(TABLES), dice.randbytes(dice.randint(1, 60))
                txn.put(table, key, dice.randbytes(dice.choice((0, 7, 70, 700, 7000, 70000))))
                there.append((table, key))

        store.commit_now(job)
        if step % 10 == 0:
            if reader is not None:
                reader.__exit__(None, None, None)
            reader = store.read()
            reader.__enter__()  # keeps its pages from being used again for a while
            data = memoryview((tmp_path / "s" / "data.mdb").read_bytes())
            metas, faults = read_metas(data)
            assert faults == []
            assert walk(data, metas).faults == []
    if reader is not None:
        reader.__exit__(None, None, None)
    store.close()
    assert walk_snapshot(tmp_path / "s").faults == []
