"""JSON deltas are read exactly, or refused by field."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.importing.drafts import Draft
from tallystick.node.intake.native import DeltaReader, Refused
from tallystick.protocol.quantities import TEXT_MAX, parse_quantity

METERS = {
    m.name: m
    for m in (
        builders.meter("tokens", minimum=0, maximum=10**9),
        builders.meter("hours", scale=2, minimum=-(10**18), maximum=10**18),
    )
}
NOW_US = 1_700_000_000_000_000
READER = DeltaReader(METERS, lambda: NOW_US)
AT = "2026-01-01T00:00:00Z"
AT_US = 1_767_225_600_000_000


def _line(quantity: str, meter: str = "hours", **other: str) -> bytes:
    fields = {"id": "a", "meter": meter, "subject": "x", "occurred_at": AT, **other}
    return (json.dumps(fields)[:-1] + f', "quantity": {quantity}}}').encode()


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("12.50", 1250),
        ('"12.50"', 1250),
        ("0.07", 7),  # a binary float would be 7.000000000000001 hundredths
        ("1.15e2", 11500),
        ("-3", -300),
        ("9007199254740993", 900719925474099300),  # beyond a float's whole numbers
        ('"\\u0031"', 100),
    ],
)
def test_quantities_are_exact(written: str, amount: int) -> None:
    assert READER.read(_line(written)) == (Draft("a", "hours", "x", amount, AT_US), True)


def test_without_a_time_it_is_of_now() -> None:
    line = b'{"id":"a","meter":"hours","subject":"x","quantity":1}'
    expected = (Draft("a", "hours", "x", 100, NOW_US), False)
    assert READER.read(line) == READER.read(line[:-1] + b',"occurred_at":null}') == expected


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        (b"", "", "not a delta"),
        (b"[]", "", "not a delta"),
        (b'{"id":', "", "not a delta"),
        (b"[" * 100_000, "", "not a delta"),
        (b'{"id": "\xff"}', "", "not a delta"),
        (_line("1")[:-1] + b', "price": 2}', "", "price"),
        (_line("1", "miles"), "meter", "no meter 'miles'; meters: hours, tokens"),
        (_line("1.005"), "quantity", "more decimal places"),
        (_line('"1,5"'), "quantity", "not a decimal"),
        (_line("true"), "quantity", "not a number"),
        (_line("null"), "quantity", "not a number"),
        (_line("[1]"), "quantity", "not a number"),
        (_line("NaN"), "", "not a delta"),
        (_line('"NaN"'), "quantity", "billed"),
        (_line("-1", "tokens"), "quantity", "outside 0 to 1000000000"),
        (_line("1" + "0" * 5000), "quantity", "too long"),
        (_line("1e999999999"), "quantity", "not a decimal"),
        (_line("1", id=""), "id", "0 bytes"),
        (_line("1", id="é" * 65), "id", "130 bytes"),
        (_line("1", subject="a\nb"), "subject", "control"),
        (_line("1", id="\ud800"), "", "surrogate"),
        (_line("1", occurred_at="yesterday"), "occurred_at", "ISO 8601"),
        (_line("1", occurred_at=""), "occurred_at", "empty"),
        (b'{"id":"a","meter":"hours","subject":"x"}', "", "quantity"),
    ],
)
def test_what_is_wrong_is_named(line: bytes, field: str, said: str) -> None:
    with pytest.raises(Refused) as raised:
        READER.read(line)
    assert (raised.value.field, len(raised.value.value) <= 120) == (field, True)
    assert said in raised.value.reason


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_a_number_is_what_its_text_is(number: Decimal) -> None:
    written = str(number)
    try:
        read = READER.read(_line(written))[0].quantity
    except Refused:
        read = None
    exact = Fraction(number) * 100
    may_be = exact.denominator == 1 and len(written) <= TEXT_MAX
    assert read == (exact.numerator if may_be else None)


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(Refused):
        READER.read(garbage)


@given(st.integers(-(10**15), 10**15))
def test_text_and_number_are_the_same(number: int) -> None:
    assert READER.read(_line(f"{number}")) == READER.read(_line(f'"{number}"'))
    assert READER.read(_line(f"{number}"))[0].quantity == parse_quantity(str(number), 2)
