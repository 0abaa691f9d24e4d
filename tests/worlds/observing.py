"""How a side comes to its rows: what each cause does to them, in the order in which it happens.

Both sides begin with the same rows, one a request. On each side these steps follow, and what a step
changes in the side's total of the period is exactly what it contributes (ours counted positive,
theirs negative), so that all contributions together are the difference:

1. noise: requests lost and doubled by chance, clocks that jitter;
2. what never arrives: missing-feed, sampling, the boundary classes;
3. what is noted again: retry;
4. quantities: factor, then rounding of single rows;
5. names: rename-meter, then rename-subject;
6. times: cut-off, lag, offset;
7. sums of sessions, hours or days, and then the rounding of these sums.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tallystick.protocol.periods import Calendar
from worlds.base import Setting
from worlds.causes import SECOND_US, Planted
from worlds.plan import Noise, Plan
from worlds.rows import Row, again, totals

ORDER = (
    "missing-feed", "sampling", "boundary", "retry", "factor", "rounding", "rename-meter",
    "rename-subject", "cut-off", "lag", "offset",
)  # fmt: skip

FAILED = ("timeout", "error")

Rows = list[Row]


@dataclass(slots=True)
class Observed:
    """A side's rows, and what each step did: meter to quantity, and how many rows it touched."""

    rows: Rows
    steps: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    causes: list[tuple[Planted, dict[str, int], int]] = field(default_factory=list)


def observe(rows: Rows, side: str, seed: int, setting: Setting, plan: Plan) -> Observed:
    """A side's own way from what happened to what it exports."""
    sign = 1 if side == "ours" else -1
    seen = Observed(rows)
    before = totals(rows, plan.meters, setting.period)

    def contribution() -> dict[str, int]:
        nonlocal before
        after = totals(seen.rows, plan.meters, setting.period)
        made = {name: sign * (after[name] - before[name]) for name in after}
        before = after
        return made

    def chance(name: str) -> random.Random:
        return random.Random(f"{seed} {side} {name}")

    seen.rows = _noise(seen.rows, chance("noise"), plan.noise[side], side)
    seen.steps.append(("noise", contribution()))
    sums = plan.grain if side == plan.grain_side else "event"
    mine = [cause for cause in plan.causes if cause.side == side]
    mine.sort(key=lambda cause: ORDER.index(cause.kind))
    late = [c for c in mine if c.kind == "rounding" and c.values["per"] != "event"]
    for cause in mine:
        if cause not in late:
            touched = _APPLY[cause.kind](seen.rows, cause, chance(cause.kind), setting)
            seen.rows = [row for row in seen.rows if row.amounts]
            seen.causes.append((cause, contribution(), touched))
    if sums != "event":
        seen.rows = _summed(seen.rows, sums, setting.time_zone)
        seen.steps.append(("sums", contribution()))
    for cause in late:
        touched = _round(seen.rows, cause, chance(cause.kind), setting)
        seen.causes.append((cause, contribution(), touched))
    seen.rows.sort(key=lambda row: (row.at, row.usages, row.copy))
    return seen


def hypothetical(
    rows: Rows, causes: Sequence[Planted], seed: int, setting: Setting, plan: Plan
) -> dict[str, int]:
    """What one side with all these causes, and no noise, would count in the period."""
    mine = sorted(causes, key=lambda cause: ORDER.index(cause.kind))
    late = [c for c in mine if c.kind == "rounding" and c.values["per"] != "event"]
    for cause in mine:
        if cause not in late:
            rng = random.Random(f"{seed} {cause.side} {cause.kind}")
            _APPLY[cause.kind](rows, cause, rng, setting)
            rows = [row for row in rows if row.amounts]
    if plan.grain != "event":
        rows = _summed(rows, plan.grain, setting.time_zone)
    for cause in late:
        _round(rows, cause, random.Random(0), setting)
    return totals(rows, plan.meters, setting.period)


def _noise(rows: Rows, rng: random.Random, noise: Noise, side: str) -> Rows:
    kept = []
    for row in rows:
        if rng.random() < noise.lost:
            continue
        if noise.jitter_us:
            row.at += rng.randint(-noise.jitter_us // 2, noise.jitter_us // 2)
        row.at -= row.at % noise.unit_us
        kept.append(row)
        if rng.random() < noise.doubled:  # a record takes no id twice
            kept.append(again(row, copy=True, id=row.id if side == "ours" else f"{row.id}-b"))
    return kept


def _inside(row: Row, setting: Setting) -> bool:
    return setting.period.start_us <= row.at < setting.period.end_us


def _drop(rows: Rows, setting: Setting, gone: Callable[[Row], bool]) -> int:
    """Empty the rows that never arrive; how many of the period."""
    touched = 0
    for row in rows:
        if gone(row):
            touched += _inside(row, setting)
            row.amounts = {}
    return touched


def _miss(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    values = cause.values
    if values["what"] == "time":
        return _drop(rows, setting, lambda row: values["from"] <= row.at < values["until"])
    if values["what"] == "subject":
        return _drop(rows, setting, lambda row: row.subject == values["name"])
    return _drop(rows, setting, lambda row: row.subject.startswith(values["name"]))


def _sample(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    return _drop(rows, setting, lambda row: rng.randrange(cause.values["n"]) > 0)


def _bound(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    """A boundary class; see `draw_boundary`."""
    share, rate = cause.values["share"], cause.values["rate"]
    match cause.values["class"]:
        case "sent-not-acknowledged":
            return _drop(rows, setting, lambda r: r.outcome in FAILED and rng.random() < share)
        case "acknowledged":
            return _drop(rows, setting, lambda r: r.outcome not in FAILED and rng.random() < rate)
        case "billed-after-timeout":  # we note that we gave up, and that we got nothing
            touched = 0
            for row in rows:
                if row.outcome == "timeout" and rng.random() < share:
                    row.amounts = dict.fromkeys(row.amounts, 0)
                    touched += _inside(row, setting)
            return touched
        case _:  # retried: we know of one request that took two attempts

            def second(row: Row) -> Row:
                later = rng.randint(1, 4 * SECOND_US)
                return again(row, copy=True, id=f"{row.id}-2", at=row.at + later)

            return _repeat(
                rows, setting, lambda r: r.outcome == "retried" and rng.random() < share, second
            )


def _repeat(
    rows: Rows, setting: Setting, twice: Callable[[Row], bool], copied: Callable[[Row], Row]
) -> int:
    copies = [copied(row) for row in rows if twice(row)]
    rows += copies
    return sum(_inside(row, setting) for row in copies)


def _retry(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    form, gap_us = cause.values["form"], cause.values["gap_us"]

    def copied(row: Row) -> Row:
        ids = {"new id": f"req-{rng.getrandbits(40):010x}", "suffix": f"{row.id}-r1"}
        later = int(rng.expovariate(1 / gap_us)) if gap_us else 0
        return again(row, copy=True, id=ids.get(form, row.id), at=row.at + min(later, 5 * gap_us))

    return _repeat(rows, setting, lambda row: rng.random() < cause.values["rate"], copied)


def _multiply(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    factor: Fraction = cause.values["factor"]
    return _recount(rows, cause, setting, lambda amount: _nearest(amount * factor))


def _nearest(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def rounded(amount: int, step: int, mode: str) -> int:
    """An amount in whole steps; nearest goes up from the middle."""
    extra = {"down": 0, "nearest": step // 2, "up": step - 1}
    return (amount + extra[mode]) // step * step


def _round(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    step, mode = cause.values["step"], cause.values["mode"]
    return _recount(rows, cause, setting, lambda amount: rounded(amount, step, mode))


def _recount(rows: Rows, cause: Planted, setting: Setting, count: Callable[[int], int]) -> int:
    """Change the amounts of the cause's meters; how many of the period's rows it changed."""
    touched = 0
    for row in rows:
        changed = {
            name: count(amount) for name, amount in row.amounts.items() if name in cause.meters
        }
        touched += _inside(row, setting) and any(
            row.amounts[name] != amount for name, amount in changed.items()
        )
        row.amounts |= changed
    return touched


def _rename_meter(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    new, touched = cause.values["to"], 0
    for row in rows:
        amount = row.amounts.pop("context-tokens", None)
        if amount is None:
            continue
        if cause.values["form"] == "one":
            row.amounts[new] = amount
        else:
            part = int(amount * cause.values["share"] * rng.random() * 2)
            row.amounts |= {"context-tokens": amount - min(part, amount)}
            row.amounts |= {new: min(part, amount)} if part else {}
        touched += _inside(row, setting)
    return touched


def _rename_subject(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    touched = 0
    for row in rows:
        names = cause.values["to"].get(row.subject)
        if names:
            row.subject = names[rng.randrange(len(names))]
            touched += _inside(row, setting)
    return touched


def _stamp(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    def stamped(row: Row) -> int:
        return row.session_start if cause.values["stamp"] == "start" else row.session_end

    return _move(rows, setting, stamped)


def _lag(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    mean_us = cause.values["mean_us"]
    if cause.facts["shape"] == "constant":
        return _move(rows, setting, lambda row: row.at + mean_us)
    return _move(rows, setting, lambda row: row.at + int(rng.expovariate(1 / mean_us)))


def _shift(rows: Rows, cause: Planted, rng: random.Random, setting: Setting) -> int:
    first, last = cause.values["from"], cause.values["until"]
    shift_us: int = cause.values["shift_us"]

    def shifted(row: Row) -> int:
        if first is not None and not first <= row.at < last:
            return row.at
        return row.at + shift_us

    return _move(rows, setting, shifted)


def _move(rows: Rows, setting: Setting, moved: Callable[[Row], int]) -> int:
    """Note other times; how many of the period's rows."""
    touched = 0
    for row in rows:
        at = moved(row)
        touched += at != row.at and _inside(row, setting)
        row.at = at
    return touched


def _summed(rows: Rows, grain: str, zone: str) -> Rows:
    """One row a subject and session, hour or day of the terms' zone, noted at its beginning."""
    calendar = None if grain == "session" else Calendar(grain, zone)
    sums: dict[tuple[str, str | int], Row] = {}
    behind: dict[tuple[str, str | int], list[int]] = {}
    for row in rows:
        at = calendar.period_of(row.at).start_us if calendar else row.at
        key = (row.subject, at if calendar else row.session)
        behind.setdefault(key, []).extend(row.usages)
        whole = sums.get(key)
        if whole is None:
            sums[key] = again(row, id=None, at=at, copy=False, outcome="ok")
        else:
            for name, amount in row.amounts.items():
                whole.amounts[name] = whole.amounts.get(name, 0) + amount
    for key, whole in sums.items():
        whole.usages = tuple(behind[key])
    return list(sums.values())


_APPLY: dict[str, Callable[[Rows, Planted, random.Random, Setting], int]] = {
    "missing-feed": _miss,
    "sampling": _sample,
    "boundary": _bound,
    "retry": _retry,
    "factor": _multiply,
    "rounding": _round,
    "rename-meter": _rename_meter,
    "rename-subject": _rename_subject,
    "cut-off": _stamp,
    "lag": _lag,
    "offset": _shift,
}
assert set(_APPLY) == set(ORDER)
