"""Rounding: a side that counts in whole steps, up, down or to the nearest, by row or by sum.

A rounding is accepted if it turns the one side's quantity into the other's exactly, for nearly all
pairs and for nearly all that it leaves something of, and does something to a good part of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy

from tallystick.node.comparing.causes.factors import STEPS, Factor
from tallystick.node.comparing.causes.hints import Hints
from tallystick.node.comparing.tables import SIDES, Side, Tables

PAIRS_MIN = 12
PAIRS_MAX = 3000  # that are looked at, evenly of all
FITTING_MIN = 0.9
SUMS_FITTING_MIN = 0.7  # a sum is off as soon as one of its events is
CHANGED_MIN = 0.3  # of the pairs, for which the two sides differ without the rounding
SOMETHING_MIN = 6  # of the rounded side's quantities that are not nothing
DIVISIBLE_MIN = 0.95  # of the rounded side's quantities
MODES = ("nearest", "up", "down")

Numbers = numpy.typing.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rounding:
    """What `side` does to a meter's quantities: whole steps, in the meter's scale."""

    meter: str
    side: str
    step: int
    mode: str
    per: str
    fitting: float
    pairs: int


def find_roundings(hints: Hints, factors: list[Factor], per: str = "event") -> Iterator[Rounding]:
    """The roundings of all meters, after their factors; at most one a meter."""
    for meter in sorted(set(hints.our_meters.tolist())):
        of_meter = hints.only(hints.our_meters == meter)
        of_meter = of_meter.only(numpy.arange(0, len(of_meter), max(len(of_meter) // PAIRS_MAX, 1)))
        if len(of_meter) >= PAIRS_MIN:
            values = factor_values(of_meter, factors)
            best = _of_meter(of_meter, values, per)
            if best is not None:
                yield Rounding(meter, *best[:3], per, best[3], len(of_meter))


def find_rounded_parts(
    tables: Tables, side: Side, hints: Hints, factors: list[Factor], known: set[str]
) -> Iterator[Rounding]:
    """The roundings of single events by a side that then sums them, so that only sums are seen."""
    other = SIDES[1 - SIDES.index(side)]
    for meter in sorted(set(hints.our_meters.tolist()) - known):
        of_meter = hints.only(hints.our_meters == meter)
        values = set(factor_values(of_meter, factors))
        if len(of_meter) < PAIRS_MIN or len(values) > 1:
            continue
        value = values.pop() if side == "ours" else 1 / values.pop()
        made = of_meter.our_quantities if side == "ours" else of_meter.their_quantities
        best: tuple[float, int, str] | None = None
        for step in _steps(made):
            for mode in MODES:
                unit = value.denominator * step
                extra = {"down": 0, "nearest": unit // 2, "up": unit - 1}[mode]
                exact, all_of_them, changed = tables.db.execute(
                    f"""SELECT count(*) FILTER (s = q), count(*),
                        count(*) FILTER (s = q AND s * {value.denominator}
                            <> plain * {value.numerator}) FROM (
                        SELECT whole, any_value(w.as_quantity) AS q, sum(p.as_quantity) AS plain,
                            sum((p.as_quantity::HUGEINT * {value.numerator} + {extra})
                                // {unit} * {step}) AS s
                        FROM sum_parts JOIN {side}_as w ON w.event = whole
                            JOIN {other}_as p ON p.event = part
                        WHERE w.as_meter = ? GROUP BY whole)""",
                    [meter],
                ).fetchone()  # type: ignore[misc]
                fitting = exact / max(all_of_them, 1)
                if changed < CHANGED_MIN * all_of_them or fitting < SUMS_FITTING_MIN:
                    continue
                if step > 1 and (not best or fitting > best[0]):
                    best = fitting, step, mode
        if best:
            yield Rounding(meter, side, best[1], best[2], "event", best[0], len(of_meter))


def factor_values(hints: Hints, factors: list[Factor]) -> list[Fraction]:
    """Each pair's factor."""
    whole = {f.meter: f.value for f in factors if not f.subjects}
    some = {(f.meter, s): f.value for f in factors for s in f.subjects}
    one = Fraction(1)
    return [
        some.get((meter, subject), whole.get(meter, one))
        for meter, subject in zip(hints.our_meters, hints.their_subjects, strict=True)
    ]


def _of_meter(hints: Hints, values: list[Fraction], per: str) -> tuple[str, int, str, float] | None:
    ours, theirs = hints.our_quantities.tolist(), hints.their_quantities.tolist()
    forward = [Fraction(t) * v for t, v in zip(theirs, values, strict=True)]
    backward = [Fraction(o) / v for o, v in zip(ours, values, strict=True)]
    if sum(plain(x) == o for x, o in zip(forward, ours, strict=True)) > (1 - CHANGED_MIN) * len(
        ours
    ):
        return None
    best: tuple[str, int, str, float] | None = None
    least = FITTING_MIN if per == "event" else SUMS_FITTING_MIN
    for side, made, exact in (("ours", ours, forward), ("theirs", theirs, backward)):
        something = sum(map(bool, made))
        if something < SOMETHING_MIN:
            continue  # any step is large enough to make nothing of everything
        for step in _steps(numpy.array(made)):
            for mode in MODES:
                fits = [rounds_to(x, step, mode, m) for x, m in zip(exact, made, strict=True)]
                fitting = sum(fits) / len(made)
                of_these = sum(fit for fit, m in zip(fits, made, strict=True) if m) / something
                if min(fitting, of_these) >= least and (best is None or fitting > best[3] + 0.005):
                    best = side, step, mode, fitting
    return best


def _steps(made: Numbers) -> list[int]:
    """The steps that nearly all quantities of a side are whole multiples of, the largest first."""
    found = [s for s in (1, *STEPS) if (made % s == 0).mean() >= DIVISIBLE_MIN]
    return sorted(set(found), reverse=True)[:6]


def plain(value: Fraction) -> int:
    """The nearest whole number, up from the middle: what a factor alone makes of a quantity."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def rounds_to(value: Fraction, step: int, mode: str, made: int) -> bool:
    """Whether rounding a value so makes this quantity; a middle may go either way.

    The value itself may be off by what a factor's own rounding to one unit hides.
    """
    whole = Fraction(plain(value))
    if value != whole and step > 1 and rounds_to(whole, step, mode, made):
        return True
    low, exact = divmod(value, step)
    below = int(low) * step
    above = below if exact == 0 else below + step
    if mode == "down":
        return made == below
    if mode == "up":
        return made == above
    return made in (below, above) and 2 * abs(made - value) <= step
