"""A statement and its verdict as files that people and programs open, each with one exact form.

What is signed is the tree over the lines' canonical bytes; these are copies of the same lines for
reading. They are pure functions of the checkpoint and the lines, so a verifier writes them again
and compares bytes. Nothing here depends on a library's taste in quoting or its version.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.checkpoint import Checkpoint
from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import INT64_MAX
from tallystick.protocol.statement import Line
from tallystick.protocol.verdict import MeterVerdict, Result, Verdict

COLUMNS = (
    "period",
    "late_for",
    "meter",
    "subject",
    "unit",
    "provider",
    "consumer",
    "payable",
    "disputed",
    "pending",
    "deltas",
)
METER_COLUMNS = ("meter", "unit", "provider", "consumer", "payable", "disputed", "result")


class _Row(Struct, forbid_unknown_fields=True):
    period: str
    late_for: str | None
    meter: str
    subject: str
    unit: str
    provider: str | None
    consumer: str | None
    payable: str
    disputed: str
    pending: str
    deltas: Annotated[int, Meta(ge=0, le=INT64_MAX)]


class _Document(Struct, forbid_unknown_fields=True):
    channel: str
    period: str
    time_zone: str
    checkpoint: str
    root: str
    lines: list[_Row]


class _MeterRow(Struct, forbid_unknown_fields=True):
    meter: str
    unit: str
    provider: str | None
    consumer: str | None
    payable: str
    disputed: str
    result: Result


class _VerdictDocument(Struct, forbid_unknown_fields=True):
    period: str
    meters: list[_MeterRow]


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def statement_json(checkpoint: Checkpoint, lines: Sequence[Line]) -> bytes:
    """The statement as JSON (RFC 8259), UTF-8, two spaces an indent, one line feed at the end.

    Keys: `channel`, `period`, `time_zone`, `checkpoint` (digest), `root` (of the statement's tree)
    and `lines`, each an object with the keys of `COLUMNS`. Digests are hexadecimal, quantities
    decimal strings, `deltas` a number, what is absent null.
    """
    document = {
        "channel": checkpoint.channel_id.hex(),
        "period": checkpoint.period,
        "time_zone": checkpoint.time_zone,
        "checkpoint": checkpoint.digest().hex(),
        "root": checkpoint.statement_root.hex(),
        "lines": [{name: getattr(line, name) for name in COLUMNS} for line in lines],
    }
    return _json(document)


def parse_statement_json(data: bytes) -> list[Line]:
    """The lines of a statement's JSON; `FormatError` if it does not have that shape.

    Whether it is in its one exact form shows by writing it again (`statement_json`).
    """
    try:
        rows = msgspec.json.decode(data, type=_Document).lines
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not a statement's JSON: {error}") from None
    return [Line(*(getattr(row, name) for name in COLUMNS)) for row in rows]


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON has it: `period`, and `meters`, each an object with the fields of
    `MeterVerdict`; numbers are decimal strings, what was not declared is null.
    """
    rows = [{name: getattr(row, name) for name in METER_COLUMNS} for row in verdict.meters]
    return {"period": verdict.period, "meters": rows}


def verdict_json(verdict: Verdict) -> bytes:
    """The verdict as a bundle's member, in the form of `statement_json`."""
    return _json(verdict_document(verdict))


def parse_verdict_json(data: bytes) -> Verdict:
    """The verdict of its JSON; `FormatError` if it does not have that shape.

    Whether it is in its one exact form shows by writing it again (`verdict_json`).
    """
    try:
        document = msgspec.json.decode(data, type=_VerdictDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not a verdict's JSON: {error}") from None
    rows = (MeterVerdict(*(getattr(r, name) for name in METER_COLUMNS)) for r in document.meters)
    return Verdict(document.period, tuple(rows))


def statement_csv(lines: Sequence[Line]) -> bytes:
    """The lines as CSV (RFC 4180), UTF-8 with a header row; what is absent is empty.

    A field is quoted exactly when it holds a quote, a comma, CR or LF.
    """
    rows = [COLUMNS, *([getattr(line, name) for name in COLUMNS] for line in lines)]
    return "".join(",".join(map(_csv_field, row)) + "\r\n" for row in rows).encode()


def _csv_field(value: str | int | None) -> str:
    text = "" if value is None else str(value)
    if any(character in text for character in '",\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
