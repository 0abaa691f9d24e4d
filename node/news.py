"""Where the parts of a node say that something happened, to whoever listens: the feed and others.

What follows from the store is only pointed at (`changed`): the feed looks there itself, and misses
nothing that a crash kept it from hearing. What leaves no trace of its own is told (`happened`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def _no_witness(channel: bytes, provider_size: int, consumer_size: int) -> str:
    return ""


class News:
    """Who listens puts its functions into the lists; they are called in order.

    `closing`: a checkpoint is about to name heads of these sizes; why we may not sign it, if so.
    """

    def __init__(self) -> None:
        self.on_changed: list[Callable[[bytes], None]] = []
        self.on_closed: list[Callable[[bytes], None]] = []
        self.on_happened: list[Callable[[str, bytes, dict[str, Any]], None]] = []
        self.closing: Callable[[bytes, int, int], Awaitable[str]] = _no_witness

    def changed(self, channel: bytes) -> None:
        """Something may have changed in a channel."""
        for call in self.on_changed:
            call(channel)

    def closed(self, channel: bytes) -> None:
        """A period of a channel was closed here."""
        for call in self.on_closed:
            call(channel)

    def happened(self, kind: str, channel: bytes, data: dict[str, Any]) -> None:
        """Something happened in a channel that leaves no trace in the store."""
        for call in self.on_happened:
            call(kind, channel, data)
