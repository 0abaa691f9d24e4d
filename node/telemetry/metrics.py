"""Every metric of a node: its name, what it means, its labels. docs/monitoring.md has them too.

`channel` and `peer` are empty where a node with many channels gives one value over all of them;
`over` says which: the sum, the greatest or the least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CHANNEL = ("channel", "peer")
PEER = ("peer",)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, without the prefix `tallystick_`."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    means: str
    labels: tuple[str, ...] = ()
    over: Literal["sum", "max", "min"] = "sum"

    @property
    def full_name(self) -> str:
        """As Prometheus knows it."""
        return f"tallystick_{self.name}"


METRICS = (
    # The node
    Metric("build_info", "gauge", "Always 1; the version is a label.", ("version",)),
    Metric("healthy", "gauge", "1 if the node is healthy, as /healthz says."),
    Metric("ready", "gauge", "1 if the node is ready, as /readyz says."),
    Metric(
        "loop_delay_seconds", "histogram", "How late a task ran that wanted to run each second."
    ),
    Metric("log_lines_total", "counter", "Lines of the node's log, by level.", ("level",)),
    Metric("metrics_problems_total", "counter", "Values that could not be read for /metrics."),
    # The disk
    Metric("disk_free_bytes", "gauge", "What is free where the home is."),
    Metric("disk_size_bytes", "gauge", "How large the file system is where the home is."),
    Metric("store_size_bytes", "gauge", "What the store's file takes of the disk."),
    Metric("store_map_bytes", "gauge", "How large the store's file may become."),
    Metric("store_fsync_seconds", "histogram", "How long it took to write and fsync a commit."),
    Metric("store_commit_jobs", "histogram", "Jobs that shared a commit and its fsync."),
    Metric("store_commit_bytes", "histogram", "Bytes of keys and values in a commit."),
    Metric("store_commits_failed_total", "counter", "Commits that failed."),
    Metric("store_jobs_waiting", "gauge", "Jobs that wait for the next commit."),
    Metric("standby_connected", "gauge", "1 if a standby is connected."),
    Metric("standby_lag_commits", "gauge", "Commits that the standby does not have yet."),
    Metric(
        "standby_alone",
        "gauge",
        "1 if commits should wait for a standby and do not.",
    ),
    Metric("standby_given_up_total", "counter", "How often the node went on without its standby."),
    # Gossip
    Metric("copy_found", "gauge", "1 while this node stopped because another copy of it runs."),
    Metric("gossip_items", "gauge", "Blinded heads that are kept."),
    Metric("gossip_conflicts", "gauge", "Pairs of blinded heads that contradict each other."),
    Metric("gossip_sent_total", "counter", "What was passed on.", ("what",)),
    Metric("gossip_refused_total", "counter", "What was not taken of peers.", ("reason",)),
    Metric("gossip_judged_total", "counter", "Heads of our channels that were shown.", ("result",)),
    # Channels
    Metric("channels", "gauge", "Channels and proposals, by state.", ("state",)),
    Metric("channel_connected", "gauge", "1 if the channel's peer is connected.", CHANNEL),
    Metric(
        "channel_state", "gauge", "1 for the state that the channel is in.", (*CHANNEL, "state")
    ),
    Metric(
        "channel_doubt",
        "gauge",
        "How certain it is what we signed last: 0 certain, 1 in doubt, 2 and 3 agreed to go on.",
        CHANNEL,
        "max",
    ),
    Metric(
        "channel_log_records",
        "gauge",
        "Records of a log that are durable here.",
        (*CHANNEL, "log"),
    ),
    Metric(
        "channel_cosigned_records",
        "gauge",
        "Records of a log that are co-signed.",
        (*CHANNEL, "log"),
    ),
    Metric(
        "channel_sealed_records",
        "gauge",
        "Records of a log that are in the archive, from its beginning on.",
        (*CHANNEL, "log"),
    ),
    Metric(
        "channel_dropped_records",
        "gauge",
        "Records of a log that are in the archive alone.",
        (*CHANNEL, "log"),
    ),
    Metric("channel_lag_records", "gauge", "Records of ours that are not co-signed yet.", CHANNEL),
    Metric(
        "channel_lag_seconds",
        "gauge",
        "How long the oldest record of ours that is not co-signed has waited.",
        CHANNEL,
        "max",
    ),
    Metric(
        "channel_cosign_seconds",
        "histogram",
        "From a batch of ours being durable here to the peer's co-signature.",
        CHANNEL,
    ),
    Metric(
        "channel_batch_records",
        "histogram",
        "Records of a batch, of either log.",
        (*CHANNEL, "log"),
    ),
    Metric(
        "channel_head_age_seconds",
        "gauge",
        "Since the newest co-signature on a log.",
        (*CHANNEL, "log"),
        "max",
    ),
    Metric(
        "channel_checkpoint_age_seconds",
        "gauge",
        "Since the end of the newest closed period.",
        CHANNEL,
        "max",
    ),
    Metric(
        "channel_checkpoint_overdue_seconds",
        "gauge",
        "For how long a period with usage could have been closed and was not.",
        CHANNEL,
        "max",
    ),
    Metric(
        "channel_disputes_open",
        "gauge",
        "Disputes that are not settled, by whom they wait for.",
        (*CHANNEL, "waits_for"),
    ),
    Metric(
        "channel_dispute_deadline_seconds",
        "gauge",
        "Until the nearest deadline of a dispute, by whom it waits for.",
        (*CHANNEL, "waits_for"),
        "min",
    ),
    Metric("channel_evidence", "gauge", "Files of evidence that convict a party.", CHANNEL),
    Metric(
        "channel_held_bytes",
        "gauge",
        "What the peer makes us hold, as its quota counts it.",
        CHANNEL,
    ),
    Metric(
        "channel_quota_ratio", "gauge", "The part of the peer's quota that is used.", CHANNEL, "max"
    ),
    Metric("channel_withheld", "gauge", "1 if the peer takes no more of our log for now.", CHANNEL),
    # Peers
    Metric("peer_connected", "gauge", "1 if the peer is connected.", PEER),
    Metric(
        "peer_clock_skew_seconds",
        "gauge",
        "How far the peer's clock was ahead of ours when it connected.",
        PEER,
        "max",
    ),
    Metric(
        "peer_quota_wait_seconds_total",
        "counter",
        "For how long the peer was not listened to, because it was over its quota.",
        PEER,
    ),
    Metric(
        "connections_refused_total", "counter", "Connections that were turned away.", ("reason",)
    ),
    # HTTP
    Metric(
        "http_requests_total",
        "counter",
        "Requests that were answered.",
        ("method", "route", "status"),
    ),
    Metric("http_request_seconds", "histogram", "How long an answer took.", ("route",)),
    # Timestamps and witnesses
    Metric("timestamps_waiting", "gauge", "Checkpoints that no authority has stamped yet."),
    Metric("timestamps_kept_total", "counter", "Timestamps that were asked for and kept."),
    Metric("timestamps_failed_total", "counter", "Attempts to get a timestamp that failed."),
    Metric("witness_up", "gauge", "1 unless the witness could not be reached.", ("witness",)),
    Metric("witness_waiting", "gauge", "Logs that wait to be shown to the witness.", ("witness",)),
    Metric("witness_refusing", "gauge", "Logs that the witness refuses now.", ("witness",)),
    Metric(
        "witness_answers_total",
        "counter",
        "What the witness answered: cosigned, behind, refused, nonsense, or unreachable.",
        ("witness", "answer"),
    ),
    Metric("witness_breaches", "gauge", "Logs on which the witness did what none may do."),
    Metric("witnessed_logs", "gauge", "Logs that this node, as a witness, co-signed a head of."),
    Metric(
        "witnessing_answers_total", "counter", "Answers of this node as a witness.", ("status",)
    ),
    # Events out
    Metric("feed_events", "gauge", "Events that the feed keeps."),
    Metric("webhook_endpoints", "gauge", "Endpoints that get webhooks."),
    Metric("webhook_deliveries_dead", "gauge", "Deliveries that were given up and are kept."),
)

BY_NAME = {metric.name: metric for metric in METRICS}
