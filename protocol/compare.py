"""Compare: what two counts of one meter differ by, explained class by class, exactly.

A difference is a result and not an error. The classes' contributions and what stays unexplained add
up to it, and the terms' tolerance is applied last, to the whole. A cause is systematic: one
sentence about two systems that explains many events; its quantity is a part of one class's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Meter, Role

# In the order in which a report goes from their total to ours.
CLASSES = ("timing", "missing-here", "missing-there", "duplicate", "quantity", "rounding")

KINDS = (
    "offset", "lag", "cut-off", "factor", "rounding", "retry", "rename-meter", "rename-subject",
    "missing-feed", "sampling", "boundary",
)  # fmt: skip

Confidence = Literal["certain", "likely", "possible"]


@dataclass(frozen=True, slots=True)
class ClassTotal:
    """What one class contributes to ours minus theirs, and how many events it has."""

    quantity: int
    events: int


@dataclass(frozen=True, slots=True)
class Cause:
    """A systematic cause, and its part of one class of one meter, in the meter's scale.

    `kind` is one of `KINDS`; `facts` are its parameters as text, by name; `says` is one sentence.
    """

    kind: str
    meter: str
    klass: str
    quantity: int  # its part of ours minus theirs
    events: int
    confidence: Confidence
    facts: Mapping[str, str]
    says: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a waterfall: a cause's part of a class or, with no cause, the class's rest."""

    klass: str
    cause: Cause | None
    quantity: int
    events: int


@dataclass(frozen=True, slots=True)
class MeterComparison:
    """One meter in one period, in the meter's scale: our count, theirs, and why they differ."""

    meter: str
    unit: str
    scale: int
    ours: int
    theirs: int
    classes: Mapping[str, ClassTotal]
    within_tolerance: bool
    rule: str

    @property
    def difference(self) -> int:
        """Ours minus theirs."""
        return self.ours - self.theirs

    @property
    def unexplained(self) -> int:
        """What no class explains: nothing is ever hidden in one."""
        return self.difference - sum(total.quantity for total in self.classes.values())


def judge(meter: Meter, ours: int, theirs: int, our_role: Role, deltas: int) -> tuple[bool, str]:
    """Whether the terms tolerate the difference, and the rule that says so, in words."""
    difference = abs(ours - theirs)
    scale = 0 if meter.aggregate == "count" else meter.scale
    if difference == 0:
        return True, "no difference"
    tolerance = meter.tolerance
    if tolerance is None:
        return False, "the terms tolerate no difference"
    if deltas < tolerance.least:
        return True, f"not judged: {deltas} deltas, fewer than the terms' {tolerance.least}"
    base = abs(ours if tolerance.base == our_role else theirs)
    relative = tolerance.relative_ppm * base // 1_000_000
    absolute = tolerance.absolute
    if meter.aggregate == "count":
        absolute //= 10**meter.scale
    allowed = max(relative, absolute)
    percent = format_quantity(tolerance.relative_ppm, 4).rstrip("0").rstrip(".")
    which = (
        f"{percent}% of the {tolerance.base}'s number"
        if relative >= absolute
        else "the absolute bound"
    )
    bound = f"{format_quantity(allowed, scale)} {meter.unit} ({which})"
    if difference <= allowed:
        return True, f"within the tolerance of {bound}"
    return False, f"above the tolerance of {bound}"


def cause_of_maximum(ours: Mapping[str, int], theirs: Mapping[str, int]) -> str | None:
    """The one class or cause without which both maxima were equal; None if there is no such one.

    Both map each one to the highest quantity of its events in the period on that side, and ""
    to that of the events on which both agree. A side without events counts as zero.
    """
    target = max(theirs.values(), default=0)
    causes = []
    for name in sorted({*ours, *theirs} - {""}):
        undone = [quantity for other, quantity in ours.items() if other != name]
        if name in theirs:
            undone.append(theirs[name])
        if max(undone, default=0) == target:
            causes.append(name)
    return causes[0] if len(causes) == 1 else None


def ordered_causes(causes: Sequence[Cause], comparisons: Sequence[MeterComparison]) -> list[Cause]:
    """The causes from the largest part to the smallest; a cause's number is its place, from 1."""
    scales = {c.meter: c.scale for c in comparisons}

    def rank(cause: Cause) -> tuple[Fraction, str, int, tuple[str, ...]]:
        size = Fraction(abs(cause.quantity), 10 ** scales[cause.meter])
        return -size, cause.meter, KINDS.index(cause.kind), tuple(cause.facts.values())

    return sorted(causes, key=rank)


def waterfall(comparison: MeterComparison, causes: Sequence[Cause]) -> Iterator[Step]:
    """The steps from their total to ours, but for what stays unexplained: by class, the causes'
    parts and then the class's rest, if it has one. They and `unexplained` are the difference.
    """
    for name, total in comparison.classes.items():
        quantity, events = total.quantity, total.events
        for cause in causes:
            if (cause.meter, cause.klass) == (comparison.meter, name):
                yield Step(name, cause, cause.quantity, cause.events)
                quantity, events = quantity - cause.quantity, events - cause.events
        if quantity or events > 0:
            yield Step(name, None, quantity, max(events, 0))


def share_of(quantity: int, difference: int) -> str | None:
    """A part of the gap in percent, as decimal text with one place; None if there is no gap."""
    if not difference:
        return None
    return format_quantity(round(Fraction(1000 * quantity, difference)), 1)


def comparison_document(
    comparisons: Sequence[MeterComparison],
    events_file: str | None,
    causes: Sequence[Cause] = (),
) -> dict[str, Any]:
    """The comparison as JSON has it; quantities are decimal text, causes come in their order."""
    by_name = {c.meter: c for c in comparisons}
    return {
        "meters": {c.meter: _meter_document(c) for c in comparisons},
        "causes": [_cause_document(cause, by_name[cause.meter]) for cause in causes],
        "events_file": events_file,
    }


def _cause_document(cause: Cause, comparison: MeterComparison) -> dict[str, Any]:
    return {
        "kind": cause.kind,
        "meter": cause.meter,
        "class": cause.klass,
        "quantity": format_quantity(cause.quantity, comparison.scale),
        "share": share_of(cause.quantity, comparison.difference),
        "events": cause.events,
        "confidence": cause.confidence,
        "facts": dict(cause.facts),
        "says": cause.says,
    }


def _meter_document(comparison: MeterComparison) -> dict[str, Any]:
    def text(value: int) -> str:
        return format_quantity(value, comparison.scale)

    return {
        "ours": text(comparison.ours),
        "theirs": text(comparison.theirs),
        "difference": text(comparison.difference),
        "classes": {
            name: {"quantity": text(total.quantity), "events": total.events}
            for name, total in comparison.classes.items()
        },
        "unexplained": text(comparison.unexplained),
        "within_tolerance": comparison.within_tolerance,
        "rule": comparison.rule,
    }
