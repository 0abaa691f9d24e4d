"""The comparison for people: what differs, by how much, and why, in a few lines of 80 columns."""

from __future__ import annotations

from rich.cells import cell_len

from tallystick.node.comparing.columns import COLUMNS, cropped, folded, left
from tallystick.node.comparing.events import show_clock
from tallystick.node.comparing.result import Comparison, Finding
from tallystick.node.comparing.words import (
    alike,
    by_weight,
    class_name,
    counted,
    differs,
    grouped,
    headline,
    our_total,
    pairing_words,
    percent,
    signed,
    step_name,
    steps_of,
    their_total,
)
from tallystick.protocol.compare import MeterComparison
from tallystick.protocol.messages import plain
from tallystick.protocol.quantities import format_quantity

FULL_METERS = 4  # meters that are shown in full; others that differ have a line each
LINE_METERS = 12  # and so many lines at most
EXAMPLE_ID = 20  # columns of an id in an example
UNIT = 24  # columns of a unit

_EVENTS, _AMOUNT, _SHARE = 10, 22, 8  # least widths


def render_comparison(comparison: Comparison) -> str:
    """The report's text."""
    found = by_weight(comparison.meters)
    full, rest = found[:FULL_METERS], found[FULL_METERS:]
    blocks = [folded(headline(comparison))]
    blocks += [_meter(comparison, meter) for meter in full]
    blocks += [_rest(rest), _agreeing(comparison, bool(found))]
    blocks.append([*_causes(comparison, full), *_examples(comparison, full[:1]), *_end(comparison)])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _end(comparison: Comparison) -> list[str]:
    """How sure the pairing is, what could not be read, and where the events are."""
    sure = pairing_words(comparison)
    lines = folded(sure, 0, 2) if sure else []
    if comparison.rejected:
        rows = counted(comparison.rejected, "row")
        lines += folded(f"Not in these sums: {rows} of the file that cannot be read; the first is")
        lines += folded(plain(comparison.first_reject), 2, 2)
    if comparison.events_file:
        events = plain(str(comparison.events_file))
        lines += folded(f"The events behind each step: {events}", 0, 2)
    return lines


def _meter(comparison: Comparison, meter: MeterComparison) -> list[str]:
    """One meter's waterfall and what the terms say of it."""
    numbers = {id(cause): number for number, cause in enumerate(comparison.causes, 1)}
    rows = [(their_total(comparison, meter), "", grouped(meter.theirs, meter.scale), "")]
    for step in steps_of(comparison, meter):
        number = f"{numbers[id(step.cause)]} " if step.cause else ""
        name = step_name(comparison, step, meter.meter)
        share = percent(step.quantity, meter.difference)
        amount = signed(step.quantity, meter.scale)
        rows.append((f"{number}{name}", f"{step.events:,}", amount, share))
    share = percent(meter.unexplained, meter.difference) if meter.unexplained else ""
    rows.append(("unexplained", "", signed(meter.unexplained, meter.scale), share))
    rows.append((plain(our_total(comparison)), "", grouped(meter.ours, meter.scale), ""))
    amounts = max(_AMOUNT, *(len(amount) + 1 for _, _, amount, _ in rows))
    events = max(_EVENTS, *(len(events) + 1 for _, events, _, _ in rows))
    width = COLUMNS - 2 - events - amounts - _SHARE
    title = left(f"{plain(meter.meter)} ({plain(meter.unit)})", width + 2)
    lines = [f"{title}{'events':>{events}}{'quantity':>{amounts}}{'share':>{_SHARE}}"]
    lines += [
        f"  {left(word, width)}{count:>{events}}{amount:>{amounts}}{share:>{_SHARE}}".rstrip()
        for word, count, amount, share in rows
    ]
    return lines + folded(f"{_verdict(meter)}: {plain(meter.rule)}", 2, 4)


def _verdict(meter: MeterComparison) -> str:
    return "ok" if meter.within_tolerance else "DIFFERS"


def _rest(meters: list[MeterComparison]) -> list[str]:
    """A line for each other meter that differs, and how many have none."""
    lines = []
    for meter in meters[:LINE_METERS]:
        told = f"{signed(meter.difference, meter.scale)} {cropped(plain(meter.unit), UNIT)}"
        if meter.unexplained:
            told += f", {signed(meter.unexplained, meter.scale)} unexplained"
        room = COLUMNS - cell_len(told) - 10
        lines.append(f"{_verdict(meter):<7}  {left(plain(meter.meter), room)} {told}")
    more = meters[LINE_METERS:]
    if more:
        bad = sum(not meter.within_tolerance for meter in more)
        verdict = f"{bad:,} of them not tolerated" if bad else "all tolerated"
        lines.append(f"and {counted(len(more), 'meter')} more, {verdict}")
    return lines


def _agreeing(comparison: Comparison, others: bool) -> list[str]:
    """The meters without any difference: their totals, or how many they are beside others."""
    meters = [meter for meter in comparison.meters if not differs(meter)]
    if others and len(meters) > 1:
        return [f"{counted(len(meters), 'meter')} without any difference"]
    lines = []
    for meter in meters[:LINE_METERS]:
        told = (
            f"{grouped(meter.ours, meter.scale)} {cropped(plain(meter.unit), UNIT)} on both sides"
        )
        lines.append(f"ok       {left(plain(meter.meter), COLUMNS - cell_len(told) - 10)} {told}")
    if len(meters) > LINE_METERS:
        lines.append(f"and {counted(len(meters) - LINE_METERS, 'meter')} more")
    return lines


def _causes(comparison: Comparison, meters: list[MeterComparison]) -> list[str]:
    """The causes of the meters that are shown, in words; those of several meters once."""
    shown = {meter.meter for meter in meters}
    lines = []
    for numbers, cause in alike(comparison.causes):
        if shown & {comparison.causes[number - 1].meter for number in numbers}:
            which = ", ".join(map(str, numbers))
            lines += folded(f"{which} {cause.confidence}: {plain(cause.says)}", 0, 2)
    return lines


def _examples(comparison: Comparison, meters: list[MeterComparison]) -> list[str]:
    """An event of each class that has some which no cause explains."""
    lines = []
    for meter in meters:
        for step in steps_of(comparison, meter):
            found = comparison.examples.get((meter.meter, step.klass, None), [])
            if step.cause is None and found:
                event = _example(found[0], comparison.event_scale(meter))
                lines += folded(f"for example, {class_name(comparison, step.klass)}: {event}", 0, 2)
    return lines


def _example(finding: Finding, scale: int) -> str:
    """One event in a line."""
    name = plain(finding.id or finding.subject)
    sides = []
    for who, at, quantity in (
        ("here", finding.our_at, finding.our_quantity),
        ("there", finding.their_at, finding.their_quantity),
    ):
        if at is not None and quantity is not None:
            sides.append(f"{format_quantity(quantity, scale)} {who} at {show_clock(at)[5:]}")
    return f"{cropped(name, EXAMPLE_ID)}, {', '.join(sides)} UTC"
