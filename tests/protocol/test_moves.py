"""Whoever adds to an accepted line opens it again: which closing bars a dispute, over time."""

from __future__ import annotations

import io

import pytest
from builders import DECEMBER_US, NOVEMBER_US
from disputing import DISPUTE_DAYS, Quarrel

from tallystick.protocol.derive import LineKey, Tally
from tallystick.protocol.moves import NEVER, Move, find_moves, last_moved, moves_until, unbilled
from tallystick.protocol.records import Close
from tallystick.protocol.replay import rederive
from tallystick.protocol.verify import verify_bundle

LINE = LineKey(0, "tokens", "s")


def accepted() -> Quarrel:
    """October is closed with 100 tokens by the provider and 70 by the consumer, and accepted."""
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    channel.count("gpu-hours", 500, 0)
    channel.closing()
    accept(channel, 1)
    return channel


def accept(channel: Quarrel, day: float) -> None:
    """The consumer lets the newest checkpoint pass, of which it knows since that day."""
    log = channel.provider_log
    index = [n for n, record in log.matters(log.state.size) if isinstance(record, Close)][-1]
    channel.lapse("provider", index, day, day + DISPUTE_DAYS)


def add(channel: Quarrel, quantity: int = 40) -> None:
    """The provider adds usage to October."""
    channel.provider_log.delta(f"late{channel.provider_log.state.size}", "tokens", quantity)


def newest(channel: Quarrel) -> str:
    return channel.standings()[-1].state


def test_what_is_added_to_an_accepted_line_can_be_disputed() -> None:
    channel = accepted()
    add(channel)
    channel.dispute("consumer", 40, 50)
    channel.dispute("consumer", 5, 50, meter="gpu-hours")
    assert channel.states() == [("open", 0), ("barred", 0)]  # of that line alone
    assert channel.line(meter="tokens") == ("0", "40")


def test_until_the_closing_that_billed_it_is_accepted_as_well() -> None:
    channel = accepted()
    add(channel)
    first = channel.dispute("consumer", 10, 50)
    channel.closing(NOVEMBER_US, 60)
    channel.dispute("consumer", 11, 61)
    accept(channel, 62)
    assert channel.states() == [("open", 0)] * 2  # the provider had both
    channel.dispute("consumer", 12, 62 + DISPUTE_DAYS)
    assert newest(channel) == "open"  # in time by the consumer's clock
    channel.dispute("consumer", 13, 63 + DISPUTE_DAYS)
    one = channel.standings()[-1]
    assert (one.state, one.lapse) == ("barred", ("provider", channel.provider_log.state.size - 1))
    assert (channel.standings()[0].digest, channel.standings()[0].state) == (first, "open")


def test_a_closing_at_which_a_line_did_not_move_changes_nothing_about_it() -> None:
    channel = accepted()
    channel.closing(NOVEMBER_US, 60)
    channel.dispute("consumer", 10, 61)
    assert newest(channel) == "barred"
    add(channel)
    channel.closing(DECEMBER_US, 70)
    accept(channel, 71)
    channel.dispute("consumer", 11, 90)
    assert channel.states() == [("open", 0), ("barred", 0)]


def test_what_is_taken_back_before_it_is_billed_leaves_the_line_accepted() -> None:
    channel = accepted()
    add(channel)
    channel.dispute("consumer", 10, 50)
    assert newest(channel) == "open"
    channel.provider_log.correct(f"late{channel.provider_log.state.size - 1}", "tokens", None)
    assert newest(channel) == "barred"


@pytest.mark.parametrize("quantity", [99, None])
def test_a_correction_adds_to_a_line_too(quantity: int | None) -> None:
    channel = accepted()
    channel.provider_log.correct("d1", "tokens", quantity)
    channel.dispute("consumer", 10, 50)
    assert newest(channel) == "open"


def test_a_dispute_that_came_too_late_holds_once_its_line_is_open_again() -> None:
    channel = accepted()
    channel.dispute("consumer", 10, 50)
    assert newest(channel) == "barred"
    add(channel)
    assert newest(channel) == "open"
    channel.closing(NOVEMBER_US, 60)
    accept(channel, 61)
    assert newest(channel) == "open"  # it was there before what was added was accepted


def test_nothing_bars_while_the_other_party_says_nothing_of_the_closing() -> None:
    channel = accepted()
    add(channel)
    closed = channel.close(NOVEMBER_US, ["consumer"])
    channel.dispute("consumer", 10, 500)
    assert newest(channel) == "open"
    assert closed.lines[0].late_for == "2026-10"


def test_at_earlier_sizes_a_line_is_as_it_was_then() -> None:
    channel = accepted()
    channel.dispute("consumer", 10, 50)
    before = tuple(log.state.size for log in channel.logs)
    add(channel)
    a, b = channel.logs

    def at(sizes: tuple[int, ...]) -> list[tuple[str, str]]:
        lines = rederive(channel.terms, channel.id, a.source, b.source, (sizes[0], sizes[1]))
        return [(line.payable, line.disputed) for line in lines]

    assert at(before) == []
    assert at((before[0] + 1, before[1])) == [("30", "10")]
    assert at((before[0] + 1, before[1] - 1)) == [("40", "0")]


def test_a_bundle_of_what_moved_and_is_disputed_verifies() -> None:
    channel = accepted()
    add(channel)
    channel.dispute("consumer", 10, 50)
    channel.closing(NOVEMBER_US, 60)
    accept(channel, 61)
    channel.dispute("consumer", 7, 90)
    channel.closing(DECEMBER_US, 91)
    shown = [(line.payable, line.disputed) for done in channel.closed[1:] for line in done.lines]
    assert shown == [("30", "10"), ("0", "10")]
    for done in channel.closed:
        checks = verify_bundle(io.BytesIO(channel.bundle(done, full=True)))
        assert [check for check in checks if not check.ok] == []


# The parts


def test_what_is_not_billed_of_lines_is_the_difference_of_totals() -> None:
    other = LINE._replace(subject="t")
    side = {LINE: Tally(5, 2, 3, 1), other: Tally(5, 2, 5, 1)}
    assert unbilled({LINE, other, LINE._replace(meter="x")}, side) == {LINE: 2}


def test_moves_are_found_in_the_order_of_the_closings() -> None:
    moves = find_moves([({LINE: 5}, {}), ({}, {}), ({LINE: -1}, {LINE: 1})])
    assert moves == {LINE: [Move(0, 5, 0), Move(2, -1, 1)]}
    assert moves_until(moves, 1) == {LINE: [Move(0, 5, 0)]}


@pytest.mark.parametrize(
    ("moves", "closings", "last"),
    [
        ([], 3, NEVER),
        ([Move(0, 5, 0)], 1, 0),
        ([Move(0, 5, 0), Move(2, 0, 1)], 3, 2),
        ([Move(0, 5, 0), Move(2, 0, 1)], 2, None),
        ([Move(0, 5, 0), Move(2, 3, 0), Move(3, -3, 0)], 2, 0),  # taken back
        ([Move(0, 5, 0), Move(2, 3, 0), Move(3, 0, -3)], 2, None),  # by the other: not the same
    ],
)
def test_a_line_moved_last(moves: list[Move], closings: int, last: int | None) -> None:
    assert last_moved(moves, closings) == last
