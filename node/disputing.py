"""Disputes between two logs: where each stands, what is said of it, what waits and until when.

Where a dispute stands follows from both logs (`protocol.disputes`); here it is found by the
beginning of its digest, what is said (`filing` makes it) is recorded unless our log says it
already, and what waits for somebody gets the time until when, by the co-signature that shows when
the peer had it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tallystick.node.attesting import until_s
from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.disputes import PENDING, Standing, disputed_lines, standings
from tallystick.protocol.errors import InputError, InvalidRecord, UnknownName
from tallystick.protocol.matters import Said
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import (
    Answer,
    Close,
    Dispute,
    DisputeCode,
    Lapse,
    Meter,
    Resolution,
    Role,
    Withdrawal,
    record_digest,
)

# The codes of electronic invoicing: Peppol's list OPStatusReason, of the Invoice Response.
PEPPOL_LIST = "OPStatusReason"
PEPPOL_CODES: dict[DisputeCode, str] = {"quantity": "QTY", "reference": "REF", "other": "OTH"}

NAME_LENGTH = 8  # hex digits of a digest that people read

Sayable = Dispute | Answer | Resolution | Withdrawal


def scale_of(meter: Meter) -> int:
    """The decimal places of a meter's balance."""
    return 0 if meter.aggregate == "count" else meter.scale


def standing_all(channel: Channel) -> list[Standing]:
    """Where every dispute of a channel stands, by what is durable here."""
    sizes = channel.provider_log.durable_size, channel.consumer_log.durable_size
    return standings_at(channel, *sizes)


def standings_at(channel: Channel, provider_size: int, consumer_size: int) -> list[Standing]:
    """Where the disputes stand that both logs have up to these sizes."""
    provider, consumer = channel.provider_log, channel.consumer_log
    return _standings(channel, provider.matters(provider_size), consumer.matters(consumer_size))


def _standings(
    channel: Channel, provider: Sequence[Said], consumer: Sequence[Said]
) -> list[Standing]:
    """Where disputes stand by these matters and the balances here."""
    calendar = channel.own.folder.calendar
    lines = disputed_lines(calendar, [*provider, *consumer])
    return standings(channel.terms, calendar, provider, consumer, channel.moves(lines))


def log_of(channel: Channel, role: Role) -> ChannelLog:
    """The log of a role."""
    return channel.own if channel.role == role else channel.peer


def find(channels: Sequence[Channel], name: str) -> tuple[Channel, Standing]:
    """The dispute whose digest begins so, among those of some channels.

    The peer may hold a copy of one of ours, with the same digest: then ours is meant.
    """
    found = {
        (channel.id, one.digest): (channel, one)
        for channel in channels
        for one in sorted(standing_all(channel), key=lambda one: one.role == channel.role)
        if name and one.digest.hex().startswith(name.lower())
    }
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        listed = ", ".join(digest.hex()[:16] for _, digest in list(found)[:4])
        raise InputError(f"several disputes begin with {name!r}: {listed}", "Give more of it")
    raise UnknownName(f"no dispute begins with {name[:80]!r}", "See: tally disputes --all")


# Saying something in our log


@dataclass(frozen=True, slots=True)
class Spoken:
    """A record of ours about a dispute: its index, the dispute's digest, and whether our log had
    it already.
    """

    index: int
    dispute: bytes
    again: bool


async def say(channel: Channel, record: Sayable) -> Spoken:
    """Record what a person says of a dispute, unless our log says it already; durable on return."""
    before: tuple[int, bytes] | None = None

    def make() -> Sayable | None:
        nonlocal before, record
        record = msgspec.structs.replace(record, recorded_at=channel.now_recorded_at())
        while isinstance(record, Dispute) and _digest_taken(channel, record):
            # Of two with one digest only one counts, so that one filed anew needs its own.
            record = msgspec.structs.replace(record, recorded_at=record.recorded_at + 1)
        before = said_before(channel, record)
        return None if before else record

    try:
        index = await channel.append_made(make)
    except InvalidRecord as error:
        raise InputError(error.message, error.advice) from None
    if before is not None:
        return Spoken(*before, True)
    assert index is not None
    digest = record_digest(record) if isinstance(record, Dispute) else record.dispute
    return Spoken(index, digest, False)


def _digest_taken(channel: Channel, record: Dispute) -> bool:
    digest = record_digest(record)
    return any(log.index_of(digest) is not None for log in (channel.own, channel.peer))


def said_before(channel: Channel, record: Sayable) -> tuple[int, bytes] | None:
    """Where our log says the same already, and the digest of the dispute that it is about.

    `InputError` if it cannot be said (any more): the dispute is settled, or the other side's to
    withdraw.
    """
    if isinstance(record, Dispute):
        return _filed_before(channel, record)
    named = [one for one in standing_all(channel) if one.digest == record.dispute]
    if not named:
        raise InputError("there is no such dispute", "See: tally disputes --all")
    one = max(named, key=lambda one: one.role == channel.role)  # a copy of ours is not meant
    found = _newest(channel, record)
    if found is not None and _same(found[1], record):
        return found[0], one.digest
    name = one.digest.hex()[:NAME_LENGTH]
    if one.state not in PENDING:
        raise InputError(f"dispute {name} is settled: it is {one.state}", "See: tally disputes -a")
    ours = one.role == channel.role
    peer = channel.peer_keys.name
    if isinstance(record, Withdrawal) and not ours:
        raise InputError(f"dispute {name} is {peer}'s", "Only who filed a dispute withdraws it")
    if isinstance(record, Answer) and ours and one.state == "open":
        raise InputError(
            f"{peer} has not answered dispute {name} yet", "There is nothing to insist against"
        )
    return None


def waits_already(channel: Channel, record: Dispute) -> tuple[int, bytes] | None:
    """Where our log has the same dispute, still pending, and its digest."""
    for one in standing_all(channel):
        if one.role == channel.role and one.state in PENDING and _same(one.dispute, record):
            return one.index, one.digest
    return None


def _filed_before(channel: Channel, record: Dispute) -> tuple[int, bytes] | None:
    found = waits_already(channel, record)
    if found is not None:
        return found
    own = channel.own
    halves = {log.role: log.matters(log.durable_size) for log in (own, channel.peer)}
    size = own.state.size
    halves[own.role] = [*halves[own.role], (size, record)]
    after = _standings(channel, halves["provider"], halves["consumer"])
    new = next(one for one in after if one.role == own.role and one.index == size)
    if new.state == "barred" and new.lapse is not None:
        accepted = _accepted(log_of(channel, new.lapse[0]), new.lapse[1])
        raise InputError(
            f"{record.period} was not disputed in time: the checkpoint of {accepted} is accepted,"
            " and a dispute of this line has no effect any more",
            f"See: tally certificate {accepted} --theirs",
        )
    return None


def _accepted(log: ChannelLog, at: int) -> str:
    """The period of the checkpoint whose lapse is at an index of a log."""
    lapse = log.record(at)
    assert isinstance(lapse, Lapse)
    close = log.record(lapse.index)
    assert isinstance(close, Close)
    return parse_checkpoint(parse_note(close.checkpoint).text).period


def _newest(
    channel: Channel, record: Answer | Resolution | Withdrawal
) -> tuple[int, Answer | Resolution | Withdrawal] | None:
    """The newest record of our log that says the same kind of thing of the same dispute."""
    kind = type(record)
    for index, said in reversed(channel.own.matters(channel.own.durable_size)):
        if type(said) is kind and said.dispute == record.dispute:
            return index, said
    return None


def _same(before: Sayable, now: Sayable) -> bool:
    """Whether two records say the same, apart from when and, for a settlement, why."""
    if isinstance(before, Resolution) and isinstance(now, Resolution):
        return before.upheld == now.upheld
    if isinstance(before, Withdrawal):
        return True
    return msgspec.structs.replace(before, recorded_at=now.recorded_at) == now


def settlements(log: ChannelLog) -> dict[bytes, int]:
    """What a log would settle disputes for, by its newest resolution of each."""
    return {
        record.dispute: record.upheld
        for _, record in log.matters(log.durable_size)
        if isinstance(record, Resolution)
    }


# What waits


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that waits for the other party: whose log, its index, and until when (POSIX
    seconds, by the other party's clock; None while it has not co-signed the record).
    """

    log: ChannelLog
    index: int
    until_s: int | None


def waiting_record(channel: Channel, one: Standing) -> Waiting | None:
    """What of a dispute waits: the dispute for an answer, an answer for the disputer to insist."""
    if one.state == "open":
        log, index = log_of(channel, one.role), one.index
    elif one.state == "answered" and one.answer is not None:
        log, index = other_log(channel, one.role), one.answer
    else:
        return None
    return Waiting(log, index, until_s(log, index))


def other_log(channel: Channel, role: Role) -> ChannelLog:
    """The log of the other role."""
    return channel.peer if channel.role == role else channel.own


def open_closes(log: ChannelLog) -> list[tuple[int, str]]:
    """The closed periods of a log that the peer may still dispute: index of the close, label."""
    return [
        (index, parse_checkpoint(parse_note(record.checkpoint).text).period)
        for index, record in log.closes()
        if not log.ended(index)
    ]


def close_of(log: ChannelLog, label: str) -> int | None:
    """Where a log says that a period is closed."""
    for index, record in log.closes():
        if parse_checkpoint(parse_note(record.checkpoint).text).period == label:
            return index
    return None
