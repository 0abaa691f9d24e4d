"""What a node asks of its process: room for many connections, and memory without much ado."""

from __future__ import annotations

import ctypes
import gc
import logging
import resource
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import trio

FILES_BESIDE = 256  # that a node has open beside its connections to peers
MAPPED_BYTES = 8 * 1024 * 1024  # from which on the C library asks the system for a piece of memory
KEPT_BYTES = 64 * 1024 * 1024  # that are free and not given back
OBJECTS_A_COLLECTION = 20_000  # new ones; more often, batches of thousands would set it off

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h

_log = logging.getLogger("tallystick.node")


def raise_file_limit() -> int:
    """Have as many files open as the system allows this process; how many these are, -1 if it
    does not say: the unit of systemd forbids to ask, and sets the limit itself.
    """
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # where "unlimited" is more than the system has
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return -1


def check_file_limit(limit: int, peers: int) -> None:
    """Say so if not all peers can be connected at once."""
    if 0 <= limit < peers + FILES_BESIDE:
        _log.warning(
            "not all peers can be connected at once: raise the limit of open files (LimitNOFILE of"
            " the unit, ulimit -n)",
            extra={"limit": limit, "peers": peers},
        )


@contextmanager
def lasting() -> Iterator[None]:
    """What is made in here lasts as long as the process: the collector of garbage neither looks
    through it now nor later. A full pass over ten thousand channels takes up to a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def reuse_freed() -> None:
    """Have the C library use freed memory again, but not keep it for each thread.

    Batches of a megabyte come and go through several threads. Without a bound on arenas glibc keeps
    them all; mapped one by one, as glibc does from 128 KiB on, their pages are cleared each time,
    which took a quarter of all work under load.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


async def on_signal(
    stop: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Stop once SIGTERM or Ctrl-C says so."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            _log.info("stopping")
            await stop()
            return


def collect_seldom() -> None:
    """Look for cycles seldom, and never among what is there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_A_COLLECTION, 20, 20)
