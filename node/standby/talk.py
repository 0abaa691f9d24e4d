"""A conversation between a node and its standby: messages over an authenticated stream."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from tallystick.node.errors import PeerUnreachable
from tallystick.node.streams import Stream
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.mirror import Message, decode_mirror, encode_mirror


class Talk:
    """Messages either way; `frame_bytes_max` bounds what the other side may send at once."""

    def __init__(self, stream: Stream, frame_bytes_max: int) -> None:
        self._stream = stream
        self._reader = FrameReader(frame_bytes_max)
        self._saying = trio.Lock()

    async def say(self, message: Message) -> None:
        """Send a message."""
        async with self._saying:
            await self._stream.send(frame(encode_mirror(message)))

    async def receive(self) -> Iterator[Message]:
        """Wait for more of what the other side says, and give what is complete."""
        data = await self._stream.receive()
        if not data:
            raise PeerUnreachable("the other node closed the connection")
        self._reader.feed(data)
        return self._complete()

    def _complete(self) -> Iterator[Message]:
        while (body := self._reader.next_body()) is not None:
            yield decode_mirror(body)

    async def aclose(self) -> None:
        """End it."""
        await self._stream.aclose()
