"""The store's file examined before LMDB reads it, in the snapshot that a reader of it holds."""

from __future__ import annotations

import mmap
from pathlib import Path

import lmdb

from tallystick.node.doctor.findings import Findings
from tallystick.node.errors import StoreError
from tallystick.node.store.metas import Meta, read_metas
from tallystick.node.store.pages import Visit, Walk, walk

TRIES = 5  # a running node may write a meta page while we look


def check_structure(store: Path, findings: Findings) -> bool:
    """Whether every page in use is what it must be, so that LMDB may read the file."""
    found = walk_snapshot(store)
    pages = f"{found.pages} pages, {found.free_pages} of them free"
    findings.say("pages", found.faults, pages)
    return not found.faults


def walk_snapshot(store: Path) -> Walk:
    """Walk the newest snapshot. A reader's transaction keeps its pages from being used again."""
    file = store / "data.mdb"
    for _ in range(TRIES):
        metas, faults = _metas(file)
        if not faults:
            break
    else:
        return Walk(faults)
    try:
        env = lmdb.open(str(store), readonly=True, max_dbs=1, max_readers=512)
        try:
            for _ in range(TRIES):
                with env.begin() as txn:
                    metas, faults = _metas(file)
                    held = [meta for meta in metas if meta.txn_id <= txn.id()]
                    if not faults and held and held[0].txn_id == txn.id():
                        return walk_file(file, held)
        finally:
            env.close()
    except lmdb.Error as error:
        return Walk([f"LMDB cannot open the file: {error}"])
    return Walk(faults or ["the meta pages change faster than they can be read"])


def walk_file(file: Path, metas: list[Meta], visit: Visit | None = None) -> Walk:
    """Walk a file that does not change in what `metas[0]` reaches."""
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        return walk(data, metas, visit)


def _metas(file: Path) -> tuple[list[Meta], list[str]]:
    try:
        with file.open("rb") as opened:
            head = opened.read(2 * 65536)
    except OSError as error:
        raise StoreError(
            f"{file} cannot be read: {error.strerror}",
            "A node that was never started has none: tally run makes it",
        ) from None
    return read_metas(memoryview(head))
