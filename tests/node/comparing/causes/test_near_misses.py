"""What is no cause is not named as one: noise, too little of it, and what chance makes."""

from __future__ import annotations

import random

import pytest
from planted import HOUR, SECOND, START, compared, each, kinds, total, usage

from tallystick.node.comparing.tables import Event


def test_two_lists_that_are_equal_have_no_cause() -> None:
    assert compared(usage(), usage()).causes == []


@pytest.mark.parametrize("ids", [True, False], ids=["by id", "without ids"])
def test_noise_on_both_sides(ids: bool) -> None:
    rng, whole = random.Random(8), usage(2000, ids=ids)

    def noisy(events: list[Event]) -> list[Event]:
        kept = [e._replace(at=e.at + rng.randint(-SECOND, SECOND) // 2) for e in events]
        return [e for e in kept if rng.random() > 0.003]

    found = compared(noisy(whole), noisy(whole))
    assert found.causes == []
    assert found.meters[0].classes


def test_a_factor_in_one_of_a_thousand_pairs() -> None:
    theirs = usage(1000)
    ours = each(theirs, lambda e: e._replace(quantity=1000 * e.quantity) if e.place == 500 else e)
    found = compared(ours, theirs)
    assert found.causes == []
    assert found.meters[0].classes["quantity"].quantity == total(ours) - total(theirs)


def test_a_handful_of_events_tells_nothing() -> None:
    theirs = [e for e in usage() if e.at >= START][:6]
    assert compared(each(theirs, lambda e: e._replace(at=e.at + 2 * HOUR)), theirs).causes == []
    assert (
        compared(each(theirs, lambda e: e._replace(quantity=2 * e.quantity)), theirs).causes == []
    )


def test_quantities_that_differ_by_chance_are_neither_factor_nor_rounding() -> None:
    rng, theirs = random.Random(5), usage()
    ours = each(theirs, lambda e: e._replace(quantity=max(1, e.quantity + rng.randint(-300, 300))))
    assert compared(ours, theirs).causes == []


def test_a_lag_within_the_window_and_clocks_that_jitter() -> None:
    rng, theirs = random.Random(6), usage(1500)
    ours = each(theirs, lambda e: e._replace(at=e.at + SECOND))
    assert compared(ours, theirs).causes == []
    ours = each(theirs, lambda e: e._replace(at=e.at + rng.randint(-120, 120) * SECOND))
    assert compared(ours, theirs).causes == []


def test_a_few_copies_are_accidents() -> None:
    theirs = usage(1500)
    found = compared([*theirs, theirs[300], theirs[800], theirs[1200]], theirs)
    assert found.causes == []
    assert found.meters[0].classes["duplicate"].events == 3


def test_events_lost_at_random_are_neither_feed_nor_sample() -> None:
    rng, theirs = random.Random(7), usage(1500)
    ours = [e for e in theirs if rng.random() > 0.15]
    found = compared(ours, theirs)
    assert found.causes == []
    assert found.meters[0].classes["missing-here"].quantity == total(ours) - total(theirs)


def test_lists_that_have_nothing_to_do_with_each_other() -> None:
    assert compared(usage(seed=1, ids=False), usage(seed=2, ids=False)).causes == []


def test_turns_of_a_conversation_are_no_attempts() -> None:
    whole = usage()
    turns = [
        e._replace(id=f"{e.id}-{n}", quantity=3 * e.quantity + n, at=e.at + n * 60 * SECOND)
        for e in whole[30:60]
        for n in (1, 2, 3)
    ]
    found = compared([*whole, *turns], whole)
    assert "retry" not in kinds(found)
    assert list(found.meters[0].classes) == ["missing-there"]
    found = compared(whole, [*whole, *turns])
    assert "retry" not in kinds(found)
    assert list(found.meters[0].classes) == ["missing-here"]


def test_parts_under_one_id_are_no_retries() -> None:
    sums = each(usage(), lambda e: e._replace(quantity=e.quantity + 30))
    parts = [
        e._replace(quantity=part, at=e.at + n * SECOND)
        for e in sums
        for n, part in enumerate((e.quantity - 11, 10, 1))
    ]
    assert compared(parts, sums).causes == []
    assert compared(sums, parts).causes == []


def test_an_id_that_is_used_for_other_events_is_no_retry_and_no_missing_feed() -> None:
    found = compared(each(usage(), lambda e: e._replace(id=f"req-1{e.place % 100:05}")), usage())
    assert found.causes == []


def test_nothing_at_all_is_not_rounded_from_something() -> None:
    theirs = usage()
    assert compared(each(theirs, lambda e: e._replace(quantity=0)), theirs).causes == []
    found = compared(each(theirs, lambda e: e._replace(quantity=int(e.place % 12 == 0))), theirs)
    assert found.causes == []


def test_five_hours_for_a_while_are_not_daylight_saving_time() -> None:
    theirs = usage(1500)
    ours = each(
        theirs,
        lambda e: e._replace(at=e.at + 5 * HOUR) if 8 * HOUR < e.at - START < 12 * HOUR else e,
    )
    offsets = [cause for cause in compared(ours, theirs).causes if cause.kind == "offset"]
    assert offsets
    assert all("daylight" not in cause.says for cause in offsets)


def test_events_about_an_hour_late_are_not_daylight_saving_time() -> None:
    dice = random.Random(3)
    theirs = usage(2000)
    late = {e.place for e in sorted(theirs, key=lambda e: e.at)[-80:]}
    delays = {place: dice.randrange(50 * 60, 65 * 60) * SECOND for place in sorted(late)}
    ours = each(theirs, lambda e: e._replace(at=e.at + delays.get(e.place, 0)))
    assert "offset" not in kinds(compared(ours, theirs))
