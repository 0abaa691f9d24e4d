"""Numbers, ids and scopes: exact, and nothing else is taken for one."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.api.pacspace.customers import check_customers
from tallystick.node.api.pacspace.entries import status_of
from tallystick.node.api.pacspace.fields import Fields
from tallystick.node.api.pacspace.ids import (
    ClosedName,
    Receipt,
    RecordName,
    closed_id,
    parse_checkpoint_id,
    parse_record_id,
    receipt_id,
    record_id,
)
from tallystick.node.api.pacspace.numbers import add, json_number, parse_number, take
from tallystick.node.api.pacspace.scopes import Scope, current_month, month_of, parse_scope
from tallystick.node.api.pacspace.wire import Refusal
from tallystick.node.config import Pacspace, PacspaceCustomer
from tallystick.protocol.errors import InputError
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import TIME_MAX_US, Role

CHANNEL = bytes(range(32))
_NOW = 1_700_000_000_000_000


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_is_read_exactly(value: float) -> None:
    assert parse_number(json.dumps(value), "x") == Decimal(repr(value))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12),
                   max_value=10**12))  # fmt: skip
def test_a_number_is_written_so_that_it_reads_as_itself(value: Decimal) -> None:
    text = bytes(json_number(value)).decode()
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == value
    assert "E" not in text
    assert text != "-0"
    assert not (text.endswith("0") and "." in text)


@given(st.lists(st.integers(-(10**30), 10**30).map(lambda n: Decimal(n).scaleb(-6))))
def test_sums_are_exact(values: list[Decimal]) -> None:
    total = add(*values)
    assert Fraction(total) == sum(map(Fraction, values))
    assert take(total, total) == 0
    small = Decimal("1e-18")
    assert take(add(Decimal("1e300"), small), Decimal("1e300")) == small


@pytest.mark.parametrize("text", ["", "+1", "01", "1.", ".5", "0x1", "NaN", "1e", "1_0", "١", " 1"])
def test_what_json_has_no_such_number(text: str) -> None:
    with pytest.raises(Refusal):
        parse_number(text, "x")


@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(("provider", "consumer")),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    st.text(min_size=1, max_size=128),
    st.integers(0, 2**62),
)
def test_ids_say_what_they_name(
    channel: bytes, role: Role, meter: str, id_: str, index: int
) -> None:
    prefix = channel.hex()[:16]
    named = RecordName(prefix, role, meter, id_)
    assert parse_record_id(record_id(channel, role, meter, id_)) == named
    assert parse_checkpoint_id(receipt_id(channel, role, index)) == Receipt(prefix, role, index)
    for label in ("2026-10", "2026-W07", "2026-10-25", "2026-10-25T02+01:00"):
        assert parse_checkpoint_id(closed_id(channel, label)) == ClosedName(prefix, label)


@given(st.text())
def test_no_other_text_is_an_id(text: str) -> None:
    for found in (parse_record_id(text), parse_checkpoint_id(text)):
        assert found is None or text.startswith(found.channel)


@given(
    st.dictionaries(
        st.sampled_from(("period", "timePreset", "startDate", "endDate")),
        st.text() | st.sampled_from(("2026-10", "2026-10-05", "custom")),
    )
)
def test_any_scope_is_one_or_is_refused(values: dict[str, str]) -> None:
    try:
        scope = parse_scope(values, _NOW)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert (scope is None) == (not values)
        assert scope is None or 0 <= scope.start_us < scope.end_us <= TIME_MAX_US + 1


def test_months_are_utc_months() -> None:
    december = month_of(2026, 12)
    assert december.end_us == month_of(2027, 1).start_us
    assert current_month(december.end_us - 1) == december
    assert current_month(december.end_us).period == "2027-01"
    dates = {"startDate": "2026-12-01T01:00:00+01:00", "endDate": "2027-01-01"}
    assert parse_scope(dates, _NOW) == december
    far = parse_scope({"startDate": "0001-01-01", "endDate": "9999-12-31"}, _NOW)
    assert far == Scope(0, TIME_MAX_US + 1, None)


def test_whole_periods_of_a_calendar() -> None:
    month = month_of(2026, 3)
    for calendar, zone, fits in (
        ("month", "UTC", True), ("day", "UTC", True), ("hour", "Asia/Tokyo", True),
        ("week", "UTC", False), ("month", "Europe/Berlin", False), ("day", "Asia/Tokyo", False),
        ("hour", "Asia/Kolkata", False),
    ):  # fmt: skip
        assert month.fits(Calendar(calendar, zone)) is fits, (calendar, zone)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"a": null}'])
def test_nothing_is_nothing(body: bytes) -> None:
    assert Fields.read(body).text("a", 9) is None
    assert Fields.read(body).number("a") is None
    assert Fields.read(body).object("a", 9) is None


@given(st.binary(max_size=200))
def test_any_body_is_an_object_or_refused(body: bytes) -> None:
    try:
        fields = Fields.read(body)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert fields.raw("nothing") is None or body


@pytest.mark.parametrize(
    ("two", "said"),
    [
        ([("a", "m", "s"), ("a", "m", "t")], "twice"),
        ([("a", "", ""), ("b", "", "")], "same usage"),
        ([("a", "m", ""), ("b", "m", "s")], "same usage"),
        ([("a", "m", "s"), ("b", "", "s")], "same usage"),
    ],
)
def test_customers_that_overlap_are_refused(two: list[tuple[str, str, str]], said: str) -> None:
    entries = [PacspaceCustomer(id_, "beta.example", *rest) for id_, *rest in two]
    with pytest.raises(InputError, match=said):
        check_customers(Pacspace(entries))
    check_customers(Pacspace(entries[:1]))


def test_what_the_peer_signed_never_changes_again() -> None:
    log: Any = SimpleNamespace(cosigned_size=5)
    assert [status_of(log, index, "") for index in (4, 5)] == ["VERIFIED", "QUEUED"]
    assert [status_of(log, index, "why") for index in (4, 5)] == ["VERIFIED", "FAILED"]
