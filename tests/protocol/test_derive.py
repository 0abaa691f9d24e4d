"""Derive: what lines say for each aggregate, source and payable side, in each period."""

from __future__ import annotations

import pytest
from builders import DAY_US, HOUR_US, NOVEMBER_US, OCTOBER_US, Channel, busy_channel, meter

from tallystick.protocol.derive import Book, Change, Folder, LineKey, Tally, period_lines
from tallystick.protocol.records import Delta
from tallystick.protocol.statement import Line

FOLDER = Folder(Channel().terms)


def delta(meter: str, quantity: int, occurred_at: int = OCTOBER_US, subject: str = "s") -> Delta:
    return Delta("id", meter, subject, quantity, occurred_at, 0, None)


def line_of(channel: Channel, **wanted: str) -> Line:
    found = [
        line for line in channel.derive() if all(getattr(line, k) == v for k, v in wanted.items())
    ]
    assert len(found) == 1
    return found[0]


def test_deltas_fold_by_period_meter_and_subject() -> None:
    changes = FOLDER.fold(
        [
            delta("tokens", 5),
            delta("tokens", -2, NOVEMBER_US - 1),
            delta("tokens", 1, NOVEMBER_US),
            delta("tokens", 7, subject="t"),
            delta("peak", -9),
            delta("peak", -4),
            delta("calls", 100),
            delta("calls", 100),
        ]
    )
    assert changes == {
        LineKey(OCTOBER_US, "tokens", "s"): Change(3, 2),
        LineKey(NOVEMBER_US, "tokens", "s"): Change(1, 1),
        LineKey(OCTOBER_US, "tokens", "t"): Change(7, 1),
        LineKey(OCTOBER_US, "peak", "s"): Change(-4, 2),
        LineKey(OCTOBER_US, "calls", "s"): Change(2, 2),
    }


def test_a_book_loads_what_it_changes_and_nothing_else() -> None:
    key = LineKey(OCTOBER_US, "peak", "s")
    stored = {key: Tally(10, 1), LineKey(OCTOBER_US, "tokens", "s"): Tally(5, 1)}
    book = Book(FOLDER, stored.get)
    book.apply({key: Change(4, 2)})
    assert book.dirty == {key: Tally(10, 3)}


def test_the_first_quantity_of_a_maximum_may_be_negative() -> None:
    key = LineKey(OCTOBER_US, "peak", "s")
    book = Book(FOLDER, lambda _: None)
    book.apply({key: Change(-4, 1)})
    assert book.dirty[key].total == -4


@pytest.mark.parametrize("meter", ["peak", "tokens", "calls"])
def test_voiding_everything_of_a_line_leaves_nothing(meter: str) -> None:
    channel = Channel()
    channel.both("a", meter, 5)
    channel.provider_log.correct("a", meter, None)
    line = line_of(channel, meter=meter)
    assert (line.provider, line.consumer) == ("0", "1" if meter == "calls" else "5")
    channel.consumer_log.correct("a", meter, None)
    assert channel.derive() == []


def test_voiding_everything_of_a_maximum_that_was_billed_takes_it_back() -> None:
    channel = Channel()
    channel.both("a", "peak", 5)
    channel.close(record_in=["provider"])
    for log in channel.logs:
        log.correct("a", "peak", None)
    line = line_of(channel, meter="peak")
    assert (line.provider, line.consumer, line.deltas) == ("-5", "-5", 0)


@pytest.mark.parametrize(
    ("payable", "expected", "deltas"),
    [("provider", "10", 1), ("consumer", "7", 2), ("minimum", "7", 2)],
)
def test_who_is_payable_is_what_the_terms_say(payable: str, expected: str, deltas: int) -> None:
    channel = Channel([meter("tokens", payable=payable)])
    channel.provider_log.delta("a", "tokens", 10)
    channel.consumer_log.delta("a", "tokens", 4)
    channel.consumer_log.delta("b", "tokens", 3)
    line = line_of(channel)
    assert (line.provider, line.consumer, line.payable) == ("10", "7", expected)
    assert (line.pending, line.disputed, line.deltas) == ("3", "0", deltas)


def test_where_one_side_records_the_other_says_nothing() -> None:
    channel = Channel([meter("a", source="consumer", payable="consumer", scale=3)])
    channel.consumer_log.delta("x", "a", 1500)
    line = line_of(channel)
    assert (line.provider, line.consumer, line.payable) == (None, "1.500", "1.500")
    assert line.pending == "0.000"


def test_what_only_one_side_recorded_is_pending() -> None:
    channel = Channel()
    channel.consumer_log.delta("a", "tokens", 6)
    line = line_of(channel)
    assert (line.provider, line.consumer, line.payable, line.pending) == ("0", "6", "0", "6")


def test_a_month_with_the_clock_set_back_is_an_hour_longer() -> None:
    channel = Channel()
    channel.provider_log.delta("a", "tokens", 1, NOVEMBER_US - 1)
    channel.provider_log.delta("b", "tokens", 2, NOVEMBER_US)
    assert NOVEMBER_US - OCTOBER_US == 31 * DAY_US + HOUR_US
    lines = {line.period: line.provider for line in channel.derive()}
    assert lines == {"2026-10": "1", "2026-11": "2"}


def test_a_closed_line_comes_back_only_when_something_changed() -> None:
    channel = Channel()
    channel.both("a", "tokens", 5)
    channel.both("b", "calls", 1)
    channel.close(OCTOBER_US, ["provider"])
    assert channel.derive() == []
    channel.provider_log.correct("a", "tokens", 5)
    assert channel.derive() == []
    channel.provider_log.delta("c", "tokens", 0)
    line = line_of(channel, late_for="2026-10")
    assert (line.period, line.payable, line.deltas) == ("2026-11", "0", 1)


def test_what_is_billed_late_is_not_billed_again() -> None:
    channel = Channel()
    channel.both("a", "tokens", 5)
    channel.close(OCTOBER_US, ["provider", "consumer"])
    channel.both("b", "tokens", 2)
    november = channel.close(NOVEMBER_US, ["consumer"])
    assert [(line.late_for, line.payable) for line in november.lines] == [("2026-10", "2")]
    assert channel.derive() == []


def test_over_all_periods_the_sum_is_what_was_recorded() -> None:
    channel = busy_channel()
    december = channel.close(november_end := channel.closed[1].checkpoint.end_us)
    assert november_end == december.checkpoint.start_us
    billed = sum(
        int(line.payable)
        for closed in channel.closed
        for line in closed.lines
        if line.meter == "tokens"
    )
    recorded = [90, 102, 103, 104, 105, 3, 5, 40, 1]
    assert billed == sum(recorded)


def test_lines_of_a_period_are_those_that_count_in_it() -> None:
    lines = busy_channel().closed[1].lines
    assert period_lines(lines, "2026-11") == lines
    assert period_lines(lines, "2026-10") == []
