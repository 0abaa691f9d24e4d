"""What pairs where ids do not help: how sure it is, and that no order of rows decides it."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AbstractContextManager

import builders
import pytest
from explaining import explained, kinds
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.node.comparing.explaining import Explainer
from tallystick.node.comparing.tables import Event
from tallystick.protocol.records import Meter

DAY = 86_400_000_000
HOUR = DAY // 24
START, END = 100 * DAY, 110 * DAY
TOKENS = builders.meter("tokens")  # events match within two seconds
HOURS = builders.meter("tokens", scale=3)


def _event(
    place: int, second: float, quantity: int = 5, id_: str | None = None, subject: str = "s"
) -> Event:
    return Event(place, id_, "tokens", subject, quantity, START + int(second * 1_000_000))


def _matched(
    ours: list[Event], theirs: list[Event], meter: Meter = TOKENS, zone: str = "UTC"
) -> AbstractContextManager[Explainer]:
    return explained(ours, theirs, meter, START, END, zone)


def _sure(explainer: Explainer) -> tuple[int, ...]:
    """Certain, likely, possible, unpaired of ours, unpaired of theirs."""
    return tuple(explainer.pairing(explainer.meters["tokens"]).values())


def test_ids_of_different_namespaces_are_as_good_as_none() -> None:
    record = [_event(n, 60 * n, n + 5, f"theirs-{n}") for n in range(20)]
    ours = [_event(n, 60 * n + 1, n + 5, f"ours-{n}") for n in range(20)]
    with _matched(ours, record) as explainer:
        assert _sure(explainer) == (0, 20, 0, 0, 0)
        assert kinds(explainer) == {}


def test_ids_that_match_in_part_are_used_where_they_do() -> None:
    record = [_event(n, 60 * n, n + 5, f"id-{n}") for n in range(20)]
    ours = [
        _event(n, 60 * n + 1, n + 5, f"id-{n}" if n % 2 else f"other-{n}") for n in range(20)
    ]  # fmt: skip
    with _matched(ours, record) as explainer:
        assert _sure(explainer) == (10, 10, 0, 0, 0)


def test_ids_made_of_row_numbers_are_not_believed_after_a_lost_row() -> None:
    record = [_event(n, 60 * n, n + 5, f"row-{n}") for n in range(30)]
    kept = record[:2] + record[3:]
    ours = [e._replace(place=n, id=f"row-{n}") for n, e in enumerate(kept)]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {"missing-here": (-7, 1)}
        assert _sure(explainer) == (0, 29, 0, 0, 1)


def test_a_copy_of_an_unmatched_id_is_a_duplicate() -> None:
    record = [_event(n, 60 * n, n + 5, f"theirs-{n}") for n in range(20)]
    ours = [_event(n, 60 * n + 1, n + 5, f"ours-{n}") for n in range(20)]
    again = ours[4]._replace(place=99, at=ours[4].at + 600_000_000)
    with _matched([*ours, again], record) as explainer:
        assert kinds(explainer) == {"duplicate": (9, 1)}


def test_of_several_events_of_an_id_the_closest_pairs() -> None:
    ours = [_event(1, 10, 9, "a"), _event(2, 11, 7, "a"), _event(3, 50, 1, "b")]
    record = [_event(0, 10, 7, "a"), _event(1, 50, 1, "b")]
    with _matched(ours, record) as explainer:
        (finding,) = explainer.findings()
        assert (finding.kind, finding.our_place) == ("duplicate", 1)
        assert _sure(explainer) == (2, 0, 0, 1, 0)


def test_an_id_that_thousands_share_pairs_in_order() -> None:
    ours = [_event(n, n, n, "session") for n in range(300)]
    record = [_event(n, n + 1, n, "session") for n in range(299)]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {"duplicate": (299, 1)}


def test_which_of_equal_events_is_missing_is_only_possible() -> None:
    ours = [_event(1, 10), _event(2, 500)]
    record = [_event(0, 10), _event(1, 10), _event(2, 501)]
    with _matched(ours, record) as explainer:
        assert _sure(explainer) == (0, 1, 1, 0, 1)
        assert kinds(explainer) == {"missing-here": (-5, 1)}


def test_rounded_quantities_pair_within_the_window() -> None:
    ours = [_event(1, 10, 37_000), _event(2, 100, 12_000), _event(3, 100.5, 12_000)]
    record = [_event(1, 11, 37_400), _event(2, 101, 12_300), _event(3, 900, 12_000)]
    with _matched(ours, record, HOURS) as explainer:
        assert _sure(explainer) == (0, 1, 1, 1, 1)
        assert kinds(explainer)["quantity"] == (-700, 2)


def test_a_small_difference_that_rounding_does_not_make_is_no_pair() -> None:
    with _matched([_event(1, 10, 100)], [_event(1, 10, 102)]) as explainer:
        assert kinds(explainer) == {"missing-here": (-102, 1), "missing-there": (100, 1)}


def _days(zone_hours: int = 0) -> tuple[list[Event], list[Event]]:
    """Four days of twelve events, and the days' sums, each at the noon of its day."""
    parts, sums = [], []
    for day in range(4):
        start = day * 86_400 - zone_hours * 3600
        made = [_event(12 * day + n, start + 7000 * n + 60, 3 * n + day + 1) for n in range(12)]
        parts += made
        sums.append(_event(day, start + 43_200, sum(e.quantity for e in made)))
    return parts, sums


@pytest.mark.parametrize("turned", [False, True])
def test_daily_sums_pair_with_the_events_of_their_day(turned: bool) -> None:
    parts, sums = _days()
    ours, theirs = (sums, parts) if turned else (parts, sums)
    with _matched(ours, theirs) as explainer:
        assert kinds(explainer) == {}
        assert _sure(explainer) == (0, 4, 0, 0, 0)
        steps = explainer.db.execute("SELECT step, side, count(*) FROM groups GROUP BY ALL")
        assert steps.fetchall() == [("day", "ours" if turned else "theirs", 48)]


def test_days_are_those_of_the_terms_zone() -> None:
    parts, sums = _days(zone_hours=9)
    inside = [e for e in parts if e.at >= START], [e for e in sums if e.at >= START]
    with _matched(inside[1][1:], inside[0], zone="Asia/Tokyo") as explainer:
        found = explainer.db.execute("SELECT step, count(*) FROM groups GROUP BY 1").fetchall()
        assert found == [("day", 12 * (len(inside[1]) - 1))]


def test_sums_that_stand_at_the_end_of_what_they_are_of() -> None:
    parts = [_event(n, 1000 * n + 50, n % 5 + 1) for n in range(40)]
    ends = [7_100, 18_500, 33_333, 39_999]
    sums = []
    for n, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        within = [e.quantity for e in parts if start < (e.at - START) / 1e6 <= end]
        sums.append(_event(n, end, sum(within)))
    with _matched(sums, parts) as explainer:
        assert kinds(explainer) == {}
        assert _sure(explainer) == (0, 4, 0, 0, 0)


def test_a_lost_part_shows_as_what_its_sum_is_off_by() -> None:
    parts, sums = _days()
    lost = parts.pop(17)
    with _matched(parts, sums) as explainer:
        assert kinds(explainer) == {"quantity": (-lost.quantity, 1)}
        assert _sure(explainer) == (0, 3, 1, 0, 0)


def test_a_sum_over_the_period_s_edge_is_timing() -> None:
    parts, sums = _days()
    shifted = [[e._replace(at=e.at - 2 * DAY - HOUR) for e in side] for side in (parts, sums)]
    last = [e.quantity for e in shifted[0] if e.at >= START and e.place // 12 == 2]
    with _matched(*shifted, zone="Etc/GMT-1") as explainer:
        found = kinds(explainer)
        gap = explainer.total("ours", TOKENS)[0] - explainer.total("theirs", TOKENS)[0]
    assert last
    assert set(found) <= {"timing"}
    assert sum(quantity for quantity, _ in found.values()) == gap


def test_some_events_that_happen_to_add_up_are_no_sum() -> None:
    ours = [_event(1, 3000, 15)]
    record = [_event(n, 1000 * n, quantity) for n, quantity in enumerate((10, 5, 3, 4))]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {"missing-here": (-22, 4), "missing-there": (15, 1)}


EVENTS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 4), st.sampled_from("ab"), st.integers(0, 2)),
    max_size=25,
)


def _made(rows: list[tuple[int, int, str, int]], offset: int) -> list[Event]:
    return [
        _event(n, second, quantity, f"id-{n + offset}" if named else None, subject)
        for n, (second, quantity, subject, named) in enumerate(rows)
    ]


def _content(explainer: Explainer) -> Counter[tuple[object, ...]]:
    """What the pairs and the rest are, without the numbers of rows."""
    columns = "{0}.instant, {0}.quantity, {0}.subject, {0}.id"
    pairs = explainer.db.execute(
        f"""SELECT step, confidence, {columns.format("o")}, {columns.format("t")}
        FROM pairs p JOIN ours o ON o.event = p.ours JOIN theirs t ON t.event = p.theirs
        UNION ALL SELECT step, confidence, {columns.format("o")}, {columns.format("t")}
        FROM groups g JOIN ours o ON o.event = if(side = 'ours', whole, part)
            JOIN theirs t ON t.event = if(side = 'ours', part, whole)"""
    ).fetchall()
    found = [(f.kind, f.id, f.our_at, f.our_quantity, f.their_at) for f in explainer.findings()]
    return Counter([*pairs, *found])


@settings(max_examples=12)
@given(EVENTS, EVENTS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_no_order_of_rows_decides_and_all_adds_up(
    ours: list[tuple[int, int, str, int]],
    theirs: list[tuple[int, int, str, int]],
    offset: int,
    shuffler: random.Random,
) -> None:
    sides = [_made(ours, 0), _made(theirs, offset)]
    seen = []
    for _ in range(2):
        with _matched(*sides) as explainer:
            seen.append(_content(explainer))
            gap = explainer.total("ours", TOKENS)[0] - explainer.total("theirs", TOKENS)[0]
            assert sum(quantity for quantity, _ in kinds(explainer).values()) == gap
            _one_to_one(explainer)
        for side in sides:
            shuffler.shuffle(side)
            side[:] = [event._replace(place=n) for n, event in enumerate(side)]
    assert seen[0] == seen[1]


def _one_to_one(explainer: Explainer) -> None:
    for side, other in (("ours", "theirs"), ("theirs", "ours")):
        taken = explainer.db.execute(
            f"""SELECT {side} FROM pairs
            UNION ALL SELECT DISTINCT whole FROM groups WHERE side = '{side}'
            UNION ALL SELECT part FROM groups WHERE side = '{other}'"""
        ).fetchall()
        assert len(set(taken)) == len(taken)
    for likely in explainer.db.execute(
        """SELECT any_value(w.quantity) = sum(p.quantity) FROM groups g
        JOIN ours w ON w.event = whole JOIN theirs p ON p.event = part
        WHERE side = 'ours' AND confidence = 'likely' GROUP BY whole"""
    ).fetchall():
        assert likely == (True,)


def test_ids_of_rows_and_a_lag_of_their_own_are_not_mixed_up() -> None:
    rng = random.Random(5)
    seconds = sorted(rng.sample(range(80_000), 300))
    record = [_event(n, at, rng.randint(1, 4000), f"row-{n}") for n, at in enumerate(seconds)]
    kept = record[:20] + record[21:]
    ours = [e._replace(place=n, id=f"row-{n}") for n, e in enumerate(kept)]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {"missing-here": (-record[20].quantity, 1)}
        assert explainer.found.causes == []


def test_an_id_of_ours_alone_that_stands_for_many_events_makes_no_copies() -> None:
    rng = random.Random(6)
    seconds = sorted(rng.sample(range(80_000), 60))
    record = [_event(n, at, rng.randint(1, 4000)) for n, at in enumerate(seconds)]
    ours = [e._replace(id=f"session-{n // 6}") for n, e in enumerate(record)]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {}


def test_parts_of_an_id_pair_by_quantity_if_one_is_lost() -> None:
    record = [
        _event(3 * n + part, 60 * n + part, 7 * n + 3 - part, f"request-{n}")
        for n in range(20)
        for part in range(3)
    ]
    lost = record[31]
    with _matched([e for e in record if e is not lost], record) as explainer:
        assert [(f.effect, f.their_place) for f in explainer.findings()] == [(-lost.quantity, 31)]
