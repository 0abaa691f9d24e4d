"""Asking the system for a value's pages all at once, before they are read one by one.

The store's map is read at random places, so the system reads no page that is not touched. A value
of a dozen pages that is not in memory would be read in a dozen turns.
"""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

_madvise = getattr(ctypes.CDLL(None), "madvise", None)
_WILL_NEED = getattr(mmap, "MADV_WILLNEED", None)
if _madvise is not None:
    _madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def read_ahead(value: memoryview) -> None:
    """Have the pages of a mapped value read; nothing is done where the system has no such call."""
    if _madvise is None or _WILL_NEED is None or len(value) <= mmap.PAGESIZE:
        return
    # The one way to the address of a view that cannot be written.
    address = np.frombuffer(value, dtype=np.uint8).ctypes.data
    before = address % mmap.PAGESIZE
    _madvise(address - before, before + len(value), _WILL_NEED)
