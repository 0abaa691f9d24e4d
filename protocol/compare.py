"""Compare: what two counts of one meter differ by, explained class by class, exactly.

A difference is a result and not an error. The classes' contributions and what stays unexplained add
up to it, and the terms' tolerance is applied last, to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Meter, Role

# In the order in which a report goes from their total to ours.
CLASSES = ("timing", "missing-here", "missing-there", "duplicate", "quantity")


@dataclass(frozen=True, slots=True)
class ClassTotal:
    """What one class contributes to ours minus theirs, and how many events it has."""

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
    """The one class without which both maxima were equal; None if there is no such class.

    Both map each class to the highest quantity of its events in the period on that side, and ""
    to that of the events on which both agree. A side without events counts as zero.
    """
    target = max(theirs.values(), default=0)
    causes = []
    for name in CLASSES:
        if name in ours or name in theirs:
            undone = [quantity for other, quantity in ours.items() if other != name]
            if name in theirs:
                undone.append(theirs[name])
            if max(undone, default=0) == target:
                causes.append(name)
    return causes[0] if len(causes) == 1 else None


def comparison_document(
    comparisons: Sequence[MeterComparison], events_file: str | None
) -> dict[str, Any]:
    """The comparison as JSON has it; quantities are decimal text."""
    return {
        "meters": {c.meter: _meter_document(c) for c in comparisons},
        "causes": [],
        "events_file": events_file,
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
