"""Giving memory back: what LMDB's readers touched stays in the page cache, not in our count.

Reading a store through its map makes the process look as large as what it read, although the pages
are the file's and can be dropped at any time. Dropping them ourselves keeps a node's memory flat
for whoever watches it. Only Linux tells where the map is; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import trio

CHECK_SECONDS = 0.1
SHARED_BYTES_MAX = 40 * 1024 * 1024

_PAGE = mmap.PAGESIZE


def _shared_bytes(statm: int) -> int:
    """How much of our resident memory is files' pages, as the open file `statm` tells."""
    return int(os.pread(statm, 256, 0).split()[2]) * _PAGE


def _mappings(file: Path) -> list[tuple[int, int]]:
    """Address and length of each place where the file is mapped."""
    wanted = str(file.resolve())
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == wanted:
            start, end = (int(part, 16) for part in fields[0].split("-"))
            found.append((start, end - start))
    return found


async def keep_small(file: Path) -> None:
    """Drop the file's mapped pages whenever too many are resident; for as long as the node runs."""
    if not Path("/proc/self/maps").exists():
        return
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            await trio.sleep(CHECK_SECONDS)
            if _shared_bytes(statm) > SHARED_BYTES_MAX:
                for address, length in _mappings(file):
                    madvise(address, length, mmap.MADV_DONTNEED)
    finally:
        os.close(statm)
