"""Where the parts of a node say that something happened; nobody listens until the feed does.

What follows from the store is only pointed at (`changed`): the feed looks there itself, and misses
nothing that a crash kept it from hearing. What leaves no trace of its own is told (`happened`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _ignore_change(channel: bytes) -> None:
    pass


def _ignore(kind: str, channel: bytes, data: dict[str, Any]) -> None:
    pass


class News:
    """Places to call; who listens puts its functions there."""

    def __init__(self) -> None:
        self.changed: Callable[[bytes], None] = _ignore_change
        self.happened: Callable[[str, bytes, dict[str, Any]], None] = _ignore
        self._on_close: list[Callable[[bytes], None]] = []

    def on_close(self, listener: Callable[[bytes], None]) -> None:
        """Have a function called with a channel when a period of it was closed here."""
        self._on_close.append(listener)

    def closed(self, channel: bytes) -> None:
        """A period of a channel was closed here."""
        for listener in self._on_close:
            listener(channel)
