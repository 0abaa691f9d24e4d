"""Too much of everything at a real node's real socket: memory and disk stay bounded, and the
channel with another peer goes on while it lasts.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest
import trio
from attacker import (
    DELTA_AT_US,
    HostileLog,
    Line,
    Usage,
    World,
    delta,
    emit,
    watched,
)
from nacl.signing import SigningKey

from tallystick.node.founding import first_head
from tallystick.node.transport import tls
from tallystick.protocol.blinding import EPOCH_SECONDS
from tallystick.protocol.errors import TallyError
from tallystick.protocol.framing import frame
from tallystick.protocol.heads import sign_head
from tallystick.protocol.items import SEALED_SIZE, Carried, Conflict, Item, signed_bytes
from tallystick.protocol.messages import (
    APPEND_RECORDS_MAX,
    FRAME_BYTES_MAX,
    Append,
    Channels,
    Cosign,
    Difference,
    Halt,
    Hearsay,
    Hello,
    Message,
    Ping,
    Presence,
    ProposeCheckpoint,
    ProposeTerms,
    RefuseCheckpoint,
    SignCheckpoint,
    StatementPage,
    TermsHeld,
    TermsRefused,
    WantPage,
    encode_message,
)
from tallystick.protocol.records import Delta, encode_record

MEMORY_BYTES_MAX = 64 * 1024 * 1024
DISK_BYTES_MAX = 1024 * 1024
LOG_CHARACTERS_MAX = 64 * 1024
FLOOD_SECONDS = 0.4
SOCKETS = 2000


@contextmanager
def suppress_tally() -> Iterator[None]:
    """What breaks at the attacker's end is its own business."""
    try:
        yield
    except* TallyError:
        pass


def _bytes(*messages: Message) -> bytes:
    return b"".join(frame(encode_message(message)) for message in messages)


@contextmanager
def _bounded(world: World, disk_bytes: int = DISK_BYTES_MAX) -> Iterator[Usage]:
    logged = len(world.log_text())
    with watched(world.acme) as usage:
        yield usage
    assert len(world.log_text()) - logged <= LOG_CHARACTERS_MAX
    assert usage.memory_bytes <= MEMORY_BYTES_MAX
    assert usage.disk_bytes <= disk_bytes
    assert "Traceback" not in world.log_text()


Make = Callable[[HostileLog], bytes]
FLOODS: dict[str, Make] = {
    "pings": lambda log: _bytes(Ping()) * 5000,
    "lists of channels": lambda log: _bytes(Channels([])) * 5000,
    "holdings": lambda log: _bytes(log.holding()) * 2000,
    "terms held": lambda log: b"".join(_bytes(TermsHeld(os.urandom(32))) for _ in range(2000)),
    "terms refused": lambda log: b"".join(
        _bytes(TermsRefused(os.urandom(32), "x" * 1000)) for _ in range(200)
    ),
    "known terms": lambda log: _bytes(_offer(log)) * 500,
    "pages wanted": lambda log: _bytes(WantPage(log.channel, bytes(32), 0)) * 2000,
    "pages": lambda log: (
        _bytes(StatementPage(log.channel, bytes(32), 0, [bytes(99)] * 256, False)) * 20
    ),
    "differences": lambda log: _bytes(Difference(log.channel, bytes(32), b"", b"")) * 2000,
    "answers": lambda log: (
        (
            _bytes(SignCheckpoint(log.channel, bytes(32), bytes(64)))
            + _bytes(RefuseCheckpoint(log.channel, bytes(32), "no"))
        )
        * 1000
    ),
    "presences asked for": lambda log: (
        _bytes(Presence(b"attacker".ljust(16), 0, True, None)) * 2000
    ),
    "strangers' heads": lambda log: b"".join(
        _bytes(Hearsay([Carried(0, _strange_item()) for _ in range(60)], [])) for _ in range(20)
    ),
    "forged heads": lambda log: _bytes(Hearsay([Carried(0, _forged_item())] * 60, [])) * 50,
    "forged conflicts": lambda log: (
        _bytes(Hearsay([], [Conflict(0, _forged_item(), _forged_item())] * 8)) * 200
    ),
}


def _strange_item() -> Item:
    """An item whose signature holds, by a pseudonym that nobody knows."""
    key = SigningKey.generate()
    epoch, rank, both = int(time.time()) // EPOCH_SECONDS, 7, os.urandom(32 + SEALED_SIZE)
    commitment, sealed = both[:32], both[32:]
    message = signed_bytes(epoch, bytes(key.verify_key), rank, commitment, sealed)
    signature = key.sign(message).signature
    return Item(epoch, bytes(key.verify_key), rank, commitment, sealed, signature)


def _forged_item() -> Item:
    return msgspec.structs.replace(_strange_item(), commitment=os.urandom(32))


def _offer(log: HostileLog) -> ProposeTerms:
    signature = sign_head(first_head(log.identity.name, log.terms), log.identity.signer("log"))
    return ProposeTerms(encode_record(log.terms), signature)


UNREAD = ("known terms", "pages wanted", "pings")  # asked, and the answers are not taken


@pytest.mark.parametrize("flood", [*FLOODS, *(f"{name}, unread" for name in UNREAD)])
async def test_a_flood_of_messages(world: World, flood: str) -> None:
    name, _, unread = flood.partition(", ")
    data = FLOODS[name](world.shared)
    with _bounded(world):
        async with (
            world.attacker.line(world.shared, read=not unread) as line,
            trio.open_nursery() as n,
        ):
            n.start_soon(line.flood, data, FLOOD_SECONDS)
            await world.goes_on_elsewhere()
    assert world.status(world.shared.channel)["state"] != "halted"


async def test_a_flood_of_halts_is_written_down_once(world: World) -> None:
    log = world.fresh()
    data = b"".join(_bytes(Halt(log.channel, str(n))) for n in range(1000))
    with _bounded(world):
        async with world.attacker.line(log) as line, trio.open_nursery() as nursery:
            nursery.start_soon(line.flood, data, FLOOD_SECONDS)
            await world.goes_on_elsewhere()
    assert (await world.halted(log))["reason"] == "the peer halted it: 0"


async def test_a_flood_of_wrong_checkpoints(world: World) -> None:
    """Each takes a statement to answer; they are answered one by one, with rests."""
    log = world.fresh()
    proposal = ProposeCheckpoint(log.channel, "nonsense", bytes(64), True, b"")
    with _bounded(world):
        async with world.attacker.line(log) as line, trio.open_nursery() as nursery:
            nursery.start_soon(line.flood, _bytes(proposal) * 500, FLOOD_SECONDS)
            await line.halted(log.channel)
            await world.goes_on_elsewhere()


async def test_the_largest_batches_of_the_smallest_records(world: World) -> None:
    log = world.fresh()
    with _bounded(world, 32 * 1024 * 1024) as usage:
        async with world.attacker.line(log) as line, trio.open_nursery() as nursery:
            for batch in range(2):
                records = [_smallest(f"{batch:x}.{n:x}") for n in range(APPEND_RECORDS_MAX)]
                nursery.start_soon(line.say, log.extend(*records))
                await world.goes_on_elsewhere()
            await _cosigned(line, log)
        status = world.status(log.channel)
    assert status["theirs"]["cosigned"] == log.state.size > 2 * APPEND_RECORDS_MAX
    assert usage.disk_bytes <= status["quota"]["held_bytes"] + DISK_BYTES_MAX


def _smallest(name: str) -> Delta:
    """Its subject is its own, so it makes a balance line as well."""
    return Delta(name, "counted", name, 1, DELTA_AT_US, DELTA_AT_US, None)


async def _cosigned(line: Line, log: HostileLog) -> None:
    while (heard := await line.until(Cosign, log.channel)).size < log.state.size:
        line.heard.remove(heard)


async def test_more_records_in_one_message_than_are_allowed(world: World) -> None:
    log = world.fresh()
    with _bounded(world):
        async with world.attacker.line(log) as line:
            records = [_smallest(f"{n:x}") for n in range(APPEND_RECORDS_MAX + 1)]
            await line.say(log.fork(*records))
            assert await line.gone() == "malformed"
        await world.goes_on_elsewhere()


async def test_many_small_batches_take_no_more_disk_than_they_count(world: World) -> None:
    log = world.fresh()
    held = world.status(log.channel)["quota"]["held_bytes"]
    with _bounded(world) as usage:
        async with world.attacker.line(log) as line:
            for n in range(100):
                await line.say(log.extend(delta(f"small-{n}")))
            await world.goes_on_elsewhere()
            await _cosigned(line, log)
    counted = world.status(log.channel)["quota"]["held_bytes"] - held
    assert counted >= 100 * 512
    assert usage.disk_bytes <= counted + 256 * 1024  # the store's own pages


async def test_the_largest_frame_and_a_larger_one(world: World) -> None:
    with _bounded(world):
        for size, sent in ((FRAME_BYTES_MAX, FRAME_BYTES_MAX), (FRAME_BYTES_MAX + 1, 100)):
            async with world.attacker.line() as line, trio.open_nursery() as nursery:
                nursery.start_soon(_quietly, line, size.to_bytes(4, "big") + b"\xc1" * sent)
                await world.goes_on_elsewhere()
                assert await line.gone() == "malformed"


async def _quietly(line: Line, data: bytes) -> None:
    """Send what may not all be taken."""
    try:
        await line.raw(data)
    except TallyError:
        line.closed = True


async def test_a_peer_that_never_reads(world: World) -> None:
    log = world.fresh()
    for batch in range(8):
        ids = [f"{batch}-{n}-{'x' * 100}" for n in range(4096)]
        await emit(world.acme, log.channel.hex(), ids)
    with _bounded(world):
        async with world.attacker.line(log, read=False) as line:
            for _ in range(3):
                await line.say(log.extend(delta(f"unread-{log.state.size}")))
                await world.goes_on_elsewhere()
                await trio.sleep(0.2)
    # What it did not read it gets on another day.
    async with world.attacker.line(log) as line:
        assert (await line.until(Append, log.channel)).first == 0


async def test_a_peer_that_writes_a_byte_at_a_time_keeps_nobody_out(world: World) -> None:
    hello = _bytes(world.attacker.hello())
    with _bounded(world):
        async with world.attacker.bare() as slow:
            for byte in hello[:-1]:
                await slow.raw(bytes([byte]))
            await world.goes_on_elsewhere()
            async with world.attacker.line() as line:  # the same peer, in earnest
                await line.until(Hello)
                await slow.gone()


def _sockets(world: World, count: int, source: str) -> list[socket.socket]:
    """Connections that say nothing."""
    host, port = world.acme.address.rsplit(":", 1)
    opened = []
    for _ in range(count):
        raw = socket.socket()
        raw.setblocking(False)
        raw.bind((source, 0))
        with suppress(BlockingIOError):
            raw.connect((host, int(port)))
        opened.append(raw)
    return opened


def _open(sockets: list[socket.socket]) -> int:
    """How many of them the node has not closed."""
    count = 0
    for raw in sockets:
        try:
            count += raw.recv(1) != b""
        except BlockingIOError:
            count += 1
        except ConnectionError:
            continue
    return count


async def test_thousands_of_connections_from_one_address(world: World) -> None:
    with _bounded(world):
        sockets = _sockets(world, SOCKETS, "127.0.0.2")
        try:
            await world.goes_on_elsewhere()
            with trio.fail_after(60):
                while _open(sockets) > 32:
                    await trio.sleep(0.05)
            async with world.attacker.line() as line:  # from another address
                await line.until(Hello)
            await world.goes_on_elsewhere()
            # Those that came in and say nothing are sent away as well.
            with trio.fail_after(60):
                while _open(sockets):
                    await trio.sleep(0.05)
        finally:
            for raw in sockets:
                raw.close()


async def test_strangers_in_all_are_bounded(world: World) -> None:
    with _bounded(world):
        sockets = [s for n in range(3, 9) for s in _sockets(world, 40, f"127.0.0.{n}")]
        try:
            with trio.fail_after(60):
                while _open(sockets) > 128:
                    await trio.sleep(0.05)
            await world.goes_on_elsewhere()
        finally:
            for raw in sockets:
                raw.close()


async def test_many_sessions_of_one_peer_are_one(world: World) -> None:
    lines: list[Line] = []

    async def one() -> None:
        with suppress_tally():
            async with world.attacker.line() as line:
                lines.append(line)
                await trio.sleep_forever()

    with _bounded(world):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
            await world.goes_on_elsewhere()
            with trio.fail_after(60):
                while len(lines) < 2 or sum(not line.closed for line in lines) > 1:
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()


async def test_a_peer_that_reconnects_in_a_loop(world: World) -> None:
    async def again_and_again() -> None:
        while True:
            with suppress_tally():
                async with world.attacker.line(read=False):
                    pass

    with _bounded(world):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again_and_again)
            for _ in range(3):
                await world.goes_on_elsewhere()
                await trio.sleep(0.2)
            nursery.cancel_scope.cancel()


async def test_strangers_who_try_codes(world: World) -> None:
    """After a minute's worth of tries at once they are turned away without a word."""
    context = tls.pairing_context()
    answered = 0
    with _bounded(world):
        for _ in range(70):
            try:
                stream = await tls.dial(world.acme.address, context, world.attacker.acme_key, 10)
            except TallyError:
                continue
            answered += bool(await stream.receive())
            await trio.aclose_forcefully(stream._stream.transport_stream)
        await world.goes_on_elsewhere()
    assert 50 <= answered <= 66
