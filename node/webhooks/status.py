"""How an endpoint stands, from the store: what waits for another attempt, how many are dead."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.node.feed.events import NO_CHANNEL, iso
from tallystick.node.store.disk import Store
from tallystick.node.store.keyspace import LaneRow
from tallystick.node.webhooks.deliveries import DEAD, read_deliveries
from tallystick.node.webhooks.endpoints import Endpoint

_decode = msgspec.msgpack.Decoder(LaneRow).decode


def waiting_of(store: Store, endpoint: Endpoint) -> list[dict[str, Any]]:
    """The channels whose next event was sent in vain, and when it is tried again."""
    found = []
    with store.read() as txn:
        for key, value in txn.scan("lanes", endpoint.key, endpoint.key + b"\xff" * 33):
            row, channel = _decode(value), key[8:]
            if row.attempts:
                found.append(
                    {
                        "channel": None if channel == NO_CHANNEL else channel.hex(),
                        "cursor": row.cursor,
                        "attempts": row.attempts,
                        "since": iso(row.since_us),
                        "next_at": iso(row.next_us),
                        "said": row.said,
                    }
                )
    return found


def dead_of(store: Store, endpoint: Endpoint) -> int:
    """How many events were given up for an endpoint."""
    with store.read() as txn:
        return sum(row.endpoint == endpoint.id for _, row in read_deliveries(txn, DEAD))
