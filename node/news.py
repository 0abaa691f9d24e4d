"""Where the parts of a node say that something happened; nobody listens until the feed does.

What follows from the store is only pointed at (`changed`): the feed looks there itself, and misses
nothing that a crash kept it from hearing. What leaves no trace of its own is told (`happened`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _ignore_change(channel: bytes) -> None:
    pass


def _ignore_close(channel: bytes) -> None:
    pass


def _ignore(kind: str, channel: bytes, data: dict[str, Any]) -> None:
    pass


class News:
    """Places to call; who listens puts its functions there. `closed`: a period was closed here."""

    def __init__(self) -> None:
        self.changed: Callable[[bytes], None] = _ignore_change
        self.closed: Callable[[bytes], None] = _ignore_close
        self.happened: Callable[[str, bytes, dict[str, Any]], None] = _ignore
