"""The verdict: what the terms say about the two parties' declared totals of a period, meter by
meter, computed alike by both.

A pure function of the terms, the statement's lines and the totals that count of each party's
declarations. Its digest stands in the checkpoint, so both sign it with the statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.compare import judge
from tallystick.protocol.errors import FormatError
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.records import Label, Meter, Terms
from tallystick.protocol.statement import Line, line_scales, meter_units

Result = Literal["agreed", "within tolerance", "disputed", "declared by one", "not declared"]
RESULTS: tuple[Result, ...] = get_args(Result)
_TITLE = b"tallystick verdict v1\n"

Number = Annotated[str, Meta(min_length=1, max_length=41)]
Totals = Mapping[str, int] | None  # what counts of a party's declarations, in each meter's scale


class MeterVerdict(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One meter: what each party declared (None: nothing that counts), what the record makes
    payable and disputed, and the result. Numbers are decimal text in the meter's notation.
    """

    meter: str
    unit: str
    provider: Number | None
    consumer: Number | None
    payable: Number
    disputed: Number
    result: Result


class Verdict(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A period's verdict: every meter of the terms, in their order."""

    period: Label
    meters: tuple[MeterVerdict, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Verdict).decode


def encode_verdict(verdict: Verdict) -> bytes:
    """The verdict's canonical bytes."""
    return _encode(verdict)


def decode_verdict(data: bytes) -> Verdict:
    """The verdict of these bytes; `FormatError` if they are not its canonical encoding."""
    try:
        verdict = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"not a verdict: {error}") from None
    if _encode(verdict) != data:
        raise FormatError("not a verdict: the bytes are not in canonical form")
    return verdict


def verdict_digest(verdict: Verdict) -> bytes:
    """What a checkpoint says of its period's verdict."""
    return hashlib.sha256(_TITLE + _encode(verdict)).digest()


def make_verdict(
    terms: Terms, period: str, lines: Sequence[Line], provider: Totals, consumer: Totals
) -> Verdict:
    """The verdict on a period's statement; `lines` are all its lines, late ones included."""
    units, scales = meter_units(terms), line_scales(terms)
    meters = []
    for meter in terms.meters:
        name, scale = meter.name, scales[meter.name]
        of_meter = [line for line in lines if line.meter == name]
        payable = sum(parse_total(line.payable, scale) for line in of_meter)
        disputed = sum(parse_total(line.disputed, scale) for line in of_meter)
        deltas = sum(line.deltas for line in of_meter if line.late_for is None)
        sides = [None if totals is None else totals.get(name) for totals in (provider, consumer)]
        shown = [None if side is None else format_quantity(side, scale) for side in sides]
        meters.append(
            MeterVerdict(
                name,
                units[name],
                shown[0],
                shown[1],
                format_quantity(payable, scale),
                format_quantity(disputed, scale),
                _result(meter, sides[0], sides[1], disputed, deltas),
            )
        )
    return Verdict(period, tuple(meters))


def _result(
    meter: Meter, provider: int | None, consumer: int | None, disputed: int, deltas: int
) -> Result:
    if disputed:
        return "disputed"
    if provider is None or consumer is None:
        return "not declared" if provider is consumer else "declared by one"
    if provider == consumer:
        return "agreed"
    within, _ = judge(meter, provider, consumer, "provider", deltas)
    return "within tolerance" if within else "disputed"


def declared_of(terms: Terms, verdict: Verdict) -> tuple[Totals, Totals]:
    """The totals that a verdict says were declared, in each meter's scale; `FormatError` if one
    is not a decimal of its meter.
    """
    scales = line_scales(terms)
    if [row.meter for row in verdict.meters] != list(scales):
        raise FormatError("the verdict's meters are not those of the terms, in their order")
    sides: list[dict[str, int]] = []
    for role in ("provider", "consumer"):
        found = {row.meter: getattr(row, role) for row in verdict.meters}
        sides.append(
            {name: parse_total(text, scales[name]) for name, text in found.items() if text}
        )
    return sides[0] or None, sides[1] or None


def first_differing(a: Verdict, b: Verdict) -> tuple[MeterVerdict | None, MeterVerdict | None]:
    """The first meter in which two verdicts differ, as each has it (None: it has no such row)."""
    for place in range(max(len(a.meters), len(b.meters))):
        left, right = (v.meters[place] if place < len(v.meters) else None for v in (a, b))
        if left != right:
            return left, right
    return None, None


def describe_meter(row: MeterVerdict, provider: str, consumer: str) -> str:
    """A meter's verdict in a sentence; the parties are called by these names."""
    said = {provider: row.provider, consumer: row.consumer}
    match row.result:
        case "agreed":
            text = f"agreed: both counted {row.provider} {row.unit}"
        case "within tolerance":
            text = (
                f"within tolerance: {provider} counted {row.provider},"
                f" {consumer} {row.consumer} {row.unit}"
            )
        case "declared by one":
            name, total = next((n, t) for n, t in said.items() if t is not None)
            text = f"declared by one: {name} counted {total} {row.unit}"
        case "not declared":
            text = "not declared"
        case _:
            counted = [f"{name} counted {total}" for name, total in said.items() if total]
            text = "disputed" + (f": {', '.join(counted)} {row.unit}" if counted else "")
    text += f"; payable {row.payable}"
    if row.disputed.strip("0."):
        text += f", disputed {row.disputed}"
    return f"{row.meter}: {text}"
