"""Numbers as JSON writes them, exact: read from the very digits, and never through a binary float.

0.1 and 0.2 are 0.3 here.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

import msgspec

from tallystick.node.api.pacspace.wire import bad
from tallystick.protocol.quantities import format_quantity

TEXT_MAX = 64
EXPONENT_MAX = 400  # a little more than any double has
_DIGITS = 1000  # so that no sum of two such numbers is rounded

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE]([+-]?[0-9]+))?")


def is_number(text: str) -> bool:
    """Whether a text is a number as JSON writes it."""
    return _NUMBER.fullmatch(text) is not None


def parse_number(text: str, name: str) -> Decimal:
    """The exact value of a JSON number."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise bad(f"{name} must be a finite number, not {text[:40]}")
    exponent = match[1] or "0"
    if len(text) > TEXT_MAX or len(exponent) > 5 or abs(int(exponent)) > EXPONENT_MAX:
        raise bad(f"{name} has too many digits, or too large an exponent: {text[:40]}")
    return Decimal(text)


def add(*values: Decimal) -> Decimal:
    """The exact sum."""
    with localcontext(prec=_DIGITS):
        return sum(values, Decimal())


def take(value: Decimal, other: Decimal) -> Decimal:
    """The exact difference."""
    with localcontext(prec=_DIGITS):
        return value - other


def scaled(value: int, scale: int) -> Decimal:
    """An integer in a meter's scale as a decimal."""
    return Decimal(format_quantity(value, scale))


def json_number(value: Decimal) -> msgspec.Raw:
    """A decimal as a JSON number, without zeros that say nothing."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -40 <= exponent <= 0:
        text = f"{value:f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        text = "0" if text in ("-0", "") else text
    else:
        text = str(value)
    return msgspec.Raw(text.encode())
