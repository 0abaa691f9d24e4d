"""Factors: a meter that one side counts in another unit, for all or for some subjects.

A factor is accepted if most pairs have exactly that ratio, to the rounding of one unit or of the
coarser side's steps, and almost none of these pairs are equal without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy

from tallystick.node.comparing.causes.hints import Hints

PAIRS_MIN = 12  # of a meter
SUBJECT_PAIRS_MIN = 8  # of one subject, where not all have the factor
FITTING_MIN = 0.75
EQUAL_MAX = 0.25  # of the pairs that fit without the factor
SUMS_NEAR = 0.06  # of the sums' ratio to a plain factor, which rounding in one direction moves
PLAIN = sorted(
    {Fraction(n) for n in (2, 4, 5, 8, 10, 12, 15, 16, 20, 24, 25, 30, 50, 60, 100, 1000)}
    | {Fraction(n) for n in (1024, 1440, 3600, 86400, 10**4, 10**5, 10**6, 10**9)}
    | {Fraction(1024**2), Fraction(1024**3), Fraction(1024, 1000), Fraction(1024**2, 10**6)}
)
DENOMINATOR_MAX = 200  # of a factor that is not one of the plain ones

Numbers = numpy.typing.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Factor:
    """Our quantity divided by theirs, of a meter; `subjects` is empty if it is so for all."""

    meter: str
    value: Fraction
    subjects: tuple[str, ...]
    fitting: float  # the part of the pairs that fit
    pairs: int


def find_factors(hints: Hints) -> Iterator[Factor]:
    """The factors of all meters."""
    for meter in sorted(set(hints.our_meters.tolist())):
        of_meter = hints.only((hints.our_meters == meter) & (hints.their_quantities != 0)
                              & (hints.our_quantities != 0))  # fmt: skip
        if len(of_meter) >= PAIRS_MIN:
            yield from _of_meter(meter, of_meter)


def _of_meter(meter: str, hints: Hints) -> Iterator[Factor]:
    ours, theirs = hints.our_quantities, hints.their_quantities
    steps = step_of(ours), step_of(theirs)
    value, fitting = _best(ours, theirs, steps)
    if value is not None:
        yield Factor(meter, value, (), fitting, len(hints))
        return
    found: dict[Fraction, list[tuple[str, int, float]]] = {}
    for subject in sorted(set(hints.their_subjects.tolist())):
        chosen = hints.their_subjects == subject
        if chosen.sum() >= SUBJECT_PAIRS_MIN:
            value, fitting = _best(ours[chosen], theirs[chosen], steps)
            if value is not None:
                found.setdefault(value, []).append((subject, int(chosen.sum()), fitting))
    for value, subjects in sorted(found.items()):
        pairs = sum(count for _, count, _ in subjects)
        fitting = sum(count * part for _, count, part in subjects) / pairs
        yield Factor(meter, value, tuple(name for name, _, _ in subjects), fitting, pairs)


def _best(ours: Numbers, theirs: Numbers, steps: tuple[int, int]) -> tuple[Fraction | None, float]:
    """The factor that clearly most pairs have, and which part of them; None if that is 1."""
    equal = fits(ours, theirs, Fraction(1), steps)
    if equal.mean() > 1 - FITTING_MIN + 0.15:
        return None, 0.0
    best, most = None, 0.0
    for value in _candidates(ours, theirs):
        fitting = fits(ours, theirs, value, steps)
        told = float(fitting.mean())
        if told > most + 0.02 and (equal & fitting).sum() <= EQUAL_MAX * max(fitting.sum(), 1):
            best, most = value, told
    if most < FITTING_MIN and max(steps) > 1:
        return _by_sums(ours, theirs, steps)
    return (best, most) if most >= FITTING_MIN else (None, most)


def _by_sums(
    ours: Numbers, theirs: Numbers, steps: tuple[int, int]
) -> tuple[Fraction | None, float]:
    """A plain factor of both sides' sums, where a side's steps hide that of single events."""
    ratio = abs(float(ours.sum(dtype=float) / (theirs.sum(dtype=float) or 1)))
    for value in [v for f in PLAIN for v in (f, 1 / f)]:
        if abs(ratio / float(value) - 1) <= SUMS_NEAR:
            slack = numpy.maximum(steps[0], steps[1] * float(value))
            near = float((numpy.abs(ours - theirs * float(value)) <= slack).mean())
            equal = float((numpy.abs(ours - theirs) <= slack).mean())
            if near >= 1 - FITTING_MIN / 10 and equal <= EQUAL_MAX:
                return value, near
    return None, 0.0


def _candidates(ours: Numbers, theirs: Numbers) -> list[Fraction]:
    """Plain factors near the middle ratio, then that ratio as a fraction."""
    large = numpy.abs(theirs) >= numpy.median(numpy.abs(theirs))
    ratio = abs(float(numpy.median(ours[large] / theirs[large])))
    if ratio == 0:
        return []
    plain = [v for f in PLAIN for v in (f, 1 / f) if 0.8 < float(v) / ratio < 1.25]
    percent = Fraction(round(ratio * 100), 100)
    inverse = Fraction(round(100 / ratio), 100)
    rough = [Fraction(ratio).limit_denominator(n) for n in (1, 10, 100, DENOMINATOR_MAX)]
    turned = [1 / f for n in (1, 10, 100) if (f := Fraction(1 / ratio).limit_denominator(n))]
    others = [percent, *([1 / inverse] if inverse else []), *rough, *turned]
    return list(dict.fromkeys([*plain, *(v for v in others if v > 0 and v != 1)]))


def fits(ours: Numbers, theirs: Numbers, value: Fraction, steps: tuple[int, int]) -> Numbers:
    """Which pairs have the factor, up to half a unit, or a step where a side counts in steps.

    Pairs that are too small for their steps to tell one factor from another do not fit.
    """
    expected = theirs * float(value)
    slack = numpy.maximum(0.5000001, 1e-12 * numpy.abs(expected))
    slack = numpy.maximum(slack, 0.5000001 * float(value))
    for step, times in ((steps[0], 1.0), (steps[1], float(value))):
        if step > 1:
            slack = numpy.maximum(slack, step * times)
    near = numpy.abs(ours - expected) <= slack
    told: Numbers = near & ((slack <= 0.1 * numpy.abs(expected)) | (ours == expected))
    return told


def step_of(quantities: Numbers) -> int:
    """The largest round step that nearly all quantities are multiples of."""
    present = quantities[quantities != 0]
    if len(present) < PAIRS_MIN:
        return 1
    common = int(numpy.gcd.reduce(numpy.abs(present)))
    best = common if common > 1 else 1
    for step in STEPS:
        if step > best and (present % step == 0).mean() >= 0.98:
            best = step
    return best


STEPS = tuple(sorted(
    {m * 10**k for k in range(13) for m in (1, 2, 5)} | {6, 12, 15, 30, 60, 600, 900, 1800, 3600}
    | {8, 16, 32, 64, 128, 256, 512, 1024, 4096, 1024**2, 1024**3}
))  # fmt: skip
