"""The outbox: all is sent in order, in pieces, and who waits for room gets it as the peer reads."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.errors import PeerUnreachable
from tallystick.node.outbox import ANSWER_BYTES_MAX, PIECE_BYTES, ROOM_BYTES, Outbox


class Reader:
    """The other end of a stream; it takes `limit` pieces and then no more."""

    def __init__(self, limit: int = 10**9) -> None:
        self.pieces: list[bytes] = []
        self.limit = limit
        self.more = trio.Event()

    async def send(self, data: bytes) -> None:
        while len(self.pieces) >= self.limit:
            await self.more.wait()
        self.pieces.append(data)
        await trio.lowlevel.checkpoint()

    def read_on(self) -> None:
        self.limit = 10**9
        self.more.set()


@given(st.lists(st.integers(1, 3 * PIECE_BYTES), max_size=12))
def test_all_is_sent_in_order_in_small_pieces(sizes: list[int]) -> None:
    frames = [bytes([number]) * size for number, size in enumerate(sizes)]
    reader = Reader()

    async def run() -> None:
        outbox = Outbox()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.write, reader.send, 50)
            for frame in frames:
                outbox.put(frame, answer=len(frame) % 2 == 0)
            await outbox.empty()
            await outbox.room()
            await outbox.answered()
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert b"".join(reader.pieces) == b"".join(frames)
    assert all(0 < len(piece) <= PIECE_BYTES for piece in reader.pieces)


async def _waits(what: object) -> bool:
    with trio.move_on_after(0.02) as waiting:
        await what()  # type: ignore[operator]
    return waiting.cancelled_caught


async def test_answers_that_are_not_read_are_waited_for_and_logs_are_counted_apart() -> None:
    outbox, reader = Outbox(), Reader(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write, reader.send, 50)
        outbox.put(bytes(ROOM_BYTES), answer=False)
        assert not await _waits(outbox.answered)
        assert not await _waits(outbox.room)
        outbox.put(bytes(ANSWER_BYTES_MAX), answer=True)
        assert not await _waits(outbox.answered)
        assert await _waits(outbox.room)
        outbox.put(b"x", answer=True)
        assert await _waits(outbox.answered)
        reader.read_on()
        await outbox.answered()
        await outbox.room()
        await outbox.empty()
        nursery.cancel_scope.cancel()


async def test_a_peer_that_stops_reading_is_given_up() -> None:
    outbox, reader = Outbox(), Reader(1)
    outbox.put(bytes(2 * PIECE_BYTES), answer=False)
    with trio.fail_after(60), pytest.raises(PeerUnreachable, match="does not read"):
        await outbox.write(reader.send, 0.05)
