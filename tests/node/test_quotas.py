"""Buckets, the gate and what counts: exact arithmetic under a clock that the test holds."""

from __future__ import annotations

import pytest

from tallystick.node.config import Connections, Quotas
from tallystick.node.quotas import (
    BUCKETS_MAX,
    ENTRY_BYTES,
    HEAD_BYTES,
    LINE_BYTES,
    MEBIBYTE,
    Allowance,
    Bucket,
    Buckets,
    Gate,
    counted_bytes,
    source_of,
)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(4.0, 8.0, 100.0)
    assert [bucket.take(4, 100.0), bucket.take(4, 100.0)] == [0, 0]
    assert bucket.take(2, 100.0) == 0.5
    assert bucket.take(0, 100.25) == 0.25
    assert bucket.take(0, 100.5) == 0
    assert bucket.take(1, 100.5) == 0.25


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(4.0, 8.0, 0.0)
    assert bucket.take(8, 1e9) == 0
    assert bucket.take(1, 1e9) == 0.25


def test_what_is_larger_than_the_burst_passes_and_is_paid_for() -> None:
    bucket = Bucket(4.0, 8.0, 0.0)
    assert bucket.take(48, 0.0) == 10
    assert bucket.take(0, 10.0) == 0


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(4.0, 8.0, 100.0)
    bucket.take(8, 100.0)
    assert bucket.take(1, 50.0) == 0.25


def test_what_is_not_there_is_not_lent_to_who_only_tries() -> None:
    bucket = Bucket(0.5, 2.0, 0.0)
    assert [bucket.try_take(1, 0.0) for _ in range(3)] == [True, True, False]
    assert not bucket.try_take(1, 1.0)
    assert bucket.try_take(1, 2.0)
    assert not bucket.full(5.0)
    assert bucket.full(6.0)


def test_an_allowance_waits_for_the_slowest_of_its_rates() -> None:
    quotas = Quotas(
        records_per_second=100, mebibytes_per_second=1, messages_per_second=200, burst_seconds=2
    )
    allowance = Allowance(quotas, 0.0)
    assert allowance.take(2 * MEBIBYTE, 400, 200, 0.0) == 0
    assert allowance.take(MEBIBYTE // 2, 0, 0, 0.0) == 0.5
    assert allowance.take(0, 200, 0, 0.0) == 1.0
    assert allowance.take(0, 0, 400, 0.0) == 4.0
    assert allowance.take(0, 0, 0, 4.0) == 0


def test_links_are_counted_by_the_minute() -> None:
    allowance = Allowance(Quotas(links_per_minute=2), 0.0)
    assert [allowance.may_connect(0.0) for _ in range(3)] == [True, True, False]
    assert not allowance.may_connect(29.0)
    assert allowance.may_connect(30.0)


LIMITS = Connections(
    strangers=3, strangers_per_address=2, attempts_per_second=1, pairings_per_minute=2
)


def test_strangers_are_counted_in_all_and_by_address() -> None:
    gate = Gate(LIMITS)
    assert [gate.enter("192.0.2.1", 0.0) for _ in range(3)] == [True, True, False]
    assert [gate.enter("192.0.2.2", 0.0) for _ in range(2)] == [True, False]
    gate.leave("192.0.2.1")
    assert gate.enter("192.0.2.2", 0.0)
    assert (gate.report(), gate.report()) == (2, 0)


def test_an_address_that_comes_too_often_waits_while_others_do_not() -> None:
    gate = Gate(LIMITS)
    for _ in range(60):
        assert gate.enter("192.0.2.1", 0.0)
        gate.leave("192.0.2.1")
    assert not gate.enter("192.0.2.1", 0.5)
    assert gate.enter("192.0.2.2", 0.5)
    assert gate.enter("192.0.2.1", 1.5)


def test_those_refused_for_their_number_use_up_no_attempts() -> None:
    gate = Gate(LIMITS)
    assert [gate.enter("192.0.2.1", 0.0) for _ in range(200)].count(True) == 2
    for _ in range(58):
        gate.leave("192.0.2.1")
        assert gate.enter("192.0.2.1", 0.0)
    gate.leave("192.0.2.1")
    assert not gate.enter("192.0.2.1", 0.0)


def test_pairings_have_a_rate_of_their_own() -> None:
    gate = Gate(LIMITS)
    assert [gate.may_pair("192.0.2.1", 0.0) for _ in range(3)] == [True, True, False]
    assert gate.may_pair("192.0.2.2", 0.0)
    assert gate.may_pair("192.0.2.1", 30.0)


def test_buckets_are_bounded() -> None:
    buckets = Buckets(1, 1)
    assert all(buckets.try_take(str(at), 0.0) for at in range(BUCKETS_MAX))
    assert not buckets.try_take("one more", 0.0)
    assert not buckets.try_take("0", 0.0)
    assert buckets.try_take("one more", 1.0)
    assert len(buckets._buckets) <= BUCKETS_MAX


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    gate = Gate(Connections(strangers=10**5))
    for number in range(BUCKETS_MAX):
        assert gate.enter(f"10.0.{number >> 8}.{number & 255}", 0.0)
    assert not gate.enter("192.0.2.1", 0.0)
    # Those whose attempts are long ago are as if they had never come.
    assert gate.enter("192.0.2.1", 1.0)


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/socket", "/run/socket"),
    ],
)
def test_what_counts_as_one_address(address: str, source: str) -> None:
    assert source_of(address) == source


def test_what_a_batch_counts() -> None:
    assert counted_bytes(1000, 10, 3) == 1000 + HEAD_BYTES + 10 * ENTRY_BYTES + 3 * LINE_BYTES
