"""The timestamps of our checkpoints, as the store keeps them: responses as they came.

One was checked before it was stored. It is known by its checkpoint's digest, and counts only for
the very note that it is over.
"""

from __future__ import annotations

import hashlib

from tallystick.node.channel import Channel
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import CheckpointRow, timestamp_key
from tallystick.protocol.timestamps import Token, parse_response


def read_timestamp(txn: Txn, channel: int, row: CheckpointRow) -> bytes:
    """The response that stamps a checkpoint's note; empty if there is none."""
    response = txn.get("timestamps", timestamp_key(channel, row.digest)) or b""
    if response and parse_response(response).imprint != hashlib.sha256(row.note).digest():
        return b""
    return response


def timestamp_of(channel: Channel, row: CheckpointRow) -> bytes:
    """The same for a channel of ours."""
    with channel.store.read() as txn:
        return read_timestamp(txn, channel.row.number, row)


def token_of(channel: Channel, row: CheckpointRow) -> Token | None:
    """What that response says."""
    response = timestamp_of(channel, row)
    return parse_response(response) if response else None


def put_timestamp(txn: Txn, channel: int, digest: bytes, response: bytes) -> None:
    """Keep a response."""
    txn.put("timestamps", timestamp_key(channel, digest), response)
