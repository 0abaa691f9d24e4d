"""The causes that can be planted: what each is, with parameters as systems really have them.

A planted cause is at one side, `ours` or `theirs`; its facts are what whoever explains the
difference should say about it, as texts. Facts about both sides are ours against theirs: an offset
is our time minus theirs, a factor our quantity divided by theirs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from tallystick.protocol.periods import Calendar
from worlds.base import HOUR_US, Setting, Usage

SECOND_US = 1_000_000
ZONES_MINUTES = (60, 120, 180, 210, 330, 345, 480, 540, 570, -60, -120, -300, -330, -420, -480)
FACTORS = ("1000", "1000", "1024", "60", "8", "100", "1.1", "1.05", "2")
STEPS = {"context-tokens": (10, 100, 1000), "generated-tokens": (10, 50, 100)}
GB = 1_000_000  # a gigabyte at the meter's scale


@dataclass(frozen=True, slots=True)
class Planted:
    """A cause in a world: its kind, the side that has it, the meters that it touches."""

    kind: str
    side: str
    meters: tuple[str, ...]
    facts: Mapping[str, str]
    values: Mapping[str, Any]  # the same as numbers, for who applies it


def show_time(instant_us: int) -> str:
    """An instant as facts have it: ISO 8601, UTC, whole seconds."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=instant_us // SECOND_US)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def other(side: str) -> str:
    """The other side."""
    return "theirs" if side == "ours" else "ours"


def _summed(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name != "peak-context")


def draw_offset(
    rng: random.Random, setting: Setting, names: Sequence[str], side: str, grain: str
) -> Planted:
    """A wrong zone, always or (a change of daylight saving time that one side missed) for days."""
    sign = 1 if side == "ours" else -1
    stretch = setting.calendar in ("week", "month") and rng.random() < 0.3
    minutes = rng.choice((60, -60)) if stretch else rng.choice(ZONES_MINUTES)
    if grain in ("hour", "day"):
        minutes = minutes // 60 * 60 or 60
    shift_us = minutes * 60 * SECOND_US
    facts = {"side": side, "seconds": str(sign * minutes * 60)}
    values: dict[str, Any] = {"shift_us": shift_us, "from": None, "until": None}
    if stretch:
        day_us = 24 * HOUR_US
        days = setting.length_us // day_us
        first = setting.period.start_us + rng.randint(1, max(days // 2, 1)) * day_us + HOUR_US
        last = first + rng.randint(2, max(days // 2, 2)) * day_us
        values |= {"from": first, "until": last}
        facts |= {"from": show_time(first), "until": show_time(last)}
    return Planted("offset", side, tuple(names), facts, values)


def draw_lag(
    rng: random.Random, setting: Setting, names: Sequence[str], side: str, window_us: int
) -> Planted:
    """A side that notes a request when it is processed, constantly or exponentially later."""
    shape = rng.choice(("constant", "exponential"))
    longest = min(setting.length_us / SECOND_US / 20, 1500 if shape == "exponential" else 840)
    least = 3 * window_us / SECOND_US + 2
    seconds = round(least + (longest - least) * rng.random() ** 2)
    if abs((seconds + 450) % 900 - 450) < 30:  # near a quarter of an hour it is a zone
        seconds += 77
    facts = {"side": side, "shape": shape, "seconds": str(seconds)}
    return Planted("lag", side, tuple(names), facts, {"mean_us": seconds * SECOND_US})


def draw_cutoff(rng: random.Random, side: str, names: Sequence[str]) -> Planted:
    """A side that notes requests at their session's start, or at its end."""
    stamp = rng.choice(("start", "end", "end"))
    return Planted("cut-off", side, tuple(names), {"side": side, "stamp": stamp}, {"stamp": stamp})


def draw_factor(rng: random.Random, names: Sequence[str], side: str) -> Planted:
    """A side that counts in another unit, or with a mark-up."""
    meters = tuple(names) if rng.random() < 0.25 else (rng.choice(list(names)),)
    factor = Fraction(rng.choice(FACTORS))
    shown = factor if side == "ours" else 1 / factor
    facts = {"side": side, "factor": _decimal(shown)}
    return Planted("factor", side, meters, facts, {"factor": factor})


def _decimal(value: Fraction) -> str:
    return f"{float(value):.10g}"


def draw_rounding(
    rng: random.Random, names: Sequence[str], side: str, grain: str = "event"
) -> Planted | None:
    """A side that rounds each row; of a side that sums, mostly the sums."""
    if not _summed(names):
        return None
    meter = rng.choice(_summed(names))
    per = grain if grain == "event" or rng.random() < 0.7 else "event"
    if meter == "transfer":
        step = rng.choice((GB // 100, GB // 10, GB))
    elif per == "event":
        step = rng.choice(STEPS[meter])
    else:
        step = rng.choice((10, 100, 1000))
    mode = rng.choice(("up", "nearest", "down"))
    shown = f"{step / GB:g}" if meter == "transfer" else str(step)
    facts = {"side": side, "step": shown, "mode": mode, "per": per}
    return Planted("rounding", side, (meter,), facts, {"step": step, "mode": mode, "per": per})


def draw_retry(rng: random.Random, names: Sequence[str], side: str) -> Planted:
    """A side that notes a request again when it is sent again, or a file that was read twice."""
    forms = ("new id", "suffix", "same id") if side == "ours" else ("new id", "suffix")
    form = rng.choice(forms)
    rate = rng.uniform(0.008, 0.05)
    facts = {"side": side, "form": form}
    values = {"form": form, "rate": rate, "gap_us": rng.choice((0, 400_000, 2 * SECOND_US))}
    return Planted("retry", side, tuple(names), facts, values)


def draw_rename_meter(rng: random.Random, names: Sequence[str], side: str) -> Planted | None:
    """A side with another name for a meter, or with a part of it under a name of its own."""
    if "context-tokens" not in names or "peak-context" in names:
        return None
    form = rng.choice(("one", "split"))
    new = "prompt-tokens" if form == "one" else "cached-tokens"
    here = new if form == "one" else f"context-tokens+{new}"
    facts = {"side": side, "form": form, side: here, other(side): "context-tokens"}
    values = {"form": form, "to": new, "share": rng.uniform(0.2, 0.6)}
    return Planted("rename-meter", side, ("context-tokens", new), facts, values)


def draw_rename_subject(
    rng: random.Random, usages: Sequence[Usage], names: Sequence[str], side: str
) -> Planted | None:
    """A side that names subjects in its own way: some, all, one as two, or two as one."""
    often = [name for name, count in Counter(u.subject for u in usages).most_common() if count > 7]
    form = rng.choice(("some", "all", "split", "merge"))
    if len(often) < 3:
        return None
    to: dict[str, tuple[str, ...]]
    if form == "all":
        to = {name: (f"acct/{name}",) for name in sorted({u.subject for u in usages})}
    elif form == "some":
        chosen = rng.sample(often, rng.randint(1, min(3, len(often) - 1)))
        to = {name: (f"{name.replace('-', '_')}_v2",) for name in chosen}
    elif form == "split":
        name = rng.choice(often[: max(len(often) // 2, 1)])
        to = {name: (f"{name}-batch", f"{name}-live")}
    else:
        first, second = rng.sample(often, 2)
        to = {first: (f"{first}-joint",), second: (f"{first}-joint",)}
    pairs = sorted({(here, there) for there, heres in to.items() for here in heres})
    if side == "theirs":
        pairs = [(there, here) for here, there in pairs]
    facts = {
        "side": side,
        "form": form,
        "ours": ", ".join(dict.fromkeys(ours for ours, _ in pairs)),
        "theirs": ", ".join(dict.fromkeys(theirs for _, theirs in pairs)),
    }
    return Planted("rename-subject", side, tuple(names), facts, {"to": to, "pairs": pairs})


def draw_missing_feed(
    rng: random.Random,
    setting: Setting,
    usages: Sequence[Usage],
    names: Sequence[str],
    side: str,
    grain: str,
) -> Planted | None:
    """A side that lacks a stretch of time, a subject, or a region."""
    inside = [u for u in usages if setting.period.start_us <= u.at < setting.period.end_us]
    counts = Counter(u.subject for u in inside)
    what = rng.choice(("time", "time", "subject", "region"))
    if what == "region" and not setting.regions:
        what = "subject"
    facts = {"side": side, "what": what}
    if what == "time":
        unit = "hour" if grain == "event" else grain
        if grain == "day":
            length_us = 24 * HOUR_US * rng.randint(1, 2)
        elif setting.calendar == "hour":
            length_us = rng.randint(4, 12) * 60 * SECOND_US
        else:
            length_us = rng.randint(1, 5 if setting.calendar == "day" else 9) * HOUR_US
        first = rng.choice(inside).at
        if unit in ("hour", "day") and rng.random() < 0.6:  # a file, and not an outage
            first = Calendar(unit, setting.time_zone).period_of(first).start_us
        first -= first % SECOND_US
        last = first + length_us
        lost = sum(first <= u.at < last for u in inside)
        if not 8 <= lost <= len(inside) * 0.5:
            return None
        facts |= {"from": show_time(first), "until": show_time(last)}
        values: dict[str, Any] = {"from": first, "until": last}
    elif what == "subject":
        some = [name for name, count in counts.items() if 8 <= count < len(inside) * 0.6]
        if not some:
            return None
        name = rng.choice(sorted(some))
        facts["name"] = name
        values = {"name": name}
    else:
        region = rng.choice(sorted({name.split("-")[0] for name in counts}))
        facts["name"] = region
        values = {"name": f"{region}-"}
    return Planted("missing-feed", side, tuple(names), facts, {"what": what} | values)


def draw_sampling(
    rng: random.Random, usages: Sequence[Usage], names: Sequence[str], side: str
) -> Planted | None:
    """A side that notes one request in so many, by chance."""
    rate = rng.choice((2, 3, 5, 10, 10, 20))
    if len(usages) < 60 * rate:
        return None
    return Planted("sampling", side, tuple(names), {"side": side, "rate": str(rate)}, {"n": rate})


def draw_boundary(rng: random.Random, names: Sequence[str]) -> Planted:
    """Requests whose sender and server do not know alike what became of them; we are the sender.

    We count what we sent and got no answer to; they count what they served and we gave up on;
    they count both attempts of what we sent again; they lost what they had acknowledged.
    """
    name, side = rng.choice(
        (
            ("sent-not-acknowledged", "theirs"),
            ("billed-after-timeout", "ours"),
            ("retried", "theirs"),
            ("acknowledged", "theirs"),
        )
    )
    facts = {"side": side, "class": name}
    values = {"class": name, "share": rng.uniform(0.7, 1), "rate": rng.uniform(0.012, 0.05)}
    return Planted("boundary", side, tuple(names), facts, values)


Draw = Callable[
    [random.Random, Setting, Sequence[Usage], Sequence[str], str, str, int], Planted | None
]
DRAWS: dict[str, Draw] = {
    "offset": lambda r, s, u, n, side, grain, w: draw_offset(r, s, n, side, grain),
    "lag": lambda r, s, u, n, side, grain, w: draw_lag(r, s, n, side, w),
    "cut-off": lambda r, s, u, n, side, grain, w: draw_cutoff(r, side, n),
    "factor": lambda r, s, u, n, side, grain, w: draw_factor(r, n, side),
    "rounding": lambda r, s, u, n, side, grain, w: draw_rounding(r, n, side),
    "retry": lambda r, s, u, n, side, grain, w: draw_retry(r, n, side),
    "rename-meter": lambda r, s, u, n, side, grain, w: draw_rename_meter(r, n, side),
    "rename-subject": lambda r, s, u, n, side, grain, w: draw_rename_subject(r, u, n, side),
    "missing-feed": lambda r, s, u, n, side, grain, w: draw_missing_feed(r, s, u, n, side, grain),
    "sampling": lambda r, s, u, n, side, grain, w: draw_sampling(r, u, n, side),
    "boundary": lambda r, s, u, n, side, grain, w: draw_boundary(r, n),
}
