"""A delta in the client is exact, and named once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from tallystick.client import Delta


def test_id_and_time_are_made_once() -> None:
    one, other = Delta.of("m", 1, "s"), Delta.of("m", 1, "s")
    assert one.id != other.id
    assert len(one.id) == 32
    assert datetime.fromisoformat(one.occurred_at).tzinfo == UTC
    assert Delta.of("m", 1, "s", id="x").id == "x"


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (374, "374"),
        (-1, "-1"),
        (Decimal("0.10"), "0.10"),
        (Decimal("1E+3"), "1000"),
        ("12.50", "12.50"),
        (2**63, "9223372036854775808"),
    ],
)
def test_quantities_are_exact(quantity: Any, text: str) -> None:
    assert Delta.of("m", quantity, "s").quantity == text


@pytest.mark.parametrize("quantity", [0.1, 1.0, True, None, b"1"])
def test_what_is_not_exact_is_refused(quantity: Any) -> None:
    with pytest.raises(TypeError, match="it is an int, a Decimal, or a decimal as text"):
        Delta.of("m", quantity, "s")


def test_the_plain_form_takes_no_float_either() -> None:
    with pytest.raises(TypeError, match=r"Delta\.of takes numbers"):
        Delta(meter="m", quantity=0.1, subject="s")  # type: ignore[arg-type]


@pytest.mark.parametrize("quantity", [Decimal("NaN"), Decimal("Infinity")])
def test_what_cannot_be_billed_is_refused(quantity: Decimal) -> None:
    with pytest.raises(ValueError, match="cannot be billed"):
        Delta.of("m", quantity, "s")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": ""}, "subject has 0 bytes"),
        ({"subject": "é" * 65}, "subject has 130 bytes"),
        ({"id": "\ud800"}, "id is not valid Unicode"),
        ({"meter": ""}, "meter has 0 bytes"),
        ({"occurred_at": datetime(2026, 1, 1)}, "no time zone"),
    ],
)
def test_what_no_node_takes_is_refused_here(changes: dict[str, Any], said: str) -> None:
    asked = {"meter": "m", "quantity": 1, "subject": "s"} | changes
    with pytest.raises(ValueError, match=said):
        Delta.of(**asked)


def test_times_are_of_one_zone() -> None:
    berlin = timezone(timedelta(hours=1))
    at = datetime(2026, 1, 1, 1, 0, 0, 5, berlin)
    assert Delta.of("m", 1, "s", occurred_at=at).occurred_at == "2026-01-01T00:00:00.000005+00:00"
    assert Delta.of("m", 1, "s", occurred_at="2026-01-01Z").occurred_at == "2026-01-01Z"
