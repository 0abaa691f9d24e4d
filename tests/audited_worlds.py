"""Channels in memory that have all kinds of records, and ways to spoil a log of theirs."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from builders import Channel, busy_channel, rotated_channel
from disputing import Quarrel

from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import Correction, Delta, decode_record, encode_record


def quarrel() -> Channel:
    """A channel with disputes, answers, a resolution, a withdrawal and a lapse."""
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    channel.closing()
    first = channel.dispute("consumer", 30)
    channel.answer("provider", first, 10)
    channel.answer("consumer", first, day=3)
    channel.resolve("provider", first, 12)
    channel.resolve("consumer", first, 12)
    second = channel.dispute("consumer", 5, day=4)
    channel.lapse("consumer", channel.consumer_log.state.size - 1, 5, 40)
    channel.withdraw("consumer", second, day=50)
    return channel


WORLDS: dict[str, Callable[[], Channel]] = {
    "busy": busy_channel,
    "rotated": rotated_channel,
    "quarrel": quarrel,
}


def mutate(parts: list[bytes], pick: random.Random) -> None:
    """Change one thing of a log, at random."""
    at = pick.randrange(len(parts))
    other = pick.randrange(len(parts))
    try:
        record = decode_record(parts[at])
    except FormatError:
        return  # changed before
    what = pick.choice(["flip", "swap", "drop", "double", "time", "quantity", "meter", "text"])
    if what == "flip":
        place = pick.randrange(len(parts[at]))
        flipped = parts[at][place] ^ (1 << pick.randrange(8))
        parts[at] = parts[at][:place] + bytes([flipped]) + parts[at][place + 1 :]
    elif what == "swap":
        parts[at], parts[other] = parts[other], parts[at]
    elif what == "drop":
        del parts[at]
    elif what == "double":
        parts.insert(pick.randrange(len(parts)), parts[at])
    elif what == "time" and hasattr(record, "recorded_at"):
        moved = max(record.recorded_at + pick.choice([-(10**9), 10**9]), 0)
        parts[at] = encode_record(msgspec.structs.replace(record, recorded_at=moved))
    elif isinstance(record, Delta | Correction):
        changed = {
            "quantity": {"quantity": pick.choice([2**63 - 1, -(2**63)])},
            "meter": {"meter": pick.choice(["water", "calls", "peak"])},
            "text": {"id": pick.choice(["a\x1b", "é" * 65, "t1"])},
        }
        fields = changed.get(what, changed["meter"])
        parts[at] = encode_record(msgspec.structs.replace(record, **fields))


_MADE: dict[str, Channel] = {}


def world(name: str) -> Channel:
    """A world, made once; not to be changed."""
    if name not in _MADE:
        _MADE[name] = WORLDS[name]()
    return _MADE[name]
