"""Saving what can be read of a store whose pages are damaged: a new store is made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tallystick.node.books import RESTORED
from tallystick.node.doctor.examination import AnyStore
from tallystick.node.doctor.structure import walk_file
from tallystick.node.errors import StoreError
from tallystick.node.files import sync
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import TABLES
from tallystick.node.store.metas import read_metas

_HEAD_BYTES = 2 * 65536


def salvage(path: Path, aside: Path) -> list[str]:
    """Put a new store in the place of a damaged one, with every row that can still be read.

    The damaged file is kept in `aside` as it is. The new one is marked as restored, since nobody
    knows which of its rows were the newest.
    """
    file = path / "data.mdb"
    with file.open("rb") as opened:
        metas, _ = read_metas(memoryview(opened.read(_HEAD_BYTES)))
    if not metas:
        raise StoreError(
            f"nothing can be read of {file}: both of its first pages are damaged",
            "Use a backup (tally restore), or begin from the seed (tally recover)",
        )
    fresh = path.with_name("store.mended")
    damaged = aside / "data.mdb"
    aside.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows: list[tuple[str, bytes, bytes]] = []
    found = walk_file(
        file, metas, lambda table, key, value: rows.append((table, key, bytes(value)))
    )

    def fill(txn: Txn) -> None:
        for table, key, stored in rows:
            if table in TABLES:
                txn.put_raw(table, key, stored)
        txn.put("meta", RESTORED, b"")

    store = AnyStore(fresh)
    try:
        store.commit_now(fill)
    finally:
        store.close()
    # The damaged file keeps its place until the new one takes it.
    shutil.copyfile(file, damaged)
    damaged.chmod(0o600)
    sync(damaged)
    (fresh / "data.mdb").replace(file)
    sync(path)
    shutil.rmtree(fresh)
    return [
        f"{len(found.faults)} faults in the store's pages: {len(rows)} rows could be read and are"
        f" in a new store, the damaged one is in {damaged}"
    ]
