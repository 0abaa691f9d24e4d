"""How two nodes that computed something else say so: the first line, or the meter's verdict."""

from __future__ import annotations

from tallystick.protocol.errors import FormatError
from tallystick.protocol.statement import decode_line
from tallystick.protocol.verdict import (
    MeterVerdict,
    Verdict,
    decode_verdict,
    first_differing,
    verdict_digest,
)


def first_line(proposer: bytes, other: bytes, first: str, second: str) -> str:
    """The first line in which two statements differ, as its bytes in each (empty: not there)."""
    return f"first line that differs: {first} have {_line(proposer)}; {second} have {_line(other)}"


def _line(data: bytes) -> str:
    if not data:
        return "no such line"
    try:
        line = decode_line(data)
    except FormatError:
        return "a line that cannot be read"
    return f"{line.period} {line.meter} {line.subject} {line.payable} {line.unit}"


def other_verdict(ours: Verdict, theirs: bytes, digest: bytes) -> str:
    """Why a proposal is not signed whose statement is ours, and whose verdict, which should have
    this digest, is not.
    """
    if not digest:
        return "the checkpoint has no verdict"
    try:
        verdict = decode_verdict(theirs)
    except FormatError as error:
        return f"its verdict cannot be read: {error.message}"
    if verdict_digest(verdict) != digest:
        return "its verdict is not the one that the checkpoint names"
    mine, other = first_differing(ours, verdict)
    name = next((row.meter for row in (mine, other) if row is not None), "its period")
    return f"the verdict on {name} differs: here {_verdict(mine)}; proposed {_verdict(other)}"


def _verdict(row: MeterVerdict | None) -> str:
    if row is None:
        return "nothing"
    declared = f"declared {row.provider or 'nothing'} and {row.consumer or 'nothing'}"
    return f"{row.result} ({declared}, payable {row.payable}, disputed {row.disputed})"
