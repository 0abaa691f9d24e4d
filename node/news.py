"""Where the parts of a node say that something happened; nobody listens until the feed does.

What follows from the store is only pointed at (`changed`): the feed looks there itself, and misses
nothing that a crash kept it from hearing. What leaves no trace of its own is told (`happened`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


def _ignore_change(channel: bytes) -> None:
    pass


def _ignore_close(channel: bytes) -> None:
    pass


def _ignore(kind: str, channel: bytes, data: dict[str, Any]) -> None:
    pass


async def _no_witness(channel: bytes, provider_size: int, consumer_size: int) -> str:
    return ""


class News:
    """Places to call; who listens puts its functions there. `closed`: a period was closed here.

    `closing`: a checkpoint is about to name heads of these sizes; why we may not sign it, if so.
    """

    def __init__(self) -> None:
        self.changed: Callable[[bytes], None] = _ignore_change
        self.closed: Callable[[bytes], None] = _ignore_close
        self.closing: Callable[[bytes, int, int], Awaitable[str]] = _no_witness
        self.happened: Callable[[str, bytes, dict[str, Any]], None] = _ignore
