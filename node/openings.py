"""The channels of a home by their ids, each opened when it is looked at: a verb that is about one
channel need not open ten thousand.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tallystick.node.channel import Channel
    from tallystick.node.closing import Closer

    Opened = tuple[Channel, Closer]


class Openings(UserDict[bytes, "Opened"]):
    """Channels by their ids, in this order; `open` opens one."""

    def __init__(self, channels: Iterable[bytes], open: Callable[[bytes], Opened]) -> None:
        super().__init__()
        self._channels = list(channels)
        self._open = open

    def opened(self) -> list[Opened]:
        """Those that are open."""
        return list(self.data.values())

    def __missing__(self, channel: bytes) -> Opened:
        if channel not in self._channels:
            raise KeyError(channel)
        found = self.data[channel] = self._open(channel)
        return found

    def __contains__(self, channel: object) -> bool:
        return channel in self._channels

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)
