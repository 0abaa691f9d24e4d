"""Quantities are exact or refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import QuantityError
from tallystick.protocol.quantities import format_quantity, parse_quantity
from tallystick.protocol.records import INT64_MAX, INT64_MIN


@given(st.integers(INT64_MIN, INT64_MAX), st.integers(0, 18))
def test_text_and_back(value: int, scale: int) -> None:
    text = format_quantity(value, scale)
    assert parse_quantity(text, scale) == value
    assert Decimal(text) == Decimal(value).scaleb(-scale)


@given(st.text(st.sampled_from("0123456789+-.eE ,_"), max_size=12), st.integers(0, 4))
def test_what_is_taken_is_exact(text: str, scale: int) -> None:
    try:
        value = parse_quantity(text, scale)
    except QuantityError:
        return
    assert Decimal(text).scaleb(scale) == value


@pytest.mark.parametrize(
    ("text", "scale", "said"),
    [
        ("", 0, "empty"),
        ("  ", 0, "empty"),
        ("NaN", 0, "not a number"),
        ("-Infinity", 0, "not a number"),
        ("1,234", 0, "thousands separator"),
        ("1 234.5", 1, "thousands separator"),
        ("1_000", 0, "thousands separator"),
        ("1.234", 2, "decimal places"),
        ("1e-3", 2, "decimal places"),
        ("9223372036854775808", 0, "64 bits"),
        ("92233720368547758.08", 2, "64 bits"),
        ("1e999", 0, "64 bits"),
        ("0x10", 0, "not a decimal"),
        ("\u0661\u0662", 0, "not a decimal"),
        ("1" * 65, 0, "too long"),
        (".", 0, "not a decimal"),
    ],
)
def test_the_reason_is_said(text: str, scale: int, said: str) -> None:
    with pytest.raises(QuantityError) as raised:
        parse_quantity(text, scale)
    assert said in str(raised.value)
