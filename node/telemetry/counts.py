"""Plain counters for hot paths: raised once a batch or a commit, and read when somebody asks.

Nothing here takes a lock. Each object has one writer at a time; a reader in another thread sees
values of one moment or of the next.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
RECORDS = (1, 10, 100, 1_000, 4_000, 16_000)
JOBS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BYTES = (1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
BATCHES_WAITING_MAX = 4_096  # of which we know since when they wait


class Histogram:
    """How often a value was at most each bound; the last count is of all above them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Histogram) -> None:
        """Count all that another one has, of the same bounds."""
        for place, count in enumerate(other.counts):
            self.counts[place] += count
        self.sum += other.sum


class Commits:
    """What a store wrote. `failure` says why the last commit failed, if it did."""

    def __init__(self) -> None:
        self.fsync = Histogram(SECONDS)
        self.jobs = Histogram(JOBS)
        self.bytes = Histogram(BYTES)
        self.failed = 0
        self.failure = ""
        self._began_s = 0.0  # when the disk was told to write; 0: it has nothing to do

    def fsyncs(self) -> None:
        """The disk is told to write."""
        self._began_s = time.monotonic()

    def under_way_seconds(self) -> float:
        """How long the disk has been at it; 0 if it has nothing to do."""
        began_s = self._began_s
        return time.monotonic() - began_s if began_s else 0.0

    def wrote(self, jobs: int, size: int) -> None:
        """A commit is durable."""
        self.fsync.observe(time.monotonic() - self._began_s)
        self._began_s = 0.0
        self.jobs.observe(jobs)
        self.bytes.observe(size)
        self.failure = ""

    def failed_with(self, reason: str) -> None:
        """A commit failed."""
        self._began_s = 0.0
        self.failed += 1
        self.failure = reason


_NO_RECORDS, _NO_LATENCY = Histogram(RECORDS), Histogram(SECONDS)  # of logs that did not grow


class Growth:
    """How a log grows: the sizes of its batches and, where the peer co-signs them, how long they
    wait for that, from durable here to co-signed.

    While a peer is away only the first of what waits is remembered, so that memory stays bounded.
    """

    __slots__ = ("_limit", "_waiting", "latency", "records")

    def __init__(self, *, cosigned_by_peer: bool) -> None:
        self.records = _NO_RECORDS
        self.latency = _NO_LATENCY
        self._limit = BATCHES_WAITING_MAX if cosigned_by_peer else 0
        self._waiting: list[tuple[int, float]] = []

    def durable(self, size: int, records: int) -> None:
        """The log is durable up to a size, by a batch of so many records."""
        if self.records is _NO_RECORDS:
            self.records = Histogram(RECORDS)
        self.records.observe(records)
        if len(self._waiting) < self._limit:
            self._waiting.append((size, time.monotonic()))

    def cosigned(self, size: int) -> None:
        """The peer co-signed the log up to a size."""
        now_s = time.monotonic()
        if self._waiting and self.latency is _NO_LATENCY:
            self.latency = Histogram(SECONDS)
        while self._waiting and self._waiting[0][0] <= size:
            self.latency.observe(now_s - self._waiting.pop(0)[1])

    def forget(self) -> None:
        """The log was read again: what waits is not known any more."""
        self._waiting.clear()

    def waiting_seconds(self) -> float | None:
        """How long the oldest batch waits; None if none does, or it was there at the start."""
        try:
            return time.monotonic() - self._waiting[0][1]
        except IndexError:  # it was co-signed while we looked
            return None
