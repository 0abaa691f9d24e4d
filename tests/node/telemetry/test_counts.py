"""The counters of hot paths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.telemetry import counts
from tallystick.node.telemetry.counts import Commits, Growth, Histogram

BOUNDS = (1, 10, 100)


@given(st.lists(st.floats(0, 1e6)))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    at_most = [sum(histogram.counts[: place + 1]) for place in range(4)]
    assert at_most == [sum(value <= bound for value in values) for bound in (*BOUNDS, 1e9)]


def test_two_histograms_together() -> None:
    one, other = Histogram(BOUNDS), Histogram(BOUNDS)
    one.observe(1)
    other.observe(50)
    other.observe(5000)
    one.add(other)
    assert (one.counts, one.sum) == ([1, 0, 1, 1], 5051)


def test_latency_is_counted_once_a_batch_and_only_where_the_peer_co_signs() -> None:
    ours, theirs = Growth(cosigned_by_peer=True), Growth(cosigned_by_peer=False)
    for growth in (ours, theirs):
        growth.durable(3, 3)
        growth.durable(10, 7)
        growth.durable(11, 1)
    assert theirs.waiting_seconds() is None
    assert ours.waiting_seconds() is not None
    ours.cosigned(10)
    assert sum(ours.latency.counts) == 2
    assert ours.waiting_seconds() is not None
    ours.cosigned(11)
    ours.cosigned(11)
    assert sum(ours.latency.counts) == 3
    assert ours.waiting_seconds() is None
    assert ours.records.sum == theirs.records.sum == 11


def test_what_waits_while_a_peer_is_away_takes_bounded_memory() -> None:
    growth = Growth(cosigned_by_peer=True)
    for size in range(1, 3 * counts.BATCHES_WAITING_MAX):
        growth.durable(size, 1)
    assert len(growth._waiting) == counts.BATCHES_WAITING_MAX
    first = growth._waiting[0]
    assert first[0] == 1  # since when the oldest waits is still known
    growth.forget()
    assert growth.waiting_seconds() is None


def test_a_commit_that_works_ends_a_failure() -> None:
    commits = Commits()
    commits.fsyncs()
    assert commits.under_way_seconds() >= 0
    commits.failed_with("no space")
    assert (commits.failed, commits.failure, commits.under_way_seconds()) == (1, "no space", 0)
    commits.fsyncs()
    commits.wrote(3, 1000)
    assert (commits.failed, commits.failure, commits.under_way_seconds()) == (1, "", 0)
    assert sum(commits.fsync.counts) == sum(commits.jobs.counts) == 1
