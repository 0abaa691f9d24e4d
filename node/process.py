"""What a node asks of its process: room for many connections, and a collector that lets it be."""

from __future__ import annotations

import gc
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FILES_BESIDE = 256  # that a node has open beside its connections to peers

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
