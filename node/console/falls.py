"""The waterfall of a comparison, out of the document that a process of its own wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.node.comparing.drawings import Bar, waterfall_drawing
from tallystick.node.comparing.markup import Markup
from tallystick.node.comparing.result import Comparison
from tallystick.node.comparing.words import step_name
from tallystick.node.console.comparing import Job
from tallystick.protocol.compare import Cause, ClassTotal, MeterComparison, waterfall
from tallystick.protocol.errors import FormatError
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.records import Terms
from tallystick.protocol.statement import line_scales, meter_units


@dataclass(frozen=True, slots=True)
class Fall:
    """A meter's waterfall as the console shows it."""

    meter: str
    unit: str
    verdict: str
    within: bool
    drawing: Markup
    steps: list[tuple[str, str, str, int]]  # kind, name, quantity, events
    theirs: str
    ours: str
    unexplained: str


def comparison_of(job: Job, terms: Terms, us: str, them: str) -> Comparison:
    """The comparison that a job's document tells of; `FormatError` if it tells of none."""
    scales, units = line_scales(terms), meter_units(terms)
    try:
        meters = [
            _meter(name, one, scales[name], units[name])
            for name, one in job.document["meters"].items()
        ]
        causes = [_cause(one, scales[one["meter"]]) for one in job.document["causes"]]
        rejected = int(job.document["rejected"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"the comparison's document is not as expected: {error!r}") from None
    return Comparison(
        Path(job.file_name), job.period, us, them, meters, {}, rejected, "", None, causes
    )  # fmt: skip


def _meter(name: str, one: dict[str, Any], scale: int, unit: str) -> MeterComparison:
    classes = {
        klass: ClassTotal(parse_total(total["quantity"], scale), total["events"])
        for klass, total in one["classes"].items()
    }
    ours, theirs = (parse_total(one[side], scale) for side in ("ours", "theirs"))
    return MeterComparison(
        name, unit, scale, ours, theirs, classes, one["within_tolerance"], one["rule"]
    )


def _cause(one: dict[str, Any], scale: int) -> Cause:
    return Cause(
        one["kind"], one["meter"], one["class"], parse_total(one["quantity"], scale),
        one["events"], one["confidence"], one["facts"], one["says"],
    )  # fmt: skip


def falls(comparison: Comparison) -> Iterator[Fall]:
    """Each meter's waterfall."""
    numbers = {id(cause): number for number, cause in enumerate(comparison.causes, 1)}
    for key, meter in enumerate(comparison.meters, 1):
        level = meter.theirs
        bars = [Bar("their total", "total", 0, level)]
        steps = []
        for step in waterfall(meter, comparison.causes):
            name = step_name(comparison, step, meter.meter)
            if step.cause:
                name = f"{numbers[id(step.cause)]} {name}"
            kind = "cause" if step.cause else "rest"
            bars.append(Bar(name, kind, level, level + step.quantity))
            level += step.quantity
            steps.append((kind, name, format_quantity(step.quantity, meter.scale), step.events))
        if meter.unexplained:
            bars.append(Bar("unexplained", "unexplained", level, level + meter.unexplained))
        bars.append(Bar("our total", "total", 0, meter.ours))
        yield Fall(
            meter.meter,
            meter.unit,
            meter.rule,
            meter.within_tolerance,
            waterfall_drawing(str(key), meter.meter, bars, meter.scale),
            steps,
            format_quantity(meter.theirs, meter.scale),
            format_quantity(meter.ours, meter.scale),
            format_quantity(meter.unexplained, meter.scale),
        )
