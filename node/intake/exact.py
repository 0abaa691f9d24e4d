"""JSON whose numbers stay what was written: texts of decimals, never binary floats."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.node.intake.native import UNDECODABLE
from tallystick.protocol.errors import InputError


class Literal(str):
    """A JSON number with a fraction or an exponent, as it was written."""

    __slots__ = ()


_decode = msgspec.json.Decoder(Any, float_hook=Literal).decode


def parse_exact(text: bytes, what: str) -> Any:
    """The values of a JSON text; `InputError` if it is none."""
    try:
        return _decode(text)
    except UNDECODABLE as error:
        raise InputError(f"{what} is not JSON: {error}") from None
