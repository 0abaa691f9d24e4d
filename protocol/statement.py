"""A balance line, a statement (all lines of a period) and the tree over them.

A line is encoded as a canonical MessagePack array; the statement's tree is RFC 6962 over the lines
in their sorted order, so one line is provable without showing any other. Quantities in a line are
decimal text in the meter's notation, which no reader can misread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.merkle import leaf_hash, root_of
from tallystick.protocol.records import INT64_MAX, Terms


class Line(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One balance line. `period` is where it counts; `late_for` is the closed period that it
    belongs to, or None. `provider` and `consumer` are None where that side does not record.
    """

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

    @property
    def sort_key(self) -> tuple[str, str, str, str]:
        """Lines of a statement stand in this order, by code points."""
        return (self.period, self.late_for or "", self.meter, self.subject)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Line).decode


def encode_line(line: Line) -> bytes:
    """The line's canonical bytes, the leaf data of the statement's tree."""
    return _encode(line)


def decode_line(data: bytes) -> Line:
    """The line of these bytes; `FormatError` if they are not its canonical encoding."""
    try:
        line = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"not a balance line: {error}") from None
    if _encode(line) != data:
        raise FormatError("not a balance line: the bytes are not in canonical form")
    return line


def line_leaves(lines: Iterable[Line]) -> list[bytes]:
    """The leaf hashes of these lines."""
    return [leaf_hash(_encode(line)) for line in lines]


def statement_root(lines: Sequence[Line]) -> bytes:
    """The root of the statement's tree; the digest of any list of lines."""
    return root_of(line_leaves(lines))


def first_difference(a: Sequence[Line], b: Sequence[Line]) -> tuple[Line | None, Line | None]:
    """The first line in which two statements differ, as each has it (None: not there)."""
    for left, right in zip(a, b, strict=False):
        if left != right:
            if left.sort_key < right.sort_key:
                return left, None
            if left.sort_key > right.sort_key:
                return None, right
            return left, right
    shorter = min(len(a), len(b))
    return (a[shorter] if len(a) > shorter else None, b[shorter] if len(b) > shorter else None)


def raise_difference(derived: Sequence[Line], stated: Sequence[Line]) -> NoReturn:
    """Raise `ProofError` that names the first line in which a statement is not what was derived."""
    pair = first_difference(derived, stated)
    shown = [
        "no such line"
        if line is None
        else f"provider {line.provider}, consumer {line.consumer},"
        f" payable {line.payable}, deltas {line.deltas}"
        for line in pair
    ]
    line = pair[0] or pair[1]
    assert line is not None, "two statements that differ, differ in a line"
    raise ProofError(
        f"{line.meter} of {line.subject} in {line.late_for or line.period}:"
        f" the records give {shown[0]}; the statement says {shown[1]}"
    )


def meter_units(terms: Terms) -> dict[str, str]:
    """The unit of each meter's line: a count counts deltas, whatever is measured."""
    return {m.name: "delta" if m.aggregate == "count" else m.unit for m in terms.meters}


def line_scales(terms: Terms) -> dict[str, int]:
    """The decimal places of each meter's lines: a count has none."""
    return {m.name: 0 if m.aggregate == "count" else m.scale for m in terms.meters}
