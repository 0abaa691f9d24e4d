"""Quantities: exact decimals as people write them, integers in a meter's scale as we count them."""

from __future__ import annotations

import re

from tallystick.protocol.errors import FormatError, QuantityError
from tallystick.protocol.records import INT64_MAX, INT64_MIN

TEXT_MAX = 64  # no exact 64-bit decimal needs more; a longer text is not looked at

_DECIMAL = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,3}))?")
_SEPARATED = re.compile(r"[+-]?[0-9]{1,3}(?:[ ,'_.  ][0-9]{3})+(?:[.,][0-9]+)?")


def parse_quantity(text: str, scale: int) -> int:
    """The quantity as an integer in the scale: `12.50` at scale 2 is 1250.

    Decimals and scientific notation are taken if they are exact at the scale and within 64 bits;
    anything else is a `QuantityError` that says why.
    """
    value: int
    if len(text) < 19 and text.isascii() and text.isdigit():
        value = int(text) * 10**scale
    else:
        value = _parse_general(text, scale)
    if not INT64_MIN <= value <= INT64_MAX:
        raise QuantityError(f"{text} does not fit into 64 bits at scale {scale}")
    return value


def _parse_general(text: str, scale: int) -> int:
    if not text or text.isspace():
        raise QuantityError("the quantity is empty")
    if len(text) > TEXT_MAX:
        raise QuantityError(f"{text[:20]!r}… is too long for a quantity")
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise QuantityError(f"{text} is not a number that can be billed")
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        if _SEPARATED.fullmatch(text):
            raise QuantityError(
                f"{text!r} holds a thousands separator", "Write the digits alone, as in 1234.50"
            )
        raise QuantityError(f"{text!r} is not a decimal number")
    sign, whole, fraction, exponent = match.groups()
    digits = whole + (fraction or "")
    value: int
    shift = scale - len(fraction or "") + int(exponent or 0)
    if not digits.strip("0"):
        return 0
    if shift >= 0:
        value = int(digits) * 10**shift
    else:
        kept, cut = digits[:shift], digits[shift:]
        if cut.strip("0") or len(digits) < -shift:
            raise QuantityError(f"{text} has more decimal places than the meter's {scale}")
        value = int(kept or "0")
    return -value if sign == "-" else value


def format_quantity(value: int, scale: int) -> str:
    """The decimal text of an integer in the scale: 1250 at scale 2 is `12.50`."""
    if not scale:
        return str(value)
    digits = str(abs(value)).rjust(scale + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def parse_total(text: str, scale: int) -> int:
    """The integer of a total as `format_quantity` writes it; unlike a delta's quantity, it may
    pass 64 bits. `FormatError` for anything else.
    """
    whole, _, fraction = text.partition(".")
    # 128 bits, in which totals are kept, are 39 digits; Python refuses to read very long numbers.
    if re.fullmatch(r"-?[0-9]{1,39}", whole + fraction):
        value = int(whole + fraction)
        if format_quantity(value, scale) == text:
            return value
    raise FormatError(f"{text[:60]!r} is not a decimal with {scale} places")
