"""The verdict: what the terms say of two declared totals, the same from either side."""

from __future__ import annotations

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import Tolerance
from tallystick.protocol.rendering import parse_verdict_json, verdict_json
from tallystick.protocol.statement import Line
from tallystick.protocol.verdict import (
    RESULTS,
    MeterVerdict,
    Totals,
    Verdict,
    declared_of,
    decode_verdict,
    describe_meter,
    encode_verdict,
    first_differing,
    make_verdict,
    verdict_digest,
)

PARTIES = (builders.identity("acme.example"), builders.identity("beta.example"))
PERIOD = "2026-10"
NUMBERS = st.one_of(st.none(), st.integers(-(2**100), 2**100))


def terms_with(tolerance: Tolerance | None, **changes: object) -> builders.Terms:
    return builders.make_terms(*PARTIES, [builders.meter("tokens", tolerance=tolerance, **changes)])


def line(payable: str = "100", disputed: str = "0", deltas: int = 5, late: str = "") -> Line:
    counts = (payable, payable, payable, disputed, "0", deltas)
    return Line(PERIOD, late or None, "tokens", "s", "token", *counts)


def result(
    provider: int | None,
    consumer: int | None,
    tolerance: Tolerance | None = None,
    lines: tuple[Line, ...] = (line(),),
) -> str:
    sides: list[Totals] = [None if n is None else {"tokens": n} for n in (provider, consumer)]
    return make_verdict(terms_with(tolerance), PERIOD, lines, *sides).meters[0].result


@pytest.mark.parametrize(
    ("provider", "consumer", "tolerance", "expected"),
    [
        (None, None, None, "not declared"),
        (100, None, None, "declared by one"),
        (None, 0, None, "declared by one"),
        (100, 100, None, "agreed"),
        (100, 101, None, "disputed"),
        (100, 101, Tolerance(10_000, 0, "provider", 0), "within tolerance"),
        (100, 102, Tolerance(10_000, 0, "provider", 0), "disputed"),
        (200, 202, Tolerance(10_000, 0, "consumer", 0), "within tolerance"),
        (100, 999, Tolerance(0, 0, "provider", 6), "within tolerance"),
        (100, 999, Tolerance(0, 0, "provider", 5), "disputed"),
    ],
)
def test_results(
    provider: int | None, consumer: int | None, tolerance: Tolerance | None, expected: str
) -> None:
    assert result(provider, consumer, tolerance) == expected


def test_an_open_dispute_overrides_what_was_declared() -> None:
    assert result(100, 100, lines=(line(), line(disputed="3"))) == "disputed"
    assert result(None, None, lines=(line(disputed="3"),)) == "disputed"


def test_few_deltas_are_those_of_the_period_itself_by_the_payable_side() -> None:
    tolerance = Tolerance(0, 0, "provider", 6)
    assert result(1, 2, tolerance, (line(deltas=5), line(deltas=9, late="2026-09"))) == (
        "within tolerance"
    )
    assert result(1, 2, tolerance, (line(deltas=5), line(deltas=1))) == "disputed"


def test_the_record_stands_beside_what_was_declared() -> None:
    lines = (line("100", "3"), line("-7", late="2026-09"))
    row = make_verdict(terms_with(None), PERIOD, lines, {"tokens": 5}, {}).meters[0]
    assert (row.provider, row.consumer, row.payable, row.disputed) == ("5", None, "93", "3")


@given(NUMBERS, NUMBERS, st.sampled_from([None, Tolerance(5000, 1000, "provider", 3)]))
def test_encodings_read_back(
    provider: int | None, consumer: int | None, tolerance: Tolerance | None
) -> None:
    terms = terms_with(tolerance, unit="tökens")
    sides: list[Totals] = [None if n is None else {"tokens": n} for n in (provider, consumer)]
    verdict = make_verdict(terms, PERIOD, [line()], *sides)
    assert decode_verdict(encode_verdict(verdict)) == verdict
    assert parse_verdict_json(verdict_json(verdict)) == verdict
    assert declared_of(terms, verdict) == tuple(sides)
    assert make_verdict(terms, PERIOD, [line()], *declared_of(terms, verdict)) == verdict
    assert verdict.meters[0].result in RESULTS


@given(st.binary(max_size=80))
def test_other_bytes_are_no_verdict(data: bytes) -> None:
    for read, write in ((decode_verdict, encode_verdict), (parse_verdict_json, verdict_json)):
        try:
            verdict = read(data)
        except FormatError:
            continue
        assert read is parse_verdict_json or write(verdict) == data


def test_a_verdict_of_other_meters_or_numbers_has_no_totals() -> None:
    terms = terms_with(None)
    row = make_verdict(terms, PERIOD, [line()], {"tokens": 5}, None).meters[0]
    for changed in (
        (),
        (row, row),
        (structs.replace(row, meter="other"),),
        (structs.replace(row, provider="1.5"),),
        (structs.replace(row, provider="٣"),),
    ):
        with pytest.raises(FormatError):
            declared_of(terms, Verdict(PERIOD, changed))


def test_the_first_meter_that_differs() -> None:
    row = MeterVerdict("a", "u", "1", None, "1", "0", "declared by one")
    other = structs.replace(row, provider="2")
    a, b = Verdict(PERIOD, (row, row)), Verdict(PERIOD, (row, other))
    assert first_differing(a, b) == (row, other)
    assert first_differing(a, a) == (None, None)
    assert first_differing(a, Verdict(PERIOD, (row,))) == (row, None)
    assert verdict_digest(a) != verdict_digest(b)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("1", "1", "2", "0", "agreed"), "both counted 1 token; payable 2"),
        (("1", "2", "1", "0", "within tolerance"), "acme counted 1, beta 2 token; payable 1"),
        ((None, "0", "1", "0", "declared by one"), "beta counted 0 token; payable 1"),
        ((None, None, "1", "0", "not declared"), "not declared; payable 1"),
        (
            ("1", "5", "1", "0", "disputed"),
            "acme counted 1, beta counted 5 token; payable 1",
        ),
        ((None, None, "1", "0.5", "disputed"), "disputed; payable 1, disputed 0.5"),
    ],
)
def test_in_words(row: tuple[str | None, ...], said: str) -> None:
    made = MeterVerdict("tokens", "token", *row)  # type: ignore[arg-type]
    assert describe_meter(made, "acme", "beta").endswith(said)
    assert describe_meter(made, "acme", "beta").startswith(f"tokens: {row[4]}")
