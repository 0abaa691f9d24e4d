"""What a peer says about checkpoints, answered beside all else that it says, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from tallystick.node.closing import Closer
from tallystick.protocol.messages import Message

WAITING_MAX = 8  # messages, a channel
REST_SECONDS_MAX = 5

Begin = Callable[..., None]
Handle = Callable[[Closer, Message], Awaitable[None]]


class Answering:
    """The queues of one link. It keeps nothing of the link's: that would be a cycle, and what ends
    is freed without the collector of garbage (`process.Sessions`).
    """

    def __init__(self) -> None:
        self._queues: dict[bytes, trio.MemorySendChannel[Message]] = {}  # while there are any

    async def put(self, closer: Closer, message: Message, begin: Begin, handle: Handle) -> None:
        """Queue a message, which may wait for the disk or the peer, and the peer's next words with
        it. `begin` starts a task of the link's; `handle` answers.
        """
        key = closer.channel.id
        if key not in self._queues:
            self._queues[key], waiting = trio.open_memory_channel[Message](WAITING_MAX)
            begin(self._answer, closer, waiting, handle)
        await self._queues[key].send(message)

    async def _answer(
        self, closer: Closer, waiting: trio.MemoryReceiveChannel[Message], handle: Handle
    ) -> None:
        """Answer one by one, resting as long as each took: computing statements over and over may
        not take the node's time from other channels.
        """
        with suppress(trio.WouldBlock):
            while True:
                message = waiting.receive_nowait()
                began = trio.current_time()
                await handle(closer, message)
                await trio.sleep(min(trio.current_time() - began, REST_SECONDS_MAX))
        del self._queues[closer.channel.id]
