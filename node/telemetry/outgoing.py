"""What waits on its way out, at each scrape: the feed's events, the webhooks' deliveries, and the
checkpoints that no authority has stamped yet.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.node.telemetry.metrics import BY_NAME
from tallystick.node.telemetry.monitor import Monitor
from tallystick.node.webhooks.deliveries import DEAD, count_deliveries
from tallystick.node.webhooks.endpoints import load_endpoints

Values = Mapping[tuple[str, ...], float]


def watch_outgoing(monitor: Monitor) -> None:
    """Have the metrics of what goes out read at each scrape."""
    node = monitor.node
    store = node.books.store

    def events() -> Values:
        with store.read() as txn:
            return {(): txn.entries("feed")}

    def endpoints() -> Values:
        return {(): len(load_endpoints(node.home.path))}

    def dead() -> Values:
        with store.read() as txn:
            return {(): count_deliveries(txn, DEAD)}

    stamper = node.stamper
    monitor.watch(BY_NAME["timestamps_waiting"], lambda: {(): stamper.waiting})
    monitor.watch(BY_NAME["timestamps_kept_total"], lambda: {(): stamper.kept})
    monitor.watch(BY_NAME["timestamps_failed_total"], lambda: {(): stamper.failed})
    monitor.watch(BY_NAME["feed_events"], events)
    monitor.watch(BY_NAME["webhook_endpoints"], endpoints)
    monitor.watch(BY_NAME["webhook_deliveries_dead"], dead)
