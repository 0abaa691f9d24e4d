"""TLS driven on two buffers: all bytes in order, however they are sent, and an end that is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing
from builders import identity

from tallystick.node.transport import tls
from tallystick.node.transport.secure import RECORD_BYTES, SecureStream

ACME = identity("acme.example")
SECONDS = 60
SMALL = b"s" * 300


@asynccontextmanager
async def _connected(folder: Path) -> AsyncIterator[tuple[SecureStream, SecureStream]]:
    """Both ends of a connection: who listens, and who dialled."""
    certificate = tls.certificate_der(ACME.name, ACME.transport)
    context = tls.server_context(ACME, certificate, [], folder)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    raw = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
    async with listener, trio.open_nursery() as nursery:
        ends = (
            SecureStream(await listener.accept(), context),
            SecureStream(raw, tls.pairing_context(), "name.example"),
        )
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as shaking:
                for end in ends:
                    shaking.start_soon(end.do_handshake)
            yield ends
        for end in ends:
            with suppress(trio.BrokenResourceError):
                await trio.aclose_forcefully(end)
        nursery.cancel_scope.cancel()


async def _read(end: SecureStream, size: int) -> bytes:
    heard = b""
    while len(heard) < size:
        heard += await end.receive_some()
    return heard


def _fill(end: SecureStream) -> bytes:
    """Send at once until no more is taken; what was sent."""
    sent = b""
    while end.send_nowait(SMALL):
        sent += SMALL
    return sent


@pytest.mark.parametrize("seed", range(4))
async def test_all_arrives_in_order_however_it_is_sent(tmp_path: Path, seed: int) -> None:
    dice = Random(seed)
    async with _connected(tmp_path) as ends, trio.open_nursery() as nursery:
        for sender, reader in (ends, reversed(ends)):
            pieces = [dice.randbytes(dice.choice((1, 300, 20_000, 300_000))) for _ in range(40)]
            heard: list[bytes] = []

            async def read(
                end: SecureStream = reader, size: int = sum(map(len, pieces)),
                heard: list[bytes] = heard,
            ) -> None:  # fmt: skip
                heard.append(await _read(end, size))

            nursery.start_soon(read)
            for piece in pieces:
                if dice.random() < 0.5 or not sender.send_nowait(piece):
                    await sender.send_all(piece)
            while not heard:
                await trio.sleep(0.01)
            assert heard == [b"".join(pieces)]


async def test_what_the_socket_does_not_take_is_sent_later(tmp_path: Path) -> None:
    async with _connected(tmp_path) as (sender, reader):
        sent = _fill(sender)
        assert sent
        assert not sender.send_nowait(b"later")  # it may not overtake what waits
        assert await _read(reader, len(sent)) == sent  # though nobody sends any more
        await trio.testing.wait_all_tasks_blocked()
        assert sender.send_nowait(b"later")
        assert await reader.receive_some() == b"later"


async def test_what_is_large_is_not_taken_at_once(tmp_path: Path) -> None:
    async with _connected(tmp_path) as (sender, _):
        assert not sender.send_nowait(bytes(RECORD_BYTES + 1))
        assert sender.send_nowait(bytes(RECORD_BYTES))


async def test_all_that_arrived_is_read_at_once(tmp_path: Path) -> None:
    async with _connected(tmp_path) as (sender, reader):
        await sender.send_all(bytes(3 * RECORD_BYTES))
        await trio.sleep(0.1)  # or it is read in more pieces, which is as good
        calls = 0
        left = 3 * RECORD_BYTES
        while left:
            left -= len(await reader.receive_some())
            calls += 1
        assert calls < 3


async def test_an_end_comes_after_what_was_sent(tmp_path: Path) -> None:
    async with _connected(tmp_path) as (sender, reader):
        await sender.send_all(b"last")
        await sender.aclose()
        assert await reader.receive_some() == b"last"
        assert await reader.receive_some() == b""
        assert await reader.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await sender.send_all(b"more")
        assert not sender.send_nowait(b"more")


async def test_a_connection_that_breaks_is_no_end(tmp_path: Path) -> None:
    async with _connected(tmp_path) as (sender, reader):
        await sender.send_all(b"last")
        await trio.aclose_forcefully(sender.transport_stream)
        assert await reader.receive_some() == b"last"
        with pytest.raises(trio.BrokenResourceError):
            await reader.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await reader.send_all(bytes(100_000))


async def test_what_waits_when_the_other_side_goes_away_harms_nobody(tmp_path: Path) -> None:
    async with _connected(tmp_path) as (sender, reader):
        assert _fill(sender)
        await trio.aclose_forcefully(reader.transport_stream)
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await sender.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        sender.send_nowait(SMALL)
        with pytest.raises(trio.BrokenResourceError):
            await sender.send_all(SMALL)


async def test_closing_while_something_waits_harms_nobody(tmp_path: Path) -> None:
    async with _connected(tmp_path) as (sender, _):
        assert _fill(sender)
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(sender)
        await trio.testing.wait_all_tasks_blocked()
        assert not sender.send_nowait(SMALL)
