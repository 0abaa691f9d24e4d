"""What a hostile peer says of disputes at a real node's socket: what halts, what is harmless."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from attacker import DELTA_AT_US, HostileLog, Line, World, call, delta, emit

from tallystick.node import queries
from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.worklist import worklist
from tallystick.protocol.errors import InputError
from tallystick.protocol.heads import cosign_head
from tallystick.protocol.messages import Cosign
from tallystick.protocol.records import (
    INT64_MAX,
    INT64_MIN,
    Answer,
    Attested,
    Dispute,
    Lapse,
    Named,
    Record,
    Reminder,
    Resolution,
    Withdrawal,
    encode_record,
    record_digest,
)

HOUR = "2026-09-21T14"
FLOOD, FLOODS = 1000, 4


def _dispute(amount: int, subject: str = "s", n: int = 0, period: str = HOUR) -> Dispute:
    named = (Named("provider", 1),)
    return Dispute(period, "counted", subject, amount, "other", f"so {n}", named, DELTA_AT_US)


async def _cosigned(line: Line, log: HostileLog, *records: Record) -> Attested:
    """Have acme co-sign the attacker's log with these records."""
    await line.say(log.extend(*records))
    size = log.state.size
    while (found := await line.until(Cosign, log.channel)).size < size:
        line.heard.remove(found)
    return Attested(size, log.state.frontier.root(), found.cosignature)


def _premature(log: HostileLog, had: Attested) -> Record:
    return Lapse(had.size - 1, had, had, 0, DELTA_AT_US)


def _forged(log: HostileLog, had: Attested) -> Record:
    """The second co-signature is the attacker's own, dated when it would like."""
    at_s = int.from_bytes(had.cosignature[:8], "big") + 40 * 86_400
    blob = cosign_head(log.head(had.size, had.root), log.identity.signer("cosigner"), at_s)
    return Lapse(had.size - 1, had, Attested(had.size, had.root, blob), 0, DELTA_AT_US)


LIES: dict[str, tuple[Callable[[HostileLog, Attested], Record], str]] = {
    "a premature lapse": (_premature, "are to pass"),
    "a lapse with a forged co-signature": (_forged, "its head"),
    "a withdrawal of nothing": (
        lambda log, had: Withdrawal(bytes(32), "never mind", DELTA_AT_US),
        "not in this log",
    ),
    "a dispute of no period": (
        lambda log, had: _dispute(1, period="yesterday"),
        "not a hour",
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_about_a_dispute_halts_its_channel_and_is_not_kept(
    world: World, lie: str
) -> None:
    make, said = LIES[lie]
    log = world.fresh()
    async with world.attacker.line(log) as line:
        had = await _cosigned(line, log, _dispute(5))
        await line.say(log.fork(make(log, had)))
        reason = await line.halted(log.channel)
    assert re.search(said, reason), reason
    assert (await world.halted(log))["theirs"]["size"] == log.state.size
    await world.goes_on_elsewhere()


async def test_disputes_of_nothing_and_of_too_much_change_no_balance_that_they_may_not(
    world: World,
) -> None:
    log = world.fresh()
    channel = log.channel.hex()
    await emit(world.acme, channel, ["c1"], "counted")
    real = _dispute(INT64_MAX)
    async with world.attacker.line(log) as line:
        await _cosigned(
            line,
            log,
            delta("c1"),
            real,
            _dispute(INT64_MIN, n=1),
            _dispute(7, subject="nobody"),
            Answer(bytes(32), INT64_MIN, "to whom?", (Named("provider", INT64_MAX),), DELTA_AT_US),
            Resolution(bytes(range(32)), INT64_MAX, "of what?", DELTA_AT_US),
            Answer(record_digest(real), 0, "I insist", (), DELTA_AT_US),
            Reminder(2, DELTA_AT_US),
        )
    assert world.status(log.channel)["state"] != "halted"
    books = Books.open(open_home(world.acme.home), read_only=True)
    try:
        found, closer = books.channels[log.channel]
        lines = queries.derive(found, closer)["lines"]
        listed = worklist([found], settled=True)["disputes"]
    finally:
        books.close()
    ours = next(line for line in lines if line["subject"] == "s" and line["meter"] == "counted")
    assert ours["payable"] == "0"
    assert sorted(one["amount"] for one in listed) == sorted([str(INT64_MAX), str(INT64_MIN), "7"])
    assert {one["state"] for one in listed} == {"open"}
    # They are answered as any other.
    record = encode_record(Answer(record_digest(real), 1, "that one", (), 0))
    said = await call(world.acme, "say", channel=channel, record=record)
    assert said["again"] is False
    with pytest.raises(InputError, match="no such dispute"):
        unknown = encode_record(Answer(bytes(32), 1, "none", (), 0))
        await call(world.acme, "say", channel=channel, record=unknown)
    await world.goes_on_elsewhere()


async def test_a_flood_of_disputes_counts_against_the_quota_and_stops_nothing(
    world: World,
) -> None:
    log = world.fresh()
    before = world.status(log.channel)["quota"]["held_bytes"]
    async with world.attacker.line(log) as line:
        sent = 0
        for n in range(FLOODS):
            flood = [_dispute(1, f"s{n}-{m}", m) for m in range(FLOOD)]
            sent += sum(len(encode_record(one)) for one in flood)
            await _cosigned(line, log, *flood)
        await world.goes_on_elsewhere()
    assert world.status(log.channel)["quota"]["held_bytes"] - before > 2 * sent
    books = Books.open(open_home(world.acme.home), read_only=True)
    try:
        found, _ = books.channels[log.channel]
        assert len(worklist([found], settled=False)["disputes"]) == FLOOD * FLOODS
    finally:
        books.close()
