"""The comparison for people: what differs, by how much, and why, in a few lines of 80 columns."""

from __future__ import annotations

import textwrap

from tallystick.node.comparing.comparison import Comparison, show_time
from tallystick.node.comparing.matching import Finding
from tallystick.protocol.compare import MeterComparison
from tallystick.protocol.quantities import format_quantity

COLUMNS = 80

_WORDS = {
    "timing": "in another period",
    "missing-here": "missing here",
    "missing-there": "missing there",
    "duplicate": "twice here",
    "quantity": "other quantity",
}


def render_comparison(comparison: Comparison) -> str:
    """The report's text."""
    who = f"{comparison.file.name} of {comparison.us}"
    lines = [f"{who} against {comparison.against}, {comparison.period}"]
    for meter in comparison.meters:
        lines += ["", *_meter(comparison, meter)]
    if comparison.rejected:
        lines += [
            "",
            f"{comparison.rejected:,} rows of the file cannot be read and are not in these sums;",
            f"  the first: {comparison.first_reject}",
        ]
    if comparison.events_file:
        lines += ["", f"The events behind each line: {comparison.events_file}"]
    return "\n".join(part for line in lines for part in _folded(line))


def _folded(line: str) -> list[str]:
    """A line that is too long, at its spaces; a path or an id is never broken."""
    if len(line) <= COLUMNS:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line.lstrip(),
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _meter(comparison: Comparison, meter: MeterComparison) -> list[str]:
    rows = [("their total", "", _grouped(meter.theirs, meter.scale))]
    for name, total in meter.classes.items():
        events = f"{total.events:,} event{'s' if total.events != 1 else ''}"
        rows.append((f"{_WORDS[name]}", events, _signed(total.quantity, meter.scale)))
    rows.append(("unexplained", "", _signed(meter.unexplained, meter.scale)))
    rows.append(("our total", "", _grouped(meter.ours, meter.scale)))
    lines = [f"{meter.meter} ({meter.unit})"]
    lines += [f"  {name:<20} {events:>14} {amount:>24}" for name, events, amount in rows]
    verdict = "ok" if meter.within_tolerance else "DIFFERS"
    gap = _signed(meter.difference, meter.scale)
    lines.append(f"  {verdict}: {gap} {meter.unit}, {meter.rule}")
    for name in meter.classes:
        found = comparison.examples.get((meter.meter, name), [])
        lines += [f"    {_WORDS[name]}: {_example(finding, meter.scale)}" for finding in found[:1]]
    return lines


def _example(finding: Finding, scale: int) -> str:
    """One event in a line."""
    name = finding.id or finding.subject
    sides = []
    for who, at, quantity in (
        ("here", finding.our_at, finding.our_quantity),
        ("there", finding.their_at, finding.their_quantity),
    ):
        if at is not None and quantity is not None:
            clock = show_time(at)[5:19].replace("T", " ")
            sides.append(f"{format_quantity(quantity, scale)} {who} at {clock}")
    return f"{name[:24]}, {', '.join(sides)}"


def _grouped(value: int, scale: int) -> str:
    text = format_quantity(abs(value), scale)
    whole, dot, fraction = text.partition(".")
    return f"{'-' if value < 0 else ''}{int(whole):,}{dot}{fraction}"


def _signed(value: int, scale: int) -> str:
    return f"+{_grouped(value, scale)}" if value > 0 else _grouped(value, scale)
