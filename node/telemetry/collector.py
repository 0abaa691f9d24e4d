"""What a scrape reads: the node's own counters and state, at the moment when somebody asks.

It runs in a thread. It changes nothing, takes no lock that the node waits for, and one channel
that cannot be read leaves out that channel's values and no others.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.gossiping.judging import RESULTS
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import ChannelRow
from tallystick.node.store.source import batches
from tallystick.node.telemetry.counts import Histogram
from tallystick.node.telemetry.following import WHO, Following
from tallystick.node.telemetry.metrics import BY_NAME, Metric
from tallystick.protocol.gossip_words import Reason
from tallystick.protocol.records import decode_batch

if TYPE_CHECKING:
    from tallystick.node.telemetry.monitor import Monitor

STATES = ("open", "confirming", "halted")
SHORT = 8  # hex digits of a channel's id, as people see it; more where two begin so

Labels = tuple[str, ...]


class Samples:
    """Values by metric and labels. `each` says whether channels and peers keep their own."""

    def __init__(self, *, each: bool) -> None:
        self.each = each
        self._values: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}

    def put(self, name: str, value: float, *labels: str) -> None:
        """A value of a gauge or a counter."""
        self.put_shown(name, value, self._shown(BY_NAME[name], labels))

    def put_shown(self, name: str, value: float, labels: Labels) -> None:
        """The same, with labels as they are shown."""
        held = self._values.setdefault(name, {})
        if labels in held:
            value = _combined(BY_NAME[name].over, held[labels], value)
        held[labels] = value

    def histogram(self, name: str, found: Histogram, labels: Labels) -> None:
        """All that a histogram counted, with labels as they are shown."""
        held = self._histograms.setdefault(name, {})
        held.setdefault(labels, Histogram(found.bounds)).add(found)

    def _shown(self, metric: Metric, labels: Labels) -> Labels:
        if self.each:
            return labels
        return tuple(
            "" if label in ("channel", "peer") else value
            for label, value in zip(metric.labels, labels, strict=True)
        )

    def families(self) -> Iterator[Family]:
        """As the Prometheus client writes them, in the order of the list of metrics."""
        for metric in BY_NAME.values():
            if metric.kind == "histogram":
                yield from self._histogram_family(metric)
            elif metric.name in self._values:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.full_name, metric.means, labels=metric.labels)
                for labels, value in self._values[metric.name].items():
                    family.add_metric(labels, value)
                yield family

    def _histogram_family(self, metric: Metric) -> Iterator[Family]:
        if metric.name not in self._histograms:
            return
        family = HistogramMetricFamily(metric.full_name, metric.means, labels=metric.labels)
        for labels, found in self._histograms[metric.name].items():
            bounds = [*map(floatToGoString, found.bounds), "+Inf"]
            # The counts are one moment's; the sum may be the next one's.
            counts = [float(count) for count in accumulate(list(found.counts))]
            family.add_metric(labels, list(zip(bounds, counts, strict=True)), found.sum)
        yield family


def _combined(over: str, a: float, b: float) -> float:
    if over == "sum":
        return a + b
    return max(a, b) if over == "max" else min(a, b)


class NodeCollector(Collector):
    """Collects from one node."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._node = monitor.node
        # What was read of the store, so that it is read again only when it changed.
        self._cosigned_at: dict[int, tuple[int, int]] = {}  # log: size, POSIX seconds
        self._waits_since: dict[int, tuple[int, int]] = {}  # log: size, microseconds
        self._problems = 0

    def collect(self) -> Iterator[Family]:
        """All of this node's metrics."""
        books = self._node.books
        channels = list(books.channels.values())
        limit = books.config.metrics.channels
        samples = Samples(each=max(len(channels), len(books.peers)) <= limit)
        self._put_node(samples)
        self._put_channels(samples, channels)
        for name in list(books.peers):
            self._put_peer(samples, name)
        self._monitor.http.put(samples)
        for metric, read in self._monitor.watched:
            try:
                for labels, value in read().items():
                    samples.put(metric.name, value, *labels)
            except Exception:  # noqa: BLE001 - nor must one metric take the others with it
                self._problems += 1
        samples.put("metrics_problems_total", self._problems)
        return samples.families()

    def _put_node(self, samples: Samples) -> None:
        node, monitor, store = self._node, self._monitor, self._node.books.store
        samples.put("build_info", 1, version("tallystick"))
        samples.put("healthy", not monitor.problems)
        samples.put("ready", monitor.ready)
        samples.histogram("loop_delay_seconds", monitor.loop_delay, ())
        for level in ("debug", "info", "warning", "error", "critical"):
            samples.put("log_lines_total", monitor.lines[level], level)
        disk = os.statvfs(node.home.path)
        samples.put("disk_free_bytes", disk.f_bavail * disk.f_frsize)
        samples.put("disk_size_bytes", disk.f_blocks * disk.f_frsize)
        samples.put("store_size_bytes", (store.path / "data.mdb").stat().st_blocks * 512)
        samples.put("store_map_bytes", store.map_bytes())
        samples.histogram("store_fsync_seconds", store.counts.fsync, ())
        samples.histogram("store_commit_jobs", store.counts.jobs, ())
        samples.histogram("store_commit_bytes", store.counts.bytes, ())
        samples.put("store_commits_failed_total", store.counts.failed)
        samples.put("store_jobs_waiting", store.jobs_waiting)
        standby = node.mirroring
        samples.put("standby_connected", standby is not None and standby.connected)
        samples.put("standby_lag_commits", standby.lag if standby else 0)
        samples.put("standby_alone", standby is not None and standby.alone)
        samples.put("standby_given_up_total", standby.alone_times if standby else 0)
        self._put_gossip(samples)
        samples.put("connections_refused_total", node.gate.refused, "limit")
        samples.put("connections_refused_total", node.failed_handshakes, "handshake")

    def _put_gossip(self, samples: Samples) -> None:
        peering = self._node.peering
        talker, stats = peering.talker, peering.talker.engine.stats()
        samples.put("copy_found", peering.presences.stopped)
        samples.put("gossip_items", stats.items)
        samples.put("gossip_conflicts", stats.conflicts)
        for what in ("messages", "items", "conflicts"):
            samples.put("gossip_sent_total", talker.sent[what], what)
        for reason in get_args(Reason):
            samples.put("gossip_refused_total", stats.refused.get(reason, 0), reason)
        for result in RESULTS:
            samples.put("gossip_judged_total", talker.judged[result], result)

    def _put_peer(self, samples: Samples, name: str) -> None:
        link = self._node.peering.links.get(name)
        live = link is not None and link.live
        samples.put("peer_connected", live, name)
        if link is not None and live:
            skew = link.skew_seconds
            samples.put("peer_clock_skew_seconds", skew if samples.each else abs(skew), name)
        allowance = self._node.peering.allowances.get(name)
        waited = allowance.waited_seconds if allowance is not None else 0.0
        samples.put("peer_quota_wait_seconds_total", waited, name)

    # Channels

    def _put_channels(self, samples: Samples, channels: list[tuple[Channel, Closer]]) -> None:
        books = self._node.books
        rows = dict(books.founding.rows)
        states = Counter(_state(row, books.channels.get(key)) for key, row in rows.items())
        for state in (*STATES, "proposed", "offered"):
            samples.put("channels", states[state], state)
        names = short_names([channel.id for channel, _ in channels])
        with books.store.read() as txn:
            evidence = Counter(key[:4] for key in txn.keys("evidence"))
            for channel, closer in channels:
                row = rows.get(channel.id)
                if row is None:
                    continue
                files = evidence[channel.row.number.to_bytes(4, "big")]
                found = _Channel(samples, names[channel.id], row.peer)
                try:
                    self._put_state(found, channel, row, files)
                    self._put_logs(found, txn, channel)
                    follows = self._monitor.following.get(channel.id, Following())
                    self._put_times(found, txn, channel, closer, follows)
                except Exception:  # noqa: BLE001 - one channel must not take all metrics with it
                    self._problems += 1

    def _put_state(self, put: _Channel, channel: Channel, row: ChannelRow, evidence: int) -> None:
        link = self._node.peering.links.get(row.peer)
        put("channel_connected", link is not None and link.live)
        now = _state(row, (channel, None))
        for state in STATES:
            put("channel_state", state == now, state)
        put("channel_doubt", channel.doubt)
        put("channel_withheld", bool(channel.withheld))
        put("channel_evidence", evidence)
        put("channel_held_bytes", channel.held_bytes)
        if channel.quota_bytes:
            put("channel_quota_ratio", channel.held_bytes / channel.quota_bytes)

    def _put_logs(self, put: _Channel, txn: Txn, channel: Channel) -> None:
        for name, log in (("own", channel.own), ("peer", channel.peer)):
            put("channel_log_records", log.durable_size, name)
            put("channel_cosigned_records", log.cosigned_size, name)
            put("channel_sealed_records", log.sealed, name)
            put("channel_dropped_records", log.dropped, name)
            put.histogram("channel_batch_records", log.growth.records, name)
            at_s = self._cosigned_at_s(txn, log)
            if at_s is not None:
                put("channel_head_age_seconds", max(self._now_s() - at_s, 0), name)
        own = channel.own
        lag = max(own.durable_size - own.cosigned_ahead, 0)
        put("channel_lag_records", lag)
        put("channel_lag_seconds", self._lag_seconds(txn, own) if lag else 0)
        put.histogram("channel_cosign_seconds", own.growth.latency)

    def _put_times(
        self, put: _Channel, txn: Txn, channel: Channel, closer: Closer, follows: Following
    ) -> None:
        now_s = self._now_s()
        last = closer.last
        if last is not None:
            put("channel_checkpoint_age_seconds", max(now_s - last.end_us / 1e6, 0))
        due_us = follows.due_us
        put("channel_checkpoint_overdue_seconds", max(now_s - due_us / 1e6, 0) if due_us else 0)
        for who in WHO:
            waiting = [one for one in list(follows.waiting) if one.who == who]
            put("channel_disputes_open", len(waiting), who)
            ends = [one.until_s for one in waiting if one.until_s is not None]
            if ends:
                put("channel_dispute_deadline_seconds", min(ends) - now_s, who)

    def _now_s(self) -> float:
        return self._node.books.clock_us() / 1e6

    def _cosigned_at_s(self, txn: Txn, log: ChannelLog) -> int | None:
        """When the newest co-signed head was co-signed, by the clock of who did it."""
        size = log.cosigned_size
        known = self._cosigned_at.get(log.number)
        if known is None or known[0] != size:
            row = log.head_row(txn, size) if size else None
            if row is None or not row.cosignature:
                return None
            known = (size, int.from_bytes(row.cosignature[:8], "big"))
            self._cosigned_at[log.number] = known
        return known[1]

    def _lag_seconds(self, txn: Txn, log: ChannelLog) -> float:
        """How long the oldest record of ours waits; by its own time if it was there at the start,
        or was recorded while so much waited that the rest is not remembered.
        """
        waited = log.growth.waiting_seconds()
        if waited is not None:
            return waited
        size = log.cosigned_size
        known = self._waits_since.get(log.number)
        if known is None or known[0] != size:
            known = (size, _recorded_at(txn, log, size))
            self._waits_since[log.number] = known
        return max(self._now_s() - known[1] / 1e6, 0)


class _Channel:
    """Where a channel's values are put."""

    def __init__(self, samples: Samples, channel: str, peer: str) -> None:
        self._samples = samples
        self._labels = (channel, peer) if samples.each else ("", "")

    def __call__(self, name: str, value: float, *labels: str) -> None:
        self._samples.put_shown(name, value, (*self._labels, *labels))

    def histogram(self, name: str, found: Histogram, *labels: str) -> None:
        self._samples.histogram(name, found, (*self._labels, *labels))


def _state(row: ChannelRow, channel: tuple[Channel, Closer | None] | None) -> str:
    if row.state != "open":
        return row.state
    return "open" if channel is not None and channel[0].live else "confirming"


def _recorded_at(txn: Txn, log: ChannelLog, index: int) -> int:
    """When the record at an index was recorded; the terms, which do not say, count as never."""
    found = next(batches(txn, log.number, index), None)
    if found is None:
        return 0
    record = decode_batch(found[1])[0][index - found[0]]
    return getattr(record, "recorded_at", 0)


def short_names(ids: Iterable[bytes]) -> dict[bytes, str]:
    """How channels are called in labels: by the beginning of their ids, which is theirs alone."""
    names = [id.hex() for id in ids]
    beginnings = Counter(name[:SHORT] for name in names)
    return {
        bytes.fromhex(name): name[:SHORT] if beginnings[name[:SHORT]] == 1 else name[: 2 * SHORT]
        for name in names
    }
