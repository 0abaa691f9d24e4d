"""What pages that live show of a channel's lines, remembered for as long as it is so.

Deriving many lines takes long, and a page that is left open asks every two seconds. So the answer
is kept until a record, a co-signature or a checkpoint came, or a minute passed; and a page that
asks by itself gets an older one for some times as long as it took to make.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tallystick.node.api.reading import Reader
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer

KEPT = 128  # answers
TIMES = 10  # as long as it took to make, an answer may be old


class _Answer(NamedTuple):
    stamp: tuple[int, ...]
    made_at: float
    took: float
    value: Any


class Remembering:
    """Asks through a reader, and remembers."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._clock = clock
        self._kept: dict[tuple[bytes, str], _Answer] = {}

    async def ask(
        self,
        opened: tuple[Channel, Closer],
        name: str,
        question: Callable[[Channel, Closer], Any],
        *,
        patient: bool,
    ) -> Any:
        """The answer to the question of that name; `patient` takes one that is a little old."""
        channel, closer = opened
        key, began = (channel.id, name), self._clock()
        own, peer = channel.own, channel.peer
        stamp = (
            own.durable_size,
            own.cosigned_size,
            peer.durable_size,
            peer.cosigned_size,
            len(closer.rows),
            int(began // 60),
        )
        kept = self._kept.get(key)
        if kept is not None:
            young = began - kept.made_at < TIMES * kept.took
            if kept.stamp == stamp or (patient and young):
                return kept.value
        value = await self._reader.ask_lines(channel.id, question)
        self._kept.pop(key, None)
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        now = self._clock()
        self._kept[key] = _Answer(stamp, now, now - began, value)
        return value
