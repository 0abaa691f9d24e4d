"""How balance lines are laid out in tables, for both renderings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallystick.node.statement.model import MeterPart, Row, Statement
from tallystick.node.statement.texts import nonzero

# With more meters than this, and few lines in each, all lines are in one table.
METERS_APART = 4
LINES_TOGETHER = 2  # in each meter, on average


@dataclass(frozen=True, slots=True)
class Table:
    """A table: columns of texts, then columns of numbers (None: that side does not record)."""

    title: str
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[str | None, ...]], ...]
    total: tuple[str, tuple[str, ...]] | None


def line_tables(statement: Statement) -> list[Table]:
    """The tables of a statement's lines, late ones aside."""
    parts = [part for part in statement.meters if part.rows]
    count = sum(len(part.rows) for part in parts)
    if len(parts) > METERS_APART and count <= LINES_TOGETHER * len(parts):
        return [_together(parts)]
    return [_of_meter(part) for part in parts]


def late_table(statement: Statement) -> Table | None:
    """The late lines, with the periods that they belong to; None without any."""
    late = statement.late
    if not late:
        return None
    columns = _columns([row for _, row in late], both=True)
    rows = tuple(
        ((row.period or "", f"{part.meter} ({part.unit})", row.subject), _numbers(row, columns))
        for part, row in late
    )
    return Table("Late usage", ("belongs to", "meter", "subject"), columns, rows, None)


def _of_meter(part: MeterPart) -> Table:
    both = part.provider is not None and part.consumer is not None
    columns = _columns(part.rows, both=both)
    total = None
    if len(part.rows) > 1:
        sums = tuple(add_decimals([_number(row, name) or "0" for row in part.rows])
                     for name in columns)  # fmt: skip
        total = (f"{len(part.rows)} lines", sums)
    rows = tuple(((row.subject,), _numbers(row, columns)) for row in part.rows)
    return Table(_title(part), ("subject",), columns, rows, total)


def _together(parts: Sequence[MeterPart]) -> Table:
    columns = _columns([row for part in parts for row in part.rows], both=True)
    rows = tuple(
        ((f"{part.meter} ({part.unit})", row.subject), _numbers(row, columns))
        for part in parts
        for row in part.rows
    )
    return Table("All meters", ("meter", "subject"), columns, rows, None)


def _columns(rows: Iterable[Row], *, both: bool) -> tuple[str, ...]:
    """The columns of numbers: what is zero on all lines is left out."""
    rows = list(rows)
    columns = ["provider", "consumer"] if both else []
    columns.append("payable")
    for name in ("disputed", "pending"):
        if any(nonzero(getattr(row, name)) for row in rows):
            columns.append(name)
    return (*columns, "deltas")


def _numbers(row: Row, columns: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(_number(row, name) for name in columns)


def _number(row: Row, name: str) -> str | None:
    value: str | int | None = getattr(row, name)
    return None if value is None else str(value)


def _title(part: MeterPart) -> str:
    alone = ""
    if part.consumer is None:
        alone = ", recorded by the provider alone"
    elif part.provider is None:
        alone = ", recorded by the consumer alone"
    return f"{part.meter} ({part.unit}){alone}"


def add_decimals(texts: Sequence[str]) -> str:
    """The exact sum of decimal texts."""
    places = max((len(text.partition(".")[2]) for text in texts), default=0)
    total = 0
    for text in texts:
        whole, _, fraction = text.partition(".")
        total += int(whole + fraction.ljust(places, "0"))
    if not places:
        return str(total)
    digits = str(abs(total)).rjust(places + 1, "0")
    return f"{'-' if total < 0 else ''}{digits[:-places]}.{digits[-places:]}"
