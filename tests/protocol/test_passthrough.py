"""Bought and sold: classes that add up exactly, whatever the lines are, and mean what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.passthrough import (
    ANY,
    CLASSES,
    OPEN_CLASSES,
    Amount,
    Group,
    Resale,
    ResaleMap,
    ResoldMeter,
    compare_sides,
    sum_classes,
)

NOW, BEFORE = "2026-10", "2026-09"
TOKENS = ResoldMeter("tokens", "tokens", "token", 0)
HOURS = ResoldMeter("gpu-hours", "hours", "GPU-hour", 3)


def up(counted: int, subject: str = "a", **changes: object) -> Amount:
    """A line of this month, upstream, of tokens."""
    made = Amount("up", "tokens", subject, NOW, True, counted, 0, 0, 1, 0)
    return replace(made, **changes)  # type: ignore[arg-type]


def down(counted: int, subject: str = "a", **changes: object) -> Amount:
    return replace(up(counted, subject), **({"channel": "beta"} | changes))  # type: ignore[arg-type]


def lone(
    bought: list[Amount], sold: list[Amount], mapping: ResaleMap | None = None, label: str = NOW
) -> Group:
    (group,) = compare_sides(label, mapping or ResaleMap(), [TOKENS, HOURS], bought, sold)
    assert sum(group.classes.values()) == group.difference
    return group


def test_what_is_sold_as_it_was_bought_has_no_classes() -> None:
    group = lone([up(5)], [down(5)])
    assert (group.bought, group.sold, group.classes, group.settled) == (5, 5, {}, True)
    assert group.upstream == {("up", "a"): 5}
    assert group.downstream == {("beta", "a"): 5}


def test_a_subject_may_be_sold_to_several() -> None:
    group = lone([up(5)], [down(2), down(3, channel="gamma")])
    assert (group.sold, group.classes) == (5, {})


@pytest.mark.parametrize(
    ("bought", "sold", "classes"),
    [
        ([up(5)], [], {"not-resold": -5}),
        ([], [down(5)], {"sold-without-purchase": 5}),
        ([up(5)], [down(7)], {"unexplained": 2}),
        ([up(5)], [down(5, disputed=-2)], {"disputed": -2}),
        ([up(5, disputed=-2)], [down(5)], {"disputed": 2}),
        ([up(5)], [down(4), down(1, here=False)], {"late": -1}),
        ([up(4), up(1, here=False)], [down(5)], {"late": 1}),
        ([up(5)], [down(9), down(0, here=False, corrected=-4)], {"corrected": 4}),
        ([up(5)], [down(4), down(3, here=False)], {"late": -1}),
    ],
)
def test_classes_of_this_months_usage(
    bought: list[Amount], sold: list[Amount], classes: dict[str, int]
) -> None:
    assert lone(bought, sold).classes == classes


@pytest.mark.parametrize(
    ("bought", "sold", "classes"),
    [
        # late here, and in time on the other side
        ([up(5, of=BEFORE)], [down(5, of=BEFORE, here=False)], {"late": -5}),
        # late on both sides
        ([up(5, of=BEFORE)], [down(5, of=BEFORE)], {}),
        # late, and never sold
        ([up(5, of=BEFORE)], [], {"not-resold": -5}),
        ([up(5, of=BEFORE), up(9, of=BEFORE, here=False)], [down(9, of=BEFORE, here=False)],
         {"unexplained": -5}),
        # wrong and put right
        ([up(5, of=BEFORE, here=False)],
         [down(8, of=BEFORE, here=False), down(0, of=BEFORE, corrected=-3)], {"corrected": -3}),
        # put right on one side only
        ([up(5, of=BEFORE, here=False), up(0, of=BEFORE, corrected=-2)],
         [down(5, of=BEFORE, here=False)], {"not-passed-on": 2}),
        # late, and corrected at once: what is left of it is late
        ([up(9, of=BEFORE, here=False)],
         [down(7, of=BEFORE, here=False), down(4, of=BEFORE, corrected=-2)],
         {"late": 2}),
    ],
)  # fmt: skip
def test_classes_of_other_months_usage(
    bought: list[Amount], sold: list[Amount], classes: dict[str, int]
) -> None:
    assert lone(bought, sold).classes == classes


def test_what_came_late_and_was_never_sold_is_told_once() -> None:
    bought = [up(5, of=BEFORE, here=False), up(3, of=BEFORE)]
    sold = [down(5, of=BEFORE, here=False)]
    assert lone(bought, sold).classes == {"unexplained": -3}
    then = [replace(one, here=not one.here) for one in bought], [replace(sold[0], here=True)]
    assert lone(*then, label=BEFORE).classes == {}


@pytest.mark.parametrize(
    ("fine", "coarse", "deltas", "classes"),
    [
        (1236, 124, 1, {"rounding": 4}),
        (1236, 123, 2, {"rounding": -6}),
        (1236, 123, 1, {"rounding": -6}),  # a cut delta: less than a unit
        (1236, 113, 1, {"rounding": -6, "unexplained": -100}),
        (1230, 123, 1, {}),
        (1230, 133, 1, {"unexplained": 100}),
        (1000, 96, 10, {"rounding": -40}),
    ],
)
def test_rounding_to_a_coarser_scale(
    fine: int, coarse: int, deltas: int, classes: dict[str, int]
) -> None:
    bought = up(fine, meter="gpu-hours", scale=3, deltas=deltas)
    sold = down(coarse, meter="hours", scale=2, deltas=deltas)
    group = lone([bought], [sold])
    assert group.classes == classes
    assert group.sold == 10 * coarse


def test_the_same_scale_never_rounds() -> None:
    bought, sold = up(5, meter="gpu-hours", scale=2), down(6, meter="hours", scale=2)
    assert lone([bought], [sold]).classes == {"unexplained": 10}


def test_a_mapping_says_what_is_sold_as_what() -> None:
    mapping = ResaleMap(
        (Resale(("a", "b"), (("beta", "x"),)), Resale(("c",), (("gamma", ANY),))), ("lab",), False
    )
    bought = [up(1, "a"), up(2, "b"), up(4, "c"), up(8, "lab"), up(16, "d")]
    sold = [down(3, "x"), down(4, "y", channel="gamma"), down(32, "z")]
    groups = compare_sides(NOW, mapping, [TOKENS], bought, sold)
    assert [(g.name.kind, g.bought, g.sold, g.classes) for g in groups] == [
        ("resale", 3, 3, {}),
        ("resale", 4, 4, {}),
        ("unmapped", 16, 0, {"unmapped": -16}),
        ("own-use", 8, 0, {"own-use": -8}),
        ("unmapped", 0, 32, {"unmapped": 32}),
    ]
    assert [g.settled for g in groups] == [True, True, False, True, False]
    assert sum_classes(groups) == {"own-use": -8, "unmapped": 16}


def test_everything_else_upstream_may_be_one_resale() -> None:
    mapping = ResaleMap((Resale((ANY,), (("beta", ANY), ("gamma", ANY))),))
    group = lone([up(1, "a"), up(2, "b")], [down(1, "x"), down(2, "y", channel="gamma")], mapping)
    assert group.classes == {}


def test_a_meter_that_is_not_named_does_not_count() -> None:
    assert compare_sides(NOW, ResaleMap(), [HOURS], [up(5)], [down(7)]) == []


def test_usage_that_has_nothing_to_do_with_the_month_makes_no_group() -> None:
    assert compare_sides(NOW, ResaleMap(), [TOKENS], [up(5, of=BEFORE, here=False)], []) == []


PERIODS = st.sampled_from([NOW, BEFORE, "2026-08"])
QUANTITIES = st.integers(-(2**70), 2**70) | st.integers(-20, 20)
METERS = (
    replace(TOKENS, scale=4),
    ResoldMeter(None, "support", "hour", 0),
    ResoldMeter("disk", None, "GB", 2),
)


@st.composite
def amounts(draw: st.DrawFn, channels: tuple[str, ...], meters: tuple[str, ...]) -> list[Amount]:
    made = []
    for _ in range(draw(st.integers(0, 6))):
        meter = draw(st.sampled_from(meters))
        channel = draw(st.sampled_from(channels))
        # A channel has one scale for a meter.
        scale = {"tokens": len(channel), "support": 0, "disk": 2}[meter]
        made.append(
            Amount(
                channel,
                meter,
                draw(st.sampled_from("abc")),
                draw(PERIODS),
                draw(st.booleans()),
                *(draw(QUANTITIES | st.just(0)) for _ in range(3)),
                draw(st.integers(0, 9)),
                scale,
            )
        )
    return made


MAPS = st.sampled_from(
    [
        ResaleMap(),
        ResaleMap(same_names=False),
        ResaleMap((Resale(("a", "b"), (("beta", "a"), ("c", ANY))),), ("c",)),
        ResaleMap((Resale((ANY,), (("beta", ANY),)),), (), False),
    ]
)


@given(
    MAPS,
    amounts(("up",), ("tokens", "disk")),
    amounts(("beta", "c", "dee"), ("tokens", "support")),
)
def test_classes_add_up_and_no_line_is_lost_or_counted_twice(
    mapping: ResaleMap, bought: list[Amount], sold: list[Amount]
) -> None:
    groups = compare_sides(NOW, mapping, METERS, bought, sold)
    for group in groups:
        assert sum(group.classes.values()) == group.difference
        assert all(group.classes.values())
        assert list(group.classes) == [name for name in CLASSES if name in group.classes]
        assert sum(group.upstream.values()) == group.bought
        assert sum(group.downstream.values()) == group.sold
        assert group.settled == (not OPEN_CLASSES & group.classes.keys())
    for meter in METERS:
        own = [group for group in groups if group.meter == meter]
        for lines, name, total in (
            (bought, meter.upstream, sum(group.bought for group in own)),
            (sold, meter.downstream, sum(group.sold for group in own)),
        ):
            assert total == sum(
                line.payable * 10 ** (meter.scale - line.scale)
                for line in lines
                if line.here and line.meter == name
            )


@given(amounts(("up",), ("tokens",)))
def test_the_same_on_both_sides_never_differs(lines: list[Amount]) -> None:
    sold = [replace(line, channel="beta") for line in lines]
    for group in compare_sides(NOW, ResaleMap(), [replace(TOKENS, scale=4)], lines, sold):
        assert group.classes == {}


@given(amounts(("up",), ("tokens",)), amounts(("beta",), ("tokens",)))
def test_over_all_periods_what_is_open_is_what_differs_in_the_end(
    bought: list[Amount], sold: list[Amount]
) -> None:
    """Looked at month by month, timing cancels out: it moves usage, and neither makes nor hides it.

    Each line counts in one of two months, the other one being where it is not `here`.
    """
    periods = (NOW, BEFORE)
    of = [[replace(line, of=periods[line.of != NOW]) for line in side] for side in (bought, sold)]
    open_ = timing = 0
    for label, flip in ((NOW, False), (BEFORE, True)):
        sides = [[replace(line, here=line.here != flip) for line in side] for side in of]
        for group in compare_sides(label, ResaleMap(), [replace(TOKENS, scale=4)], *sides):
            for name, quantity in group.classes.items():
                if name in ("late", "corrected"):
                    timing += quantity
                elif name != "disputed":
                    open_ += quantity
    both = [
        sum((line.counted + line.corrected) * 10 ** (4 - line.scale) for line in side)
        for side in of
    ]
    assert open_ + timing == both[1] - both[0]
    assert timing == 0
