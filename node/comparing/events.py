"""The events behind each step, as files: CSV and Parquet, whole or not at all.

A row is one event's part of one step, so the effects of a step's rows add up to the step, exactly.
Quantities are decimal text in each meter's own scale.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from tallystick.node.comparing.result import Finding
from tallystick.node.files import whole_file
from tallystick.node.formulas import shown_as_text
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Meter

GROUP_ROWS = 50_000  # rows in memory while Parquet is written

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = (
    "meter", "class", "id", "subject", "our_row", "our_time", "our_quantity",
    "record_index", "record_time", "record_quantity", "effect",
)  # fmt: skip
_OF_EXPORTS = {
    "record_index": "their_row", "record_time": "their_time", "record_quantity": "their_quantity",
}  # fmt: skip
_TEXTS = frozenset({"id", "subject"})  # whatever either party wrote
_SURE = ("meter", "class", "cause", "confidence", *_COLUMNS[2:])
_INSTANT = pyarrow.timestamp("us", tz="UTC")
_TYPES = {
    "cause": pyarrow.int32(), "our_row": pyarrow.int64(), "our_time": _INSTANT,
    "record_index": pyarrow.int64(), "record_time": _INSTANT,
}  # fmt: skip
_SCHEMA = pyarrow.schema([(name, _TYPES.get(name, pyarrow.string())) for name in _SURE])

Meters = Mapping[str, Meter]


def write_differences(
    path: Path, findings: Iterable[Finding], meters: Meters, of_exports: bool = False
) -> int:
    """The file beside the one that is compared; how many rows. Without any, there is no file.

    Between two exports their side is called theirs, since it is not the record.
    """
    header = [_OF_EXPORTS.get(name, name) if of_exports else name for name in _COLUMNS]
    count = _write_rows(path, _COLUMNS, findings, meters, header)
    if not count:
        path.unlink()
    return count


def write_csv(path: Path, findings: Iterable[Finding], meters: Meters) -> None:
    """All columns as CSV; what is not there is empty."""
    _write_rows(path, _SURE, findings, meters, _SURE)


def _write_rows(
    path: Path,
    columns: Sequence[str],
    findings: Iterable[Finding],
    meters: Meters,
    header: Sequence[str],
) -> int:
    count = 0
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        for finding in findings:
            count += 1
            cells = _cells(finding, meters, columns, _show_time)
            writer.writerow(
                shown_as_text(cell) if name in _TEXTS and cell is not None else cell
                for name, cell in zip(columns, cells, strict=True)
            )
    return count


def write_parquet(path: Path, findings: Iterable[Finding], meters: Meters) -> None:
    """All columns as Parquet: instants as such, what is not there as null."""
    remaining = iter(findings)
    with whole_file(path) as part, pyarrow.parquet.ParquetWriter(part, _SCHEMA) as writer:
        while group := list(islice(remaining, GROUP_ROWS)):
            rows = [_cells(finding, meters, _SURE, lambda at: at) for finding in group]
            columns = [
                pyarrow.array(column, field.type)
                for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=_SCHEMA))


def _cells(
    finding: Finding, meters: Meters, names: Sequence[str], show: Callable[[int | None], Any]
) -> list[Any]:
    """A finding's cells by column name; None where there is nothing."""
    meter = meters[finding.meter]

    def amount(value: int | None) -> str | None:
        return None if value is None else format_quantity(value, meter.scale)

    effect = {  # a count counts events, and single events do not add up to a maximum
        "sum": amount(finding.effect),
        "count": str(finding.effect),
        "max": None,
    }
    cells = {
        "meter": finding.meter,
        "class": finding.kind,
        "cause": finding.cause,
        "confidence": finding.confidence,
        "id": finding.id,
        "subject": finding.subject,
        "our_row": finding.our_place,
        "our_time": show(finding.our_at),
        "our_quantity": amount(finding.our_quantity),
        "record_index": finding.their_place,
        "record_time": show(finding.their_at),
        "record_quantity": amount(finding.their_quantity),
        "effect": effect[meter.aggregate],
    }
    return [cells[name] for name in names]


def _show_time(instant_us: int | None) -> str | None:
    """An instant in UTC, to the microsecond."""
    if instant_us is None:
        return None
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat(timespec="microseconds")


def show_clock(instant_us: int) -> str:
    """An instant in UTC, to the second, as people read it."""
    return (_EPOCH + timedelta(microseconds=instant_us)).strftime("%Y-%m-%d %H:%M:%S")
