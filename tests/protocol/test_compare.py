"""The waterfall adds up, and the terms' tolerance is applied last and exactly."""

from __future__ import annotations

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.compare import (
    Cause,
    ClassTotal,
    MeterComparison,
    comparison_document,
    judge,
    ordered_causes,
    share_of,
    waterfall,
)
from tallystick.protocol.records import Tolerance


@given(st.integers(), st.integers(), st.lists(st.integers(), max_size=5))
def test_classes_and_unexplained_are_the_difference(
    ours: int, theirs: int, parts: list[int]
) -> None:
    classes = {str(n): ClassTotal(part, 1) for n, part in enumerate(parts)}
    comparison = MeterComparison("m", "u", 0, ours, theirs, classes, True, "")
    explained = sum(total.quantity for total in classes.values())
    assert theirs + explained + comparison.unexplained == ours


@pytest.mark.parametrize(
    ("ours", "theirs", "deltas", "within", "said"),
    [
        (100, 100, 5, True, "no difference"),
        (1_005_000, 1_000_000, 5, True, "within the tolerance of 5000"),
        (1_005_001, 1_000_000, 5, False, "above the tolerance of 5000"),
        (1_100, 100, 5, True, "within the tolerance of 1000 token (the absolute"),
        (1_101, 100, 5, False, "above the tolerance of 1000"),
        (9_999_999, 100, 4, True, "not judged: 4 deltas"),
    ],
)
def test_the_larger_bound_counts(
    ours: int, theirs: int, deltas: int, within: bool, said: str
) -> None:
    meter = builders.meter("m", tolerance=Tolerance(5000, 1000, "provider", 5))
    found, rule = judge(meter, ours, theirs, "consumer", deltas)
    assert found is within
    assert said in rule


def test_the_base_is_the_side_that_the_terms_name() -> None:
    meter = builders.meter("m", tolerance=Tolerance(100_000, 0, "provider", 0))
    assert judge(meter, 111, 100, "consumer", 9)[0] is False
    assert judge(meter, 111, 100, "provider", 9)[0] is True


def test_without_a_tolerance_any_difference_counts() -> None:
    meter = builders.meter("m", tolerance=None)
    assert judge(meter, 1, 0, "consumer", 1)[0] is False


def test_the_document() -> None:
    classes = {"duplicate": ClassTotal(150, 2)}
    comparison = MeterComparison("hours", "h", 2, 1250, 1000, classes, False, "because")
    assert comparison_document([comparison], "e.csv") == {
        "meters": {
            "hours": {
                "ours": "12.50",
                "theirs": "10.00",
                "difference": "2.50",
                "classes": {"duplicate": {"quantity": "1.50", "events": 2}},
                "unexplained": "1.00",
                "within_tolerance": False,
                "rule": "because",
            }
        },
        "causes": [],
        "events_file": "e.csv",
    }


def _cause(klass: str, quantity: int, events: int, kind: str = "offset") -> Cause:
    return Cause(kind, "hours", klass, quantity, events, "certain", {"offset": "1h"}, "Because.")


def test_a_cause_in_the_document() -> None:
    comparison = MeterComparison("hours", "h", 2, 700, 1000, {}, False, "")
    (cause,) = comparison_document([comparison], None, [_cause("timing", -100, 2)])["causes"]
    assert cause == {
        "kind": "offset",
        "meter": "hours",
        "class": "timing",
        "quantity": "-1.00",
        "share": "33.3",
        "events": 2,
        "confidence": "certain",
        "facts": {"offset": "1h"},
        "says": "Because.",
    }


def test_no_gap_has_no_shares() -> None:
    assert share_of(5, 0) is None
    assert share_of(-150, 100) == "-150.0"


def test_the_largest_cause_comes_first_whatever_the_scale() -> None:
    meters = [MeterComparison("hours", "h", 2, 0, 0, {}, True, "")]
    small, large = _cause("timing", 150, 1), _cause("quantity", -200, 1, "factor")
    assert ordered_causes([small, large], meters) == [large, small]


@given(st.integers(), st.integers(), st.lists(st.integers(), max_size=4))
def test_a_waterfall_s_steps_and_unexplained_are_the_difference(
    gap: int, timing: int, parts: list[int]
) -> None:
    classes = {"timing": ClassTotal(timing, 9), "quantity": ClassTotal(7, 1)}
    comparison = MeterComparison("hours", "h", 2, gap, 0, classes, True, "")
    steps = list(waterfall(comparison, [_cause("timing", part, 1) for part in parts]))
    assert sum(step.quantity for step in steps) + comparison.unexplained == gap
    assert [step.cause is None for step in steps] == [False] * len(parts) + [True, True]
