"""What two channels on real stores may say of disputes, whatever the order; for random worlds."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from tallystick.node.channel import Channel
from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.records import (
    Answer,
    Attested,
    Close,
    Dispute,
    Lapse,
    Reminder,
    Resolution,
    Withdrawal,
    record_digest,
)


def earlier(channel: Channel) -> list[tuple[int, int]]:
    """Some sizes of both logs since the newest closing is in both."""
    logs = (channel.provider_log, channel.consumer_log)
    now = (logs[0].durable_size, logs[1].durable_size)
    said = [
        [index for index, record in log.matters(size) if isinstance(record, Close)] or [0]
        for log, size in zip(logs, now, strict=True)
    ]
    first = (said[0][-1] + 1, said[1][-1] + 1)
    middle = ((first[0] + now[0]) // 2, (first[1] + now[1]) // 2)
    return [(first[0], now[1]), (now[0], first[1]), middle]


async def dispute(channel: Channel, meter: str, october: bool, amount: int) -> None:
    """Dispute a line of October or November."""
    at, period = channel.now_recorded_at(), "2026-10" if october else "2026-11"
    await channel.append_own(Dispute(period, meter, "x", amount, "quantity", "so", (), at))


async def say(channel: Channel, what: str, number: int, amount: int) -> None:
    """Say something of one of the disputes that are there."""
    disputes = [
        (log, record)
        for log in (channel.own, channel.peer)
        for _, record in log.matters(log.durable_size)
        if isinstance(record, Dispute)
    ]
    if not disputes:
        return
    log, record = disputes[number % len(disputes)]
    digest, at = record_digest(record), channel.now_recorded_at()
    if what == "answer":
        part = 0 if log is channel.own else amount
        await channel.append_own(Answer(digest, part, "counted so", (), at))
    elif what == "resolve":
        await channel.append_own(Resolution(digest, number, "agreed", at))
    elif log is channel.own:
        await channel.append_own(Withdrawal(digest, "our mistake", at))


async def lapse(channel: Channel, pass_month: Callable[[], Awaitable[None]], number: int) -> None:
    """Let one of the channel's own records that wait lapse: it is co-signed twice, with a month in
    between, which `pass_month` brings about on both clocks after it has exchanged all records.
    """
    own = channel.own
    waits = Close | Dispute | Answer
    waiting = [n for n, record in own.matters(own.durable_size) if isinstance(record, waits)]
    if waiting:
        await _lapse(channel, pass_month, waiting[number % len(waiting)], number % 3)


async def accept(channel: Channel, pass_month: Callable[[], Awaitable[None]]) -> None:
    """Let the channel's own newest close lapse, so that its checkpoint is accepted."""
    own = channel.own
    closes = [n for n, record in own.matters(own.durable_size) if isinstance(record, Close)]
    await _lapse(channel, pass_month, closes[-1], 0)


async def _lapse(
    channel: Channel, pass_month: Callable[[], Awaitable[None]], index: int, less: int
) -> None:
    """Let a record lapse, if it may; its author says that it had so much less of the other log."""
    own = channel.own
    with contextlib.suppress(InvalidRecord):
        heads = []
        for _ in range(2):
            await channel.append_own(Reminder(index, channel.now_recorded_at()))
            await pass_month()
            with channel.store.read() as txn:
                row = own.head_row(txn, own.durable_size)
            assert row is not None
            heads.append(Attested(own.durable_size, row.root, row.cosignature))
        had = max(channel.peer.durable_size - less, 0)
        await channel.append_own(Lapse(index, *heads, had, channel.now_recorded_at()))
