"""What really happened: requests of the real trace, moved into a period that a seed chooses.

A window of the trace is stretched over the period and a margin on both sides, denser by day than by
night, and given subjects by a skewed distribution, sessions, ids and outcomes. The sizes of the
requests and the way in which they come in bursts are the trace's own.
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy

from tallystick.protocol.periods import Calendar, Period, zone_named

TRACE = Path(__file__).parents[2] / "scripts" / "data" / "azure_llm_2023_conv.csv"
EVENTS_MIN, EVENTS_MAX = 300, 18_000
HOUR_US = 3_600_000_000
MARGINS = {"hour": 0.5, "day": 0.6, "week": 0.15, "month": 0.05}  # of a period, on both sides
REGIONS = ("eu", "us", "ap")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Usage:
    """One request as it was; times in µs UTC. Its session starts and ends with its requests."""

    number: int
    id: str
    subject: str
    at: int
    context: int
    generated: int
    outcome: str  # ok, timeout, error, retried
    session: str
    session_start: int
    session_end: int


@dataclass(frozen=True, slots=True)
class Setting:
    """The period, and what its requests have in common."""

    calendar: str
    time_zone: str
    period: Period
    regions: bool
    api: bool  # requests have outcomes

    @property
    def length_us(self) -> int:
        """The period's length."""
        return self.period.end_us - self.period.start_us


@cache
def _trace() -> tuple[tuple[float, int, int], ...]:
    """Seconds since the first request, context and generated tokens, of each request."""
    with TRACE.open(newline="") as lines:
        rows = [
            (datetime.fromisoformat(row["TIMESTAMP"][:26]), row) for row in csv.DictReader(lines)
        ]
    first = rows[0][0]
    return tuple(
        ((at - first).total_seconds(), int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for at, row in rows
    )


def draw_setting(rng: random.Random) -> Setting:
    """A plausible period: its calendar, its zone, its date."""
    calendar = rng.choices(("hour", "day", "week", "month"), (1, 4, 3, 4))[0]
    zone = rng.choice(("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"))
    moment = datetime(2025, 1, 10, tzinfo=UTC) + timedelta(hours=rng.randrange(24 * 700))
    if calendar == "hour":  # an hour that nobody works in has no requests
        moment = moment.replace(hour=9)
    period = Calendar(calendar, zone).period_of((moment - _EPOCH) // timedelta(microseconds=1))
    return Setting(calendar, zone, period, rng.random() < 0.6, rng.random() < 0.5)


def draw_usages(rng: random.Random, setting: Setting) -> list[Usage]:
    """The requests, by time."""
    size = round(EVENTS_MIN * (EVENTS_MAX / EVENTS_MIN) ** (rng.random() ** 2.2))
    trace = _trace()
    start = rng.randrange(len(trace) - size)
    window = trace[start : start + size]
    times = _times([seconds for seconds, _, _ in window], setting)
    subjects = _subjects(rng, setting)
    weights = [1 / rank**1.1 for rank in range(1, len(subjects) + 1)]
    chosen = rng.choices(subjects, weights, k=size)
    failing = rng.uniform(0.02, 0.08)
    sessions = _sessions(rng, setting, times, chosen, [generated for _, _, generated in window])
    return [
        Usage(
            number, f"req-{rng.getrandbits(40):010x}", subject, at, context, generated,
            _outcome(rng, failing) if setting.api else "ok", *session,
        )
        for number, ((_, context, generated), at, subject, session) in enumerate(
            zip(window, times, chosen, sessions, strict=True)
        )
    ]  # fmt: skip


def _outcome(rng: random.Random, failing: float) -> str:
    """How a request ended, for its sender; `retried` ended well at the second attempt."""
    if rng.random() >= failing:
        return "ok"
    return rng.choices(("timeout", "error", "retried"), (5, 2, 3))[0]


def _times(seconds: list[float], setting: Setting) -> list[int]:
    """The window's instants, laid over the period and its margins as people work."""
    margin = int(setting.length_us * MARGINS[setting.calendar])
    first, last = setting.period.start_us - margin, setting.period.end_us + margin
    step = min(HOUR_US, setting.length_us // 4)
    edges = [*range(first, last, step), last]
    zone = zone_named(setting.time_zone)
    weights = []
    for edge in edges[:-1]:
        local = (_EPOCH + timedelta(microseconds=edge)).astimezone(zone)
        weight = 1.6 if 8 <= local.hour < 19 else 0.5
        weights.append(weight * (0.4 if local.weekday() >= 5 else 1))
    reached = numpy.concatenate([[0.0], numpy.cumsum(weights)])
    begin, end = seconds[0], seconds[-1]
    shares = [(at - begin) / max(end - begin, 1e-9) * reached[-1] for at in seconds]
    placed = numpy.interp(shares, reached, [float(edge - first) for edge in edges])
    return [first + min(int(offset), last - first - 1) for offset in placed]


def _subjects(rng: random.Random, setting: Setting) -> list[str]:
    what = rng.choice(("project", "key", "agent", "team"))
    numbers = rng.sample(range(1, 100), rng.randint(3, 24))
    if not setting.regions:
        return [f"{what}-{number}" for number in numbers]
    regions = REGIONS[: rng.randint(2, 3)]
    return [f"{regions[place % len(regions)]}-{what}-{n}" for place, n in enumerate(numbers)]


def _sessions(
    rng: random.Random,
    setting: Setting,
    times: list[int],
    subjects: list[str],
    generated: list[int],
) -> list[tuple[str, int, int]]:
    """Each request's session, with its first instant and its last."""
    gap_us = min(setting.length_us // 20, 3 * HOUR_US)
    longest_us = min(setting.length_us // 8, 12 * HOUR_US)
    ending = rng.uniform(0.1, 0.4)
    sessions: list[list[int]] = []
    current: dict[str, int] = {}
    for place, (at, subject) in enumerate(zip(times, subjects, strict=True)):
        session = current.get(subject)
        if session is not None:
            members = sessions[session]
            if at - times[members[-1]] > gap_us or at - times[members[0]] > longest_us:
                session = None
        if session is None or rng.random() < ending:
            session = current[subject] = len(sessions)
            sessions.append([])
        sessions[session].append(place)
    found: list[tuple[str, int, int]] = [("", 0, 0)] * len(times)
    for number, members in enumerate(sessions):
        spoken_us = generated[members[-1]] * 30_000  # how long the last answer took
        whole = (f"conv-{number}", times[members[0]], times[members[-1]] + spoken_us)
        for place in members:
            found[place] = whole
    return found
