"""How sure a number is: the highest rung that is true of all of it, `disputed` above all."""

from __future__ import annotations

from collections.abc import Mapping

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tallystick.protocol.records import Tolerance
from tallystick.protocol.statement import Line
from tallystick.protocol.status import (
    STATUSES,
    Grounds,
    LineName,
    Status,
    line_statuses,
    status_of_all,
)
from tallystick.protocol.verdict import Totals

TERMS = builders.make_terms(
    builders.identity("acme.example"),
    builders.identity("beta.example"),
    [
        builders.meter("exact", tolerance=None),
        builders.meter("tokens", tolerance=Tolerance(0, 2, "provider", 0)),
    ],
)
LINE = Line("2026-10", None, "tokens", "s", "token", "100", "99", "100", "0", "1", 5)
NAME: LineName = ("2026-10", "tokens", "s")


def status(
    line: Line = LINE,
    *others: Line,
    closed: bool = False,
    uncosigned: bool = False,
    provider: Mapping[str, int] | None = None,
    consumer: Mapping[str, int] | None = None,
) -> Status:
    declared: dict[str, tuple[Totals, Totals]] = {"2026-10": (provider, consumer)}
    late = ("2026-09", "tokens", "s")
    grounds = Grounds(
        TERMS, {"2026-10"} if closed else set(), {NAME, late} if uncosigned else set(), declared
    )
    return line_statuses([line, *others], grounds)[0]


def test_the_rungs() -> None:
    assert status(uncosigned=True) == "open"
    assert status() == "co-signed"
    assert status(provider={"tokens": 100}) == "declared"
    assert status(consumer={"tokens": 101}) == "declared"
    assert status(provider={"tokens": 100}, consumer={"tokens": 100}) == "agreed"
    assert status(provider={"tokens": 100}, consumer={"tokens": 101}) == "agreed"
    assert status(closed=True) == "checkpointed"


def test_what_is_not_co_signed_was_declared_by_nobody() -> None:
    both = {"tokens": 100}
    assert status(uncosigned=True, provider=both, consumer=both) == "open"


def test_disputed_overrides() -> None:
    disputed = structs.replace(LINE, disputed="0.01")
    both = {"tokens": 100}
    assert status(disputed, provider=both, consumer=both) == "disputed"
    assert status(disputed, closed=True) == "disputed"
    assert status(disputed, uncosigned=True) == "disputed"
    for closed in (False, True):
        assert status(provider={"tokens": 100}, consumer={"tokens": 103}, closed=closed) == (
            "disputed"
        )


def test_a_total_that_differs_from_the_record_confirms_nothing() -> None:
    assert status(provider={"tokens": 103}) == "co-signed"
    assert status(provider={"tokens": 103}, consumer={"tokens": 103}) == "co-signed"
    assert status(provider={"tokens": 102}, consumer={"tokens": 103}) == "declared"
    assert status(provider={"exact": 100}) == "co-signed"


def test_totals_are_of_all_lines_of_the_meter_but_late_ones() -> None:
    other = structs.replace(LINE, subject="t", payable="7")
    late = structs.replace(LINE, late_for="2026-09", payable="50")
    assert status(LINE, other, late, provider={"tokens": 107}) == "declared"
    assert status(late, LINE, provider={"tokens": 100}) == "co-signed"
    assert status(late, LINE, uncosigned=True) == "open"
    assert status(late, LINE, provider={"tokens": 1}, consumer={"tokens": 9}) == "co-signed"
    assert status(late, LINE, closed=True) == "checkpointed"


@pytest.mark.parametrize(
    ("found", "together"),
    [
        ([], None),
        (["agreed"], "agreed"),
        (["checkpointed", "co-signed", "agreed"], "co-signed"),
        (["checkpointed", "open"], "open"),
        (["open", "disputed"], "disputed"),
    ],
)
def test_several_lines_together(found: list[Status], together: Status | None) -> None:
    assert status_of_all(found) == together


@given(
    st.integers(-5, 5),
    st.sampled_from([None, {}, {"tokens": 100}, {"tokens": 102}, {"tokens": 110}]),
    st.sampled_from([None, {}, {"tokens": 100}, {"tokens": 98}, {"exact": 1}]),
    st.booleans(),
    st.booleans(),
)
def test_every_line_has_one_of_the_words(
    off: int,
    provider: Mapping[str, int] | None,
    consumer: Mapping[str, int] | None,
    closed: bool,
    uncosigned: bool,
) -> None:
    line = structs.replace(LINE, payable=str(100 + off))
    found = status(line, closed=closed, uncosigned=uncosigned, provider=provider, consumer=consumer)
    assert found in STATUSES
    if closed:
        assert found in ("checkpointed", "disputed")
    assert (found == "open") <= uncosigned
