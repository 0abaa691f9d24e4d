"""How sure a number is: one word for each balance line, the same at both nodes.

The words are rungs: each says more than the one before it, and a line has the highest that is true
of all of it. `disputed` stands outside: it overrides the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, get_args

from tallystick.protocol.compare import judge
from tallystick.protocol.quantities import parse_total
from tallystick.protocol.records import ROLES, Meter, Terms
from tallystick.protocol.statement import Line, line_scales
from tallystick.protocol.verdict import Totals

Status = Literal["open", "co-signed", "declared", "agreed", "checkpointed", "disputed"]
STATUSES: tuple[Status, ...] = get_args(Status)

# The charge period's label, the meter, the subject.
LineName = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the statuses of lines follow from, beside the lines.

    `closed` are the labels of the periods that both closed; `uncosigned` the lines that change if
    what is not co-signed yet is left out; `declared` the totals that count of both parties'
    declarations (provider's, consumer's), by period.
    """

    terms: Terms
    closed: AbstractSet[str]
    uncosigned: AbstractSet[LineName]
    declared: Mapping[str, tuple[Totals, Totals]]


def line_statuses(lines: Sequence[Line], grounds: Grounds) -> list[Status]:
    """The status of each line; `lines` must be all lines of the periods that they are of."""
    scales = line_scales(grounds.terms)
    of_meters: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.period in grounds.declared and line.late_for is None:
            of_meters.setdefault((line.period, line.meter), []).append(line)
    by_declarations = {
        (label, meter.name): _by_declarations(
            meter, scales[meter.name], of_meters.get((label, meter.name), ()), totals
        )
        for label, totals in grounds.declared.items()
        for meter in grounds.terms.meters
    }
    return [_status(line, grounds, by_declarations) for line in lines]


def _status(
    line: Line, grounds: Grounds, by_declarations: Mapping[tuple[str, str], Status]
) -> Status:
    declared: Status = "co-signed"
    if line.late_for is None:
        declared = by_declarations.get((line.period, line.meter), declared)
    if line.disputed.strip("0.") or declared == "disputed":
        return "disputed"
    if line.period in grounds.closed:
        return "checkpointed"
    if (line.late_for or line.period, line.meter, line.subject) in grounds.uncosigned:
        return "open"
    return declared


def _by_declarations(
    meter: Meter, scale: int, lines: Sequence[Line], totals: tuple[Totals, Totals]
) -> Status:
    """What the declared totals make of a meter's lines of a period, if they are co-signed."""
    recorded = sum(parse_total(line.payable, scale) for line in lines)
    deltas = sum(line.deltas for line in lines)
    provider, consumer = (None if side is None else side.get(meter.name) for side in totals)
    if (
        provider is not None
        and consumer is not None
        and not judge(meter, provider, consumer, "provider", deltas)[0]
    ):
        return "disputed"
    confirmed = [
        total is not None and judge(meter, total, recorded, role, deltas)[0]
        for role, total in zip(ROLES, (provider, consumer), strict=True)
    ]
    return "agreed" if all(confirmed) else "declared" if any(confirmed) else "co-signed"


def status_of_all(statuses: Iterable[Status]) -> Status | None:
    """The status of several lines together: the weakest, `disputed` overriding; None of nothing."""
    found = set(statuses)
    if "disputed" in found:
        return "disputed"
    return next((status for status in STATUSES if status in found), None)
