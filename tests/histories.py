"""Random histories of both logs of a channel: deltas, corrections of each kind, closed months."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from builders import (
    DAY_US,
    DECEMBER_US,
    HOUR_US,
    METERS,
    NOVEMBER_US,
    OCTOBER_US,
    Channel,
    busy_channel,
)
from hypothesis import strategies as st

from tallystick.protocol.checkpoint import Checkpoint, LogHead
from tallystick.protocol.records import Correction, Delta, Record, batch_bytes, encode_record

MONTHS = (OCTOBER_US, NOVEMBER_US, DECEMBER_US, DECEMBER_US + 31 * DAY_US)
EMPTY = Channel()


@dataclass
class History:
    """Records of both logs, and after how many of each a month was closed."""

    records: tuple[list[Record], list[Record]]
    stops: list[tuple[int, int]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    records: tuple[list[Record], list[Record]] = ([EMPTY.terms], [EMPTY.terms])
    live: tuple[list[Delta], list[Delta]] = ([], [])
    stops: list[tuple[int, int]] = []
    for step in range(draw(st.integers(0, 30))):
        side = draw(st.integers(0, 1))
        action = draw(st.sampled_from(["delta"] * 6 + ["replace", "void", "close"]))
        quantity = draw(st.integers(-20, 20))
        if action == "close" and len(stops) < 3:
            stops.append((len(records[0]), len(records[1])))
        elif action in ("replace", "void") and live[side]:
            delta = draw(st.sampled_from(live[side]))
            if action == "void":
                live[side].remove(delta)
            new = None if action == "void" else quantity
            records[side].append(Correction(delta.id, delta.meter, new, "wrong", step))
        else:
            meters = [m.name for m in METERS if not side or m.source == "both"]
            delta = Delta(
                f"id-{step}",
                draw(st.sampled_from(meters)),
                draw(st.sampled_from(["a", "b"])),
                quantity,
                draw(st.sampled_from(MONTHS)) + draw(st.integers(0, 2)) * HOUR_US,
                step,
                None,
            )
            records[side].append(delta)
            live[side].append(delta)
    return History(records, stops)


@st.composite
def split(draw: st.DrawFn, records: Sequence[Record]) -> list[list[Record]]:
    cuts = sorted(draw(st.sets(st.integers(1, len(records)), max_size=6)) | {0, len(records)})
    return [list(records[a:b]) for a, b in itertools.pairwise(cuts)]


def encoded(batches: Sequence[Sequence[Record]]) -> list[bytes]:
    return [batch_bytes([encode_record(record) for record in batch]) for batch in batches]


def closes_at(stops: list[tuple[int, int]]) -> list[Checkpoint]:
    """Checkpoints of October, November … at these sizes; only what replay reads is real."""
    template = busy_channel().closed[0].checkpoint
    return [
        replace(
            template,
            heads=(LogHead("acme.example", a, b""), LogHead("beta.example", b, b"")),
            start_us=MONTHS[i],
            end_us=MONTHS[i + 1],
        )
        for i, (a, b) in enumerate(stops)
    ]
