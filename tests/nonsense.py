"""Full bundles of records that no honest node would take, signed by both parties all the same.

What the two keys signed then hides nothing: whether the records are valid and what they add up to
is all that is left to find out. Each seed gives one bundle: a channel with disputes, corrections,
closed periods or changed keys, in which some records of one log are changed, moved, doubled or
dropped.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

import builders
import msgspec
from builders import DECEMBER_US, NOVEMBER_US, OCTOBER_US
from disputing import Quarrel

from tallystick.protocol.derive import period_lines
from tallystick.protocol.errors import InvalidRecord, TallyError
from tallystick.protocol.log import LogState
from tallystick.protocol.records import ROLES, Named, Record, Role, Terms
from tallystick.protocol.verdict import make_verdict, verdict_digest


def quarrel(seed: int) -> Quarrel:
    """A channel in which seeded parties count, correct, dispute and close; the last period is
    closed.
    """
    chance = random.Random(seed)
    channel, digests, day = Quarrel(), [], 1.0
    for _ in range(40):
        day += chance.random() * 3
        role: Role = chance.choice(ROLES)
        log = channel.log(role)
        meter = chance.choice(("tokens", "calls", "peak", "gpu-hours"))
        with suppress(InvalidRecord):
            match chance.randrange(9):
                case 0 | 1:
                    when = chance.choice((OCTOBER_US, NOVEMBER_US, DECEMBER_US))
                    channel.count(meter, chance.randrange(200), chance.randrange(200), when)
                case 2:
                    log.correct(f"d{chance.randrange(1, log.state.size + 1)}", meter, None)
                case 3:
                    amount = chance.choice((-40, 25, 60))
                    digests.append(channel.dispute(role, amount, day, meter=meter))
                case 4 if digests:
                    channel.answer(role, chance.choice(digests), chance.choice((0, 10, 60)), day)
                case 5 if digests:
                    channel.resolve(role, chance.choice(digests), chance.choice((5, 10)), day)
                case 6 if digests:
                    channel.withdraw(role, chance.choice(digests), day)
                case 7:
                    end = day + chance.choice((16, 30))
                    channel.lapse(role, log.state.size - 1, day, end)
                    day = end
                case _:
                    if not channel.closed and chance.random() < 0.3:
                        channel.closing(OCTOBER_US, day)
    channel.closing(NOVEMBER_US if channel.closed else OCTOBER_US, day)
    return channel


_VALUES: dict[str, tuple[Any, ...]] = {
    "meter": ("tokens", "gpu-hours", "peak", "", "Tokens", "tokens\x1f", "a"),
    "subject": ("project-7", "é" * 64, "é" * 65, "x\x85", "x" * 128),
    "id": ("d1", "d2", "t0", "n" * 128, "\x00"),
    "reason": ("so", "x" * 500, "\x07", "é"),
    "period": ("2026-10", "2026-11", "2026-13", "2026-W43", "1969-10"),
    "code": ("quantity", "other"),
    "role": ROLES,
    "party": ROLES,
    "job": ("log", "cosigner", "transport"),
    "total": ("0", "5", "5.00", "-1", "007", "9" * 39, "9" * 40),
}


def _changed(record: Record, chance: random.Random) -> Record:
    """The record with another value in one field."""
    name = chance.choice(record.__struct_fields__)
    now = getattr(record, name)
    value: Any
    if name in _VALUES:
        value = chance.choice(_VALUES[name])
    elif isinstance(now, bool) or now is None:
        value = None
    elif isinstance(now, int):
        step = chance.choice((-1, 1, -(10**6), 10**12, -now, 2**62 - now, -2 * now))
        value = max(now + step, 0 if name != "quantity" else -(2**63))
    elif isinstance(now, bytes) and now:
        changed = bytearray(now)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        value = bytes(changed)
    elif isinstance(now, tuple) and name == "records":
        value = (*now, Named(chance.choice(ROLES), chance.randrange(40)))
    elif isinstance(now, msgspec.Struct):
        value = _changed(now, chance)  # type: ignore[arg-type]
    else:
        value = now
    return msgspec.structs.replace(record, **{name: value})


def _disturbed(records: list[Record], chance: random.Random) -> list[Record]:
    """The records with one to three things done to them; often the terms stay in their place."""
    found = list(records)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        first = 0 if chance.random() < 0.05 else 1
        at, other = (chance.randrange(first, len(found)) for _ in range(2))
        match chance.randrange(7):
            case 0:
                found[at], found[other] = found[other], found[at]
            case 1:
                found.insert(at, found[other])
            case 2:
                del found[at]
            case _:
                with suppress(TallyError, TypeError, msgspec.ValidationError):
                    found[at] = _changed(found[at], chance)
    return found if chance.random() < 0.15 else _in_time(found)


def _in_time(records: list[Record]) -> list[Record]:
    """The records with the times of those that go back put forward, so that more is looked at."""
    found, last = [], 0
    for record in records:
        if not isinstance(record, Terms):
            if record.recorded_at < last:
                record = msgspec.structs.replace(record, recorded_at=last)
            last = record.recorded_at
        found.append(record)
    return found


_MADE: tuple[Callable[[], builders.Channel], ...] = (
    lru_cache(builders.busy_channel),
    lru_cache(builders.rotated_channel),
)


def nonsense(seed: int) -> bytes:
    """The seed's bundle; empty if what came out cannot be written at all."""
    chance = random.Random(f"nonsense {seed}")
    pick = chance.randrange(4)
    channel = _MADE[pick]() if pick < len(_MADE) else quarrel(seed)
    role = chance.choice(ROLES)
    logs = []
    for log in channel.logs:
        records = _disturbed(log.records, chance) if log.role == role else log.records
        logs.append(_rebuilt(log, records))
    other = builders.Channel.__new__(type(channel))
    other.__dict__ |= channel.__dict__
    other.logs = (other.provider_log, other.consumer_log) = (logs[0], logs[1])
    return _closed(other, channel if chance.random() < 0.7 else other)


def _rebuilt(log: builders.MemoryLog, records: list[Record]) -> builders.MemoryLog:
    """The log with these records, whatever the rules say; its keys are those of the old one."""
    made = builders.MemoryLog(log.terms, log.role, log.author, log.peer)
    made.batches.clear()
    made.records.clear()
    made.state = replace(LogState.empty(made.channel_id), facts=log.state.facts)
    made.append_unchecked(*records)
    return made


def _closed(channel: builders.Channel, keys: builders.Channel) -> bytes:
    """The bundle of December: with the lines that the records give, if they give any, and with the
    changed keys that are in the logs of `keys`.
    """
    last = channel.closed[-1]
    lines = [msgspec.structs.replace(line, period="2026-12") for line in last.lines]
    verdict = make_verdict(channel.terms, "2026-12", lines, None, None)
    with suppress(TallyError, KeyError, AssertionError):
        lines = period_lines(channel.derive(), "2026-12")
        verdict = channel.verdict("2026-12", lines)
    with_verdicts, channel.with_verdicts = channel.with_verdicts, False
    checkpoint = replace(channel.checkpoint(DECEMBER_US, lines), verdict=verdict_digest(verdict))
    channel.with_verdicts = with_verdicts
    a, b = channel.logs
    contents = replace(
        last.contents,
        checkpoint=channel.sign(checkpoint),
        provider_head=a.head_note(),
        consumer_head=b.head_note(),
        lines=tuple(lines),
        verdict=verdict,
        rotations=tuple(log.rotations() for log in keys.logs),  # type: ignore[arg-type]
    )
    try:
        return channel.bundle(replace(last, contents=contents), full=True)
    except (TallyError, msgspec.MsgspecError):
        return b""
