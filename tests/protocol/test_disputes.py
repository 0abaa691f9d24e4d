"""Where disputes stand: each state, each that goes before another, and what is in time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from builders import NOVEMBER_US, Channel
from disputing import ANSWER_DAYS, DISPUTE_DAYS, Quarrel

from tallystick.protocol.derive import Folder
from tallystick.protocol.disputes import adjustments_at, standings
from tallystick.protocol.records import Dispute, Resolution, Role, record_digest

MICROSECOND = 1 / 86_400_000_000  # as a part of a day
LATE = 1 + ANSWER_DAYS + MICROSECOND  # a microsecond after what waits since day 1 is over
Step = Callable[[Quarrel, bytes], object]


def quarrel(closed: bool = False) -> Quarrel:
    """The provider counted 100 tokens, the consumer 70."""
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    if closed:
        channel.closing()
    return channel


def accepted(start: float = 1, peer_size: int | None = None) -> Quarrel:
    """The same with October closed, and its checkpoint deemed accepted by the provider."""
    channel = quarrel(closed=True)
    index = channel.provider_log.state.size - 1
    channel.lapse("provider", index, start, start + DISPUTE_DAYS, peer_size)
    return channel


def test_nothing_is_disputed_where_nobody_disputes() -> None:
    channel = quarrel()
    assert channel.states() == []
    assert channel.line(meter="tokens") == ("100", "0")
    a, b = (log.matters(log.state.size) for log in channel.logs)
    assert adjustments_at(channel.terms, Folder(channel.terms).calendar, (a, b), (9, 9), {}) == {}


def test_an_open_dispute_is_withheld_and_waits_for_the_other() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    (one,) = channel.standings()
    assert (one.role, one.index, one.digest) == ("consumer", 2, digest)
    assert (one.state, one.upheld, one.pending, one.waits_for) == ("open", 0, 30, "provider")
    assert (one.answer, one.insisted, one.lapse) == (None, None, None)
    assert channel.line(meter="tokens") == ("70", "30")


def test_an_answer_turns_it_over_and_what_it_concedes_is_off() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    index = channel.answer("provider", digest, 10)
    (one,) = channel.standings()
    assert (one.state, one.upheld, one.pending, one.waits_for) == ("answered", 10, 20, "consumer")
    assert (one.answer, one.insisted) == (index, None)
    assert channel.line(meter="tokens") == ("70", "20")


def test_who_insists_has_it_contested_and_the_newest_answer_counts() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    channel.answer("provider", digest, 10)
    insisted = channel.answer("consumer", digest)
    channel.answer("consumer", digest)
    answer = channel.answer("provider", digest, 5)
    (one,) = channel.standings()
    assert (one.state, one.upheld, one.pending, one.waits_for) == ("contested", 5, 25, None)
    assert (one.answer, one.insisted) == (answer, insisted)


def test_to_insist_before_an_answer_changes_nothing() -> None:
    channel = quarrel()
    channel.answer("consumer", channel.dispute("consumer", 30))
    assert channel.states() == [("open", 0)]


@pytest.mark.parametrize(
    ("amount", "conceded", "counts"),
    [(30, 31, 30), (30, -5, 0), (-30, -31, -30), (-30, 5, 0), (-30, -10, -10)],
)
def test_a_concession_is_a_part_of_the_amount(amount: int, conceded: int, counts: int) -> None:
    channel = quarrel()
    channel.answer("provider", channel.dispute("consumer", amount), conceded)
    assert channel.states() == [("conceded" if counts == amount else "answered", counts)]


def test_a_resolution_settles_once_both_have_named_the_same_amount() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    channel.resolve("consumer", digest, 12)
    channel.resolve("provider", digest, 11)
    assert channel.states() == [("open", 0)]
    channel.resolve("provider", digest, 12)
    (one,) = channel.standings()
    assert (one.state, one.upheld, one.pending, one.waits_for) == ("resolved", 12, 0, None)
    assert channel.line(meter="tokens") == ("88", "0")


def test_an_offer_stands_until_the_other_takes_it() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    for amount in (12, 10, 11):
        channel.resolve("consumer", digest, amount)
    channel.resolve("provider", digest, 12, 4)
    assert channel.states() == [("resolved", 12)]


@pytest.mark.parametrize("first", ["provider", "consumer"])
def test_what_is_said_after_a_settlement_changes_nothing(first: Role) -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    other: Role = "consumer" if first == "provider" else "provider"
    channel.resolve(first, digest, 20, 3)
    channel.resolve(first, digest, 10, 4)
    channel.resolve(other, digest, 10, 5)
    assert channel.states() == [("resolved", 10)]
    channel.resolve(other, digest, 20, 5)  # what the first one offered before
    assert channel.states() == [("resolved", 10)]
    channel.resolve(first, digest, 20, 6)
    channel.resolve(other, digest, 0, 7)
    channel.resolve(first, digest, 0, 7)
    channel.answer("provider", digest, 30, 8)
    channel.withdraw("consumer", digest, 9)
    assert channel.states() == [("resolved", 10)]


def test_when_both_give_in_at_once_the_first_by_the_records_times_counts() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    for role, amounts in (("provider", (10, 20)), ("consumer", (20, 10))):
        for day, amount in enumerate(amounts, 3):
            channel.resolve(role, digest, amount, day)  # type: ignore[arg-type]
    assert channel.states() == [("resolved", 20)]  # of one time, the provider's record is first


def test_thousands_of_resolutions_are_told_in_one_pass() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    a, b = (log.matters(log.state.size) for log in channel.logs)
    a += [(n, Resolution(digest, n, "so", n)) for n in range(10, 200_000)]
    b += [(n, Resolution(digest, -n, "so", n)) for n in range(10, 200_000)]
    calendar = Folder(channel.terms).calendar
    assert standings(channel.terms, calendar, a, b, {})[0].state == "open"
    b.append((200_000, Resolution(digest, 100, "so", 200_000)))
    assert standings(channel.terms, calendar, a, b, {})[0].upheld == 100


def test_both_may_settle_for_more_than_was_disputed() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    for role in ("provider", "consumer"):
        channel.resolve(role, digest, -7)  # type: ignore[arg-type]
    assert channel.line(meter="tokens") == ("107", "0")


def test_a_dispute_without_an_answer_in_time_is_upheld() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    channel.lapse("consumer", 2, 1, 1 + ANSWER_DAYS)
    (one,) = channel.standings()
    assert (one.state, one.upheld, one.pending) == ("upheld", 30, 0)
    assert one.lapse == ("consumer", 4)
    assert channel.line(meter="tokens") == ("70", "0")
    channel.answer("provider", digest, 3, LATE)
    assert channel.states() == [("upheld", 30)]


@pytest.mark.parametrize(("day", "state"), [(1 + ANSWER_DAYS, "answered"), (LATE, "upheld")])
def test_an_answer_is_in_time_by_its_own_clock(day: float, state: str) -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    channel.lapse("consumer", 2, 1, 60)
    channel.answer("provider", digest, day=day)
    assert channel.states()[0][0] == state


def test_an_answer_that_the_other_had_is_in_time_whatever_it_is_dated() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    index = channel.answer("provider", digest, day=500)
    channel.lapse("consumer", 2, 1, 60, peer_size=index + 1)
    assert channel.states() == [("answered", 0)]


def test_to_understate_what_one_had_gains_nothing_against_who_was_in_time() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    channel.answer("provider", digest, day=2)
    channel.lapse("consumer", 2, 1, 60, peer_size=0)
    assert channel.states() == [("answered", 0)]


def test_an_answer_that_is_not_contradicted_in_time_makes_the_dispute_lapse() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    index = channel.answer("provider", digest, 10)
    channel.lapse("provider", index, 2, 2 + DISPUTE_DAYS)
    (one,) = channel.standings()
    assert (one.state, one.upheld, one.pending) == ("lapsed", 10, 0)
    assert one.lapse == ("provider", index + 2)
    assert channel.line(meter="tokens") == ("90", "0")
    channel.answer("consumer", digest, day=2 + DISPUTE_DAYS + MICROSECOND)
    assert channel.states() == [("lapsed", 10)]
    channel.answer("provider", digest, 8, 40)  # the newest answer did not lapse
    assert channel.states() == [("contested", 8)]


def test_who_insisted_in_time_keeps_it_contested() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    index = channel.answer("provider", digest, 10)
    channel.answer("consumer", digest, day=2 + DISPUTE_DAYS)
    channel.lapse("provider", index, 2, 60, peer_size=0)
    assert channel.states() == [("contested", 10)]


@pytest.mark.parametrize(
    ("day", "state"), [(1 + DISPUTE_DAYS, "open"), (1 + DISPUTE_DAYS + MICROSECOND, "barred")]
)
def test_what_comes_after_a_checkpoint_was_accepted_is_barred(day: float, state: str) -> None:
    channel = accepted()
    channel.dispute("consumer", 30, day)
    (one,) = channel.standings()
    assert (one.state, one.upheld) == (state, 0)
    assert one.lapse == (("provider", 4) if state == "barred" else None)
    if state == "barred":
        assert channel.derive() == []


def test_a_dispute_that_the_other_had_is_not_barred() -> None:
    channel = accepted(peer_size=99)
    channel.dispute("consumer", 30, 50)
    assert channel.states() == [("open", 0)]


def test_only_the_close_of_the_period_bars_and_only_the_other_partys() -> None:
    channel = accepted()
    channel.dispute("provider", 30, 90)
    assert channel.states() == [("open", 0)]  # the consumer let no close of its own lapse
    channel.dispute("consumer", 30, 90, period="2026-11")
    channel.closing(NOVEMBER_US, 91)
    channel.dispute("consumer", 30, 92, period="2026-11")
    channel.dispute("consumer", 30, 92, period="2026-09")  # closed with October
    assert [state for state, _ in channel.states()] == ["open", "open", "open", "barred"]


# What goes before what: each world has all that makes the later states, and one thing more.


def _lapses(channel: Quarrel, digest: bytes) -> None:
    """Nobody answered in time; then somebody did, and nobody insisted."""
    channel.lapse("consumer", channel.consumer_log.state.size - 1, 40, 40 + ANSWER_DAYS)
    index = channel.answer("provider", digest, 10, 40 + LATE)
    channel.lapse("provider", index, 90, 90 + DISPUTE_DAYS)


STEPS: list[tuple[str, int, Step]] = [
    ("barred", 0, _lapses),
    ("conceded", 30, lambda channel, digest: channel.answer("provider", digest, 30, 200)),
    ("withdrawn", 0, lambda channel, digest: channel.withdraw("consumer", digest, 200)),
    ("resolved", 7, lambda channel, digest: [
        channel.resolve(role, digest, 7, 200) for role in ("provider", "consumer")
    ]),
]  # fmt: skip


def test_states_go_before_one_another_in_their_order() -> None:
    channel = accepted()
    digest = channel.dispute("consumer", 30, 39)
    for state, upheld, step in STEPS:
        step(channel, digest)
        assert channel.states() == [(state, upheld)]


def test_upheld_goes_before_lapsed() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30, 39)
    _lapses(channel, digest)
    assert channel.states() == [("upheld", 30)]


# What counts as one dispute


def test_of_two_with_one_digest_in_a_log_the_first_counts() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30)
    assert channel.dispute("consumer", 30) == digest
    assert [one.index for one in channel.standings()] == [2]
    channel.withdraw("consumer", digest)
    assert channel.states() == [("withdrawn", 0)]


def test_a_copy_in_the_other_log_is_another_dispute_and_takes_nothing_over() -> None:
    channel = quarrel()
    digest = channel.dispute("consumer", 30, 5)
    assert channel.dispute("provider", 30, 5) == digest
    channel.withdraw("provider", digest, 6)
    assert channel.states() == [("withdrawn", 0), ("open", 0)]
    assert [one.role for one in channel.standings()] == ["provider", "consumer"]


@pytest.mark.parametrize("role", ["provider", "consumer"])
def test_either_party_may_dispute(role: Role) -> None:
    channel = quarrel()
    other: Role = "consumer" if role == "provider" else "provider"
    digest = channel.dispute(role, -30)
    assert channel.line(meter="tokens") == ("100", "30")
    assert channel.standings()[0].waits_for == other
    channel.answer(other, digest, -30)
    assert channel.states() == [("conceded", -30)]
    assert channel.line(meter="tokens") == ("130", "0")


def test_what_names_a_dispute_that_is_nowhere_changes_nothing() -> None:
    channel = quarrel()
    nowhere = bytes(32)
    channel.answer("provider", nowhere, 30)
    channel.resolve("provider", nowhere, 30)
    channel.resolve("consumer", nowhere, 30)
    assert channel.states() == []


def test_thousands_of_disputes_are_told_in_one_pass() -> None:
    channel = Channel()
    half = [
        (n, Dispute("2026-10", "tokens", f"s{n % 7}", n + 1, "other", "so", (), n))
        for n in range(5000)
    ]
    found = standings(channel.terms, Folder(channel.terms).calendar, half, half, {})
    assert len(found) == 10_000
    assert found[7].digest == record_digest(half[7][1])
