"""What waits to be sent on a link: sent in order, in small pieces, and never much of it.

Two kinds wait here. Of our logs only as much is read from the store as there is `room` for. What
answers the peer is counted apart: while much of it waits, the peer is not listened to (`answered`),
so one that asks and does not read waits for itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from tallystick.node.errors import PeerUnreachable

ROOM_BYTES = 4 * 1024 * 1024
ANSWER_BYTES_MAX = 1024 * 1024
PIECE_BYTES = 256 * 1024


class Outbox:
    """Frames on their way to one peer."""

    def __init__(self) -> None:
        self._frames: list[tuple[bytes, bool]] = []
        self._sent = 0  # of the first frame
        self._bytes = 0
        self._answer_bytes = 0
        self._moved = trio.Event()  # set, and replaced, whenever a piece was sent

    def put(self, frame: bytes, *, answer: bool) -> None:
        """Queue a frame."""
        self._frames.append((frame, answer))
        self._bytes += len(frame)
        self._answer_bytes += len(frame) * answer

    @property
    def waiting_bytes(self) -> int:
        """How much the peer has not read yet, as far as it is known here."""
        return self._bytes

    async def room(self) -> None:
        """Return when there is room for more of our logs."""
        while self._bytes > ROOM_BYTES:
            await self._moved.wait()

    async def answered(self) -> None:
        """Return when the peer has read most of its answers."""
        while self._answer_bytes > ANSWER_BYTES_MAX:
            await self._moved.wait()

    async def empty(self) -> None:
        """Return when all is sent."""
        while self._bytes:
            await self._moved.wait()

    async def write(self, send: Callable[[bytes], Awaitable[None]], silence_seconds: float) -> None:
        """Send until nothing waits; `PeerUnreachable` if the peer stops reading."""
        while self._frames:
            piece = self._piece()
            with trio.move_on_after(silence_seconds) as waiting:
                await send(piece)
            if waiting.cancelled_caught:
                raise PeerUnreachable("the peer does not read")
            self._count(len(piece))

    def _piece(self) -> bytes:
        """The next bytes to send: some of a large frame, or small ones together."""
        pieces: list[bytes] = []
        size, start = 0, self._sent
        for frame, _ in self._frames:
            pieces.append(frame[start : start + PIECE_BYTES - size])
            size += len(pieces[-1])
            start = 0
            if size >= PIECE_BYTES:
                break
        return b"".join(pieces)

    def _count(self, sent: int) -> None:
        self._bytes -= sent
        self._sent += sent
        while self._frames and self._sent >= len(self._frames[0][0]):
            frame, answer = self._frames.pop(0)
            self._sent -= len(frame)
            self._answer_bytes -= len(frame) * answer
        self._moved.set()
        self._moved = trio.Event()
