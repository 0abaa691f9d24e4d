"""A side's rows while it is being observed, and what they count in the period."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallystick.protocol.periods import Period
from tallystick.protocol.records import Meter
from worlds.base import Usage


@dataclass(slots=True)
class Row:
    """One row of an export: a request, or a sum of several, with an amount for each meter.

    `usages` are the numbers of the requests behind it; a `copy` repeats another row of its side.
    """

    usages: tuple[int, ...]
    id: str | None
    subject: str
    at: int
    amounts: dict[str, int]
    session: str
    outcome: str
    session_start: int
    session_end: int
    copy: bool = False


def row_of(usage: Usage, amounts: dict[str, int]) -> Row:
    """What a side without any fault would note of a request."""
    return Row(
        (usage.number,), usage.id, usage.subject, usage.at, dict(amounts), usage.session,
        usage.outcome, usage.session_start, usage.session_end,
    )  # fmt: skip


def again(row: Row, **changes: object) -> Row:
    """A copy of a row, of its own, with some fields changed."""
    made = Row(
        row.usages, row.id, row.subject, row.at, dict(row.amounts), row.session, row.outcome,
        row.session_start, row.session_end, row.copy,
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def totals(rows: Iterable[Row], meters: Sequence[Meter], period: Period) -> dict[str, int]:
    """What a side counts in the period, by meter."""
    found = {meter.name: 0 for meter in meters}
    highest = {meter.name for meter in meters if meter.aggregate == "max"}
    for row in rows:
        if period.start_us <= row.at < period.end_us:
            for name, amount in row.amounts.items():
                if name in highest:
                    found[name] = max(found[name], amount)
                else:
                    found[name] += amount
    return found
