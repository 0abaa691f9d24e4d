"""What a node keeps of memory, and what it gives back.

What LMDB's readers touched stays in the page cache, not in our count.

Reading a store through its map makes the process look as large as what it read, although the pages
are the file's and can be dropped at any time. Dropping them ourselves keeps a node's memory flat
for whoever watches it. Only Linux tells where the map is; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
from pathlib import Path

import trio

CHECK_SECONDS = 0.1
SHARED_BYTES_MAX = 40 * 1024 * 1024

_PAGE = mmap.PAGESIZE
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def _shared_bytes() -> int:
    """How much of our resident memory is files' pages."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * _PAGE


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


def reuse_freed() -> None:
    """Have the C library use freed memory again, but not keep it for each thread.

    Batches of a megabyte come and go through several threads. Without a bound on arenas glibc keeps
    them all; mapped one by one, as glibc does from 128 KiB on, their pages are cleared each time,
    which took a quarter of all work under load.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 8 * 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 64 * 1024 * 1024)


def collect_seldom() -> None:
    """Look for cycles seldom, and never among what is there now: code, settings, channels.

    Batches have no cycles, but their many objects would set off a collection every few hundred.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def keep_small(file: Path) -> None:
    """Drop the file's mapped pages whenever too many are resident; for as long as the node runs."""
    if not Path("/proc/self/maps").exists():
        return
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    while True:
        await trio.sleep(CHECK_SECONDS)
        if _shared_bytes() > SHARED_BYTES_MAX:
            for address, length in _mappings(file):
                madvise(address, length, mmap.MADV_DONTNEED)
