"""Each lie of a peer at a real node's real socket: what stops, what is kept, and what goes on."""

from __future__ import annotations

import re
from collections.abc import Callable

import nodes
import pytest
from attacker import DELTA_AT_US, HostileLog, Line, World, call, delta, emit
from builders import identity

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.protocol.framing import frame
from tallystick.protocol.heads import cosign_head
from tallystick.protocol.messages import (
    Append,
    Bye,
    Channels,
    Cosign,
    Halt,
    Holding,
    Message,
    Return,
    encode_message,
)
from tallystick.protocol.records import (
    BATCH_HEADER_SIZE,
    Close,
    Correction,
    Epoch,
    Record,
    Rotation,
    batch_bytes,
    batch_count,
    encode_record,
)

YEAR_2100_S = 4_102_444_800

Lie = Callable[[HostileLog], Append]


def _invalid(*records: Record) -> Lie:
    return lambda log: log.fork(*records)


def _head_without_records(log: HostileLog) -> Append:
    """The signature is on a head of one record more than is sent."""
    longer = log.fork(delta("a"), delta("b"))
    return Append(longer.channel, longer.first, batch_bytes([encode_record(delta("a"))]),
                  longer.signature)  # fmt: skip


def _another_head(log: HostileLog) -> Append:
    honest = log.fork(delta("a"))
    signature = log.sign(honest.first + 1, bytes(32))
    return Append(honest.channel, honest.first, honest.batch, signature)


def _not_canonical(log: HostileLog) -> Append:
    honest = log.fork(delta("a"))
    header, record = honest.batch[:BATCH_HEADER_SIZE], honest.batch[BATCH_HEADER_SIZE:]
    data = header + b"\xdc\x00\x08" + record[1:]
    return Append(honest.channel, honest.first, data, honest.signature)


def _count_that_lies(log: HostileLog) -> Append:
    honest = log.fork(delta("a"))
    data = b"\xdd" + (9).to_bytes(4, "big") + honest.batch[BATCH_HEADER_SIZE:]
    return Append(honest.channel, honest.first, data, honest.signature)


LIES: dict[str, tuple[Lie, str]] = {
    "a head without its records": (_head_without_records, "head"),
    "a head of other records": (_another_head, "head"),
    "another spelling": (_not_canonical, "canonical|not a batch"),
    "a count that lies": (_count_that_lies, "not a batch"),
    "an unknown meter": (_invalid(delta("a", "nothing")), "does not record the meter"),
    "the other's meter": (_invalid(delta("a", "used")), "does not record the meter"),
    "out of range": (_invalid(delta("a", quantity=2**40)), "outside the range"),
    "an id twice": (_invalid(delta("a"), delta("a")), "there twice"),
    "time that goes back": (
        _invalid(delta("a"), delta("b", recorded_at=DELTA_AT_US - 1)),
        "goes back",
    ),
    "a control character": (_invalid(delta("a\x1b[2J")), "control character"),
    "a correction of nothing": (
        _invalid(Correction("zz", "counted", 1, "why", DELTA_AT_US)),
        "not recorded",
    ),
    "a forged checkpoint": (_invalid(Close(b"forged\n", DELTA_AT_US)), "record 1"),
    "a wrong epoch": (
        _invalid(Epoch(7, 0, bytes(32), 0, b"", "why", DELTA_AT_US)),
        "does not follow",
    ),
    "a forged key": (
        _invalid(
            Rotation("consumer", "log", 1, bytes(32), 0, bytes(64), bytes(64), DELTA_AT_US)
        ),
        "record 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_about_records_halts_its_channel_and_stores_nothing(
    world: World, lie: str
) -> None:
    make, said = LIES[lie]
    log = world.fresh()
    async with world.attacker.line(log) as line:
        await line.say(make(log))
        reason = await line.halted(log.channel)
        # The same connection goes on, and so does every other channel on it.
        honest = world.shared.extend(delta(f"beside {lie}"))
        await line.until(Holding, world.shared.channel)
        await line.say(world.shared.holding(), honest)
        assert (await line.until(Cosign, world.shared.channel)).size == world.shared.state.size
    assert re.search(said, reason), reason
    status = await world.halted(log)
    assert status["theirs"]["size"] == log.state.size
    assert status["reason"]
    await world.goes_on_elsewhere()


async def test_a_fork_halts_and_keeps_what_was_agreed(world: World) -> None:
    log = world.fresh()
    before = log.state
    async with world.attacker.line(log) as line:
        await line.say(log.extend(delta("agreed")))
        assert (await line.until(Cosign, log.channel)).size == log.state.size
        await line.say(log.fork(delta("denied"), state=before))
        await line.halted(log.channel)
    status = await world.halted(log)
    assert status["theirs"]["size"] == log.state.size
    assert status["theirs"]["cosigned"] == log.state.size
    await world.goes_on_elsewhere()


async def test_a_rollback_is_answered_with_the_records_that_were_taken_back(world: World) -> None:
    log = world.fresh()
    forgotten = log.state
    async with world.attacker.line(log) as line:
        await line.say(log.extend(delta("taken back")))
        await line.until(Cosign, log.channel)
    now, log.state = log.state, forgotten
    async with world.attacker.line(log) as line:  # says that its log is shorter than it was
        returned = await line.until(Return, log.channel)
        assert (returned.first, returned.batch[BATCH_HEADER_SIZE:]) == (
            forgotten.size,
            encode_record(delta("taken back")),
        )
        await line.say(log.fork(delta("instead")))
        await line.halted(log.channel)
    assert (await world.halted(log))["theirs"]["size"] == now.size
    await world.goes_on_elsewhere()


COSIGNATURES = {
    "of another head": lambda log, size, root: (log.identity, root[::-1], 1),
    "by a key that is not in force": lambda log, size, root: (None, root, 1),
    "by a stranger": lambda log, size, root: (identity("beta.example"), root, 1),
}


@pytest.mark.parametrize("lie", COSIGNATURES)
async def test_a_cosignature_of_something_else_halts_and_is_not_kept(
    world: World, lie: str
) -> None:
    log = world.fresh()
    size = await emit(world.acme, log.channel.hex(), ["receipt"])
    async with world.attacker.line(log) as line:
        root = await _sent(line, world, log, size)
        who, root, at_s = COSIGNATURES[lie](log, size, root)
        signer = who.signer("cosigner") if who else log.identity.signer("cosigner", 1)
        head = log.head(size, root, world.acme.name)
        await line.say(Cosign(log.channel, size, cosign_head(head, signer, at_s)))
        assert "co-signature does not hold" in await line.halted(log.channel)
    status = await world.halted(log)
    assert status["own"]["size"] == size
    assert status["own"]["cosigned"] < size
    await world.goes_on_elsewhere()


async def _sent(line: Line, world: World, log: HostileLog, size: int) -> bytes:
    """Wait until acme has sent its log up to a size; the root of its head there."""
    sent = 0
    while sent < size:
        append = await line.until(Append, log.channel)
        line.heard.remove(append)
        sent = append.first + batch_count(append.batch)
    books = Books.open(open_home(world.acme.home), read_only=True)
    try:
        return books.channels[log.channel][0].own.root_at(size)
    finally:
        books.close()


@pytest.mark.parametrize("at_s", [YEAR_2100_S, 2**63 - 1])
async def test_a_cosignature_from_the_future_counts_for_what_it_says(
    world: World, at_s: int
) -> None:
    """A clock makes nothing invalid: the co-signer is bound by what it signed."""
    log = world.fresh()
    size = await emit(world.acme, log.channel.hex(), ["receipt"])
    async with world.attacker.line(log) as line:
        root = await _sent(line, world, log, size)
        head = log.head(size, root, world.acme.name)
        signer = log.identity.signer("cosigner")
        await line.say(Cosign(log.channel, size, cosign_head(head, signer, at_s)))
        await call(world.acme, "wait", channel=log.channel.hex(), size=size, seconds=10.0)
    # Who waits need not wait for our disk to keep the co-signature.
    nodes.wait_until(lambda: world.status(log.channel)["own"]["cosigned"] == size)
    assert world.status(log.channel)["state"] != "halted"
    assert world.acme.json("show", "receipt", "--channel", log.channel.hex())["deltas"]


async def test_a_recorded_session_that_is_sent_again_changes_nothing(world: World) -> None:
    log = world.fresh()
    recorded: list[Message] = [
        world.attacker.hello(),
        world.attacker.presence(),
        Channels([log.channel]),
        log.holding(),
    ]
    recorded += [log.extend(delta(f"recorded-{n}")) for n in range(3)]
    data = b"".join(frame(encode_message(message)) for message in recorded)
    async with world.attacker.bare() as line:
        await line.raw(data)
        while (await line.until(Cosign, log.channel)).size < log.state.size:
            line.heard.remove(await line.until(Cosign, log.channel))
    held = world.status(log.channel)["theirs"]
    async with world.attacker.bare() as line:
        await line.raw(data)
        assert await line.gone() == "rewriting"
    status = world.status(log.channel)
    assert status["state"] != "halted"
    assert status["theirs"] == held
    await world.goes_on_elsewhere()


async def test_another_parties_channel_cannot_be_spoken_of(world: World) -> None:
    elsewhere = bytes.fromhex(world.elsewhere)
    before = world.status(elsewhere)["theirs"]
    stranger = HostileLog(
        world.attacker.identity, elsewhere, world.shared.terms, world.shared.state
    )
    for lie in (stranger.fork(delta("smuggled")), stranger.holding()):
        async with world.attacker.line() as line:
            await line.say(lie)
            assert await line.gone() == "wrong-channel"
    assert world.status(elsewhere)["theirs"] == before
    assert world.status(elsewhere)["state"] != "halted"
    await world.goes_on_elsewhere()


async def test_a_halt_is_taken_once_and_its_words_are_made_plain(world: World) -> None:
    log = world.fresh()
    async with world.attacker.line(log) as line:
        await line.say(Halt(log.channel, "one\x1b[2J"), Halt(log.channel, "two"))
        await line.say(Bye("done\r", "gone\x07"))
        await line.gone()
    assert (await world.halted(log))["reason"] == "the peer halted it: one [2J"
    assert "\x1b" not in world.log_text()
    assert "\x07" not in world.log_text()
    await world.goes_on_elsewhere()
