"""LMDB's two meta pages: each says what the file is after one transaction; the newer one counts.

Read here in plain Python (see `pages`), since nothing of a damaged file may be believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

HEADER_SIZE, META_SIZE = 16, 136
META_PAGES = 2

_MAGIC, _VERSION, _META = 0xBEEFC0DE, 1, 8
_header = Struct("<QHHHH").unpack_from
_database = Struct("<IHHQQQQQ")
_meta = Struct("<II8x8x48s48sQQ")


class Fault(Exception):
    """One page or node that is not what it must be."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A database's record: what LMDB says that its tree has."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


@dataclass(frozen=True, slots=True)
class Meta:
    """One of the two meta pages: the state of the file after the transaction `txn_id`."""

    page: int
    page_size: int
    free: Tree
    main: Tree
    last_page: int
    txn_id: int


def read_tree(record: bytes | memoryview) -> Tree:
    """A database's record from its bytes; `Fault` if they are of another size."""
    if len(record) != _database.size:
        raise Fault("a table's record has a wrong size")
    return Tree(*_database.unpack(record))


def read_metas(data: memoryview) -> tuple[list[Meta], list[str]]:
    """The meta pages of a file (its first pages suffice), the newest first, and their faults."""
    metas: list[Meta] = []
    faults: list[str] = []
    page_size = _page_size(data)
    if page_size is None:
        return [], ["meta page 0: it is not a meta page of LMDB"]
    for page in range(META_PAGES):
        try:
            metas.append(_read_meta(data, page, page_size))
        except Fault as fault:
            faults.append(f"meta page {page}: {fault}")
    if not faults:
        even, odd = metas[0].txn_id, metas[1].txn_id
        if (even, odd) != (0, 0) and (abs(even - odd) != 1 or even % 2):
            faults.append(
                f"the meta pages are of transactions {even} and {odd}, not of two in a row"
            )
    return sorted(metas, key=lambda meta: -meta.txn_id), faults


def _page_size(data: memoryview) -> int | None:
    if len(data) < HEADER_SIZE + META_SIZE:
        return None
    size: int = _database.unpack_from(data, HEADER_SIZE + 24)[0]
    return size if 512 <= size <= 65536 and not size & (size - 1) else None


def _read_meta(data: memoryview, page: int, page_size: int) -> Meta:
    at = page * page_size
    if len(data) < at + page_size:
        raise Fault("the file ends before it")
    number, _, flags, _, _ = _header(data, at)
    magic, version, free, main, last_page, txn_id = _meta.unpack_from(data, at + HEADER_SIZE)
    if (number, flags, magic, version) != (page, _META, _MAGIC, _VERSION):
        raise Fault("its number, its kind, its magic number or its version is wrong")
    meta = Meta(
        page,
        page_size,
        read_tree(free),
        read_tree(main),
        last_page,
        txn_id,
    )
    if meta.free.pad != page_size:
        raise Fault(f"it says that pages have {meta.free.pad} bytes, not {page_size}")
    return meta
