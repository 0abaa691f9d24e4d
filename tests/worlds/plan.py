"""What a seed decides about a world before anything is observed: its meters, its ids, its causes.

Control worlds have no cause at all; the others have one to four of different kinds. Which kinds go
together is limited where two of them could not be told apart even by somebody who sees everything
(a sampled daily sum is a factor), and nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallystick.protocol.records import Meter, Tolerance
from worlds.base import Setting, Usage
from worlds.causes import DRAWS, Planted, draw_cutoff, draw_rounding

CAUSES_WEIGHTS = (12, 34, 26, 16, 12)  # of no cause, one, two, three, four
SIDES = ("ours", "theirs")
WEIGHTS = {
    "offset": 11, "lag": 12, "cut-off": 7, "factor": 11, "rounding": 11, "retry": 12,
    "rename-meter": 9, "rename-subject": 9, "missing-feed": 12, "sampling": 9, "boundary": 16,
}  # fmt: skip
# What a side that notes sums can still show; what a request of its own is needed for.
OF_SUMS = frozenset(
    {"offset", "factor", "rounding", "rename-meter", "rename-subject", "missing-feed"}
)
OF_SESSIONS = frozenset({"factor", "rounding", "rename-subject", "missing-feed", "cut-off"})
EXTRA_METERS = {"prompt-tokens": "token", "cached-tokens": "token"}
_SETS = (
    (("generated-tokens",), 22),
    (("context-tokens", "generated-tokens"), 36),
    (("context-tokens", "generated-tokens", "transfer"), 14),
    (("transfer",), 9),
    (("generated-tokens", "transfer"), 7),
    (("context-tokens", "peak-context"), 12),
)


@dataclass(frozen=True, slots=True)
class Noise:
    """What happens in any system: a few requests lost, a few noted twice, clocks that jitter."""

    lost: float
    doubled: float
    jitter_us: int  # at most this far from the time, below the window
    unit_us: int  # times are noted in whole units


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was decided."""

    meters: tuple[Meter, ...]
    ids: str  # shared, part, none
    grain: str  # event, session, hour, day: what a row of the side that sums is
    grain_side: str
    wide: bool  # our file has rows from beyond the period
    noise: dict[str, Noise]
    causes: tuple[Planted, ...]

    @property
    def window_us(self) -> int:
        """How far the times of one request may lie apart, by the terms."""
        return self.meters[0].match_window_us


def draw_plan(rng: random.Random, setting: Setting, usages: Sequence[Usage]) -> Plan:
    """Decide."""
    window_us = rng.choice((1, 2, 2, 5, 30)) * 1_000_000
    names = rng.choices([names for names, _ in _SETS], [weight for _, weight in _SETS])[0]
    count = rng.choices(range(len(CAUSES_WEIGHTS)), CAUSES_WEIGHTS)[0]
    grain = rng.choices(("event", "session", "hour", "day"), (80, 7, 7, 6))[0]
    if grain == "day" and setting.calendar not in ("week", "month"):
        grain = "event"
    if (grain == "hour" and setting.calendar == "hour") or (grain == "session" and not count):
        grain = "event"
    if grain != "event" and "peak-context" in names:  # sums have no peaks
        names = ("context-tokens",)
    grain_side = rng.choice(SIDES)
    causes = _draw_causes(rng, setting, usages, names, count, grain, grain_side, window_us)
    extra = {name for cause in causes for name in cause.meters if name in EXTRA_METERS}
    causes = tuple(_renamed(cause, extra) for cause in causes)
    tolerance = rng.choice((None, Tolerance(1000, 0, "provider", 100)))
    meters = [
        make_meter(name, window_us, tolerance) for name in (*names, *sorted(extra - set(names)))
    ]
    noise = {
        side: _noise(rng, window_us) if rng.random() < 0.9 else Noise(0, 0, 0, 1) for side in SIDES
    }
    ids = rng.choices(("shared", "part", "none"), (55, 15, 30))[0] if grain == "event" else "none"
    return Plan(
        tuple(sorted(meters, key=lambda meter: meter.name)),
        ids, grain, grain_side, rng.random() < 0.7, noise, causes,
    )  # fmt: skip


def _renamed(cause: Planted, extra: set[str]) -> Planted:
    """The cause, touching a meter under its other name as well."""
    if "context-tokens" not in cause.meters:
        return cause
    return replace(cause, meters=(*cause.meters, *sorted(extra - set(cause.meters))))


def make_meter(name: str, window_us: int, tolerance: Tolerance | None) -> Meter:
    """A meter of the terms."""
    return Meter(
        name,
        "GB" if name == "transfer" else "token",
        6 if name == "transfer" else 0,
        -(2**62),
        2**62,
        "max" if name == "peak-context" else "sum",
        "provider",
        "provider",
        window_us,
        tolerance,
    )


def _noise(rng: random.Random, window_us: int) -> Noise:
    return Noise(
        rng.choice((0, 0, rng.uniform(0, 0.003))),
        rng.choice((0, 0, rng.uniform(0, 0.001))),
        rng.choice((0, int(rng.uniform(0.01, 0.2) * window_us))),
        rng.choice((1, 1000, 1000, min(1_000_000, window_us // 4))),
    )


def _draw_causes(
    rng: random.Random,
    setting: Setting,
    usages: Sequence[Usage],
    names: Sequence[str],
    count: int,
    grain: str,
    grain_side: str,
    window_us: int,
) -> tuple[Planted, ...]:
    """So many causes of different kinds, as far as they go together."""
    found: list[Planted] = []
    kinds = dict(WEIGHTS)
    if grain == "session":  # whoever sums sessions stamps them at one of their ends
        found.append(draw_cutoff(rng, grain_side, names))
        kinds.pop("cut-off")
    if grain != "event":
        possible = OF_SESSIONS if grain == "session" else OF_SUMS
        kinds = {kind: weight for kind, weight in kinds.items() if kind in possible}
    if setting.calendar == "hour":
        kinds.pop("offset", None)
    if not setting.api:
        kinds.pop("boundary", None)
    while len(found) < count and kinds:
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        del kinds[kind]
        side = rng.choice(SIDES)
        if kind == "rounding" and grain != "event":
            made = draw_rounding(rng, names, grain_side, grain)
        else:
            made = DRAWS[kind](rng, setting, usages, names, side, grain, window_us)
        if made is None:
            continue
        found.append(made)
        if kind in ("lag", "cut-off"):  # both move a request by an amount of its own
            kinds.pop("lag", None)
            kinds.pop("cut-off", None)
        if kind in ("retry", "boundary"):  # a boundary class has retries of its own
            kinds.pop("retry", None)
            kinds.pop("boundary", None)
    return tuple(found)
