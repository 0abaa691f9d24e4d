"""How much of this node others may use: the arithmetic, without a clock, a socket or a disk.

A `Bucket` says how long to wait for what was taken, a `Gate` whether another stranger may connect,
`Allowance` what one peer may say. The caller hands in the time, in seconds of any steady clock.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

from tallystick.node.config import Connections, Quotas
from tallystick.node.store.keyspace import CheckpointRow

MEBIBYTE = 1024 * 1024
# What a batch takes in the store beside its records' bytes, at most: its head with signatures and
# its share of the tree; for each record an entry of the id index; for each line that it touches
# that line, which may be new.
HEAD_BYTES, ENTRY_BYTES, LINE_BYTES = 512, 24, 256
BUCKETS_MAX = 4096  # addresses, or logs, whose use is remembered
BURST_SECONDS = 60  # of attempts and pairings


class Bucket:
    """A token bucket that lends: what is taken beyond its content is waited for afterwards.

    So a thing larger than the burst passes as well, once, and is paid for by the wait.
    """

    __slots__ = ("_at_s", "_burst", "_level", "_per_second")

    def __init__(self, per_second: float, burst: float, now_s: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def _fill(self, now_s: float) -> None:
        self._level = min(
            self._burst, self._level + max(now_s - self._at_s, 0.0) * self._per_second
        )
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> float:
        """Take an amount; how many seconds to wait before taking more (0: none)."""
        self._fill(now_s)
        self._level -= amount
        return max(-self._level / self._per_second, 0.0)

    def try_take(self, amount: float, now_s: float) -> bool:
        """Take an amount if it is there; else nothing."""
        self._fill(now_s)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def full(self, now_s: float) -> bool:
        """Whether nothing is missing, so that a new bucket would be the same."""
        self._fill(now_s)
        return self._level >= self._burst


class Buckets:
    """Buckets by name, a bounded number of them: with too many, the new ones are refused."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: dict[str, Bucket] = {}

    def try_take(self, name: str, now_s: float) -> bool:
        """Take one from a bucket if it is there."""
        if name not in self._buckets and len(self._buckets) >= BUCKETS_MAX:
            full = [key for key, bucket in self._buckets.items() if bucket.full(now_s)]
            for key in full:
                del self._buckets[key]
            if not full:
                return False
        bucket = self._buckets.setdefault(name, Bucket(self._per_second, self._burst, now_s))
        return bucket.try_take(1, now_s)


class Allowance:
    """What one peer may say, over all its connections: bytes, messages and records."""

    def __init__(self, quotas: Quotas, now_s: float) -> None:
        rates = (
            quotas.mebibytes_per_second * MEBIBYTE,
            quotas.messages_per_second,
            quotas.records_per_second,
        )
        self._buckets = [Bucket(rate, rate * quotas.burst_seconds, now_s) for rate in rates]
        self._links = Bucket(quotas.links_per_minute / 60, quotas.links_per_minute, now_s)
        self.waited_seconds = 0.0  # how long the peer was not listened to, in all

    def take(self, bytes_: int, messages: int, records: int, now_s: float) -> float:
        """Count what was heard; how many seconds to listen to nothing more."""
        amounts = (bytes_, messages, records)
        wait = max(
            bucket.take(amount, now_s)
            for bucket, amount in zip(self._buckets, amounts, strict=True)
        )
        self.waited_seconds += wait
        return wait

    def may_connect(self, now_s: float) -> bool:
        """Whether another connection of the peer's is served."""
        return self._links.try_take(1, now_s)


class Gate:
    """Who may connect before it is known who it is.

    `refused` counts those turned away; `report` says how many since it was asked last.
    """

    def __init__(self, limits: Connections) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._attempts = _a_minute(limits.attempts_per_second)
        self._pairings = _a_minute(limits.pairings_per_minute / 60)
        self.refused = 0
        self._reported = 0

    def enter(self, address: str, now_s: float) -> bool:
        """Let a stranger in, who `leave`s when it is known or gone; or refuse it."""
        limits, source = self._limits, source_of(address)
        allowed = (
            self._open.total() < limits.strangers
            and self._open[source] < limits.strangers_per_address
            and self._attempts.try_take(source, now_s)
        )
        if allowed:
            self._open[source] += 1
        else:
            self.refused += 1
            self._forget(source)
        return allowed

    def leave(self, address: str) -> None:
        """One that entered is a stranger no more."""
        source = source_of(address)
        self._open[source] -= 1
        self._forget(source)

    def may_pair(self, address: str, now_s: float) -> bool:
        """Whether a stranger may try a pairing code."""
        allowed = self._pairings.try_take(source_of(address), now_s)
        self.refused += not allowed
        return allowed

    def report(self) -> int:
        """How many were refused since this was asked last."""
        refused = self.refused - self._reported
        self._reported = self.refused
        return refused

    def _forget(self, source: str) -> None:
        if not self._open[source]:
            del self._open[source]


def _a_minute(per_second: float) -> Buckets:
    return Buckets(per_second, max(per_second * BURST_SECONDS, 1))


def source_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that an IPv6 host can choose from."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def counted_bytes(batch_bytes: int, records: int, lines: int) -> int:
    """What a batch of the peer's counts against its quota: no less than it takes of the disk."""
    return batch_bytes + HEAD_BYTES + records * ENTRY_BYTES + lines * LINE_BYTES


def checkpoint_bytes(row: CheckpointRow) -> int:
    """What a checkpoint counts against the peer's quota: its row, and our log's Close of it."""
    return 2 * len(row.note) + sum(map(len, row.lines)) + len(row.verdict) + HEAD_BYTES


def quota_reached(held_bytes: int) -> str:
    """What is said to a peer of whose log nothing more is taken."""
    return f"the quota of this log is reached, {held_bytes:,} bytes are held"
