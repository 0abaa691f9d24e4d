"""Checkpoints and proofs that were given out here, kept so that their roots can be looked up.

Of a closed period the proof root is the digest of the checkpoint that both signed; of anything else
it is the root of the newest head of the customer's log that both signed. Closed periods are looked
up where they are kept: a row of one has an empty root, and what was said when it was asked for.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import SnapshotRow, encode_row

SNAPSHOTS_MAX = 100_000
DROPPED = 1_000  # of them at once, when there are so many

_decode = msgspec.msgpack.Decoder(SnapshotRow).decode


def rows_of_root(store: Store, root: bytes) -> list[SnapshotRow]:
    """What was given out with a root."""
    with store.read() as txn:
        return [_decode(value) for _, value in txn.scan("snapshots", root, root + b"\xff" * 17)]


def listed(store: Store) -> dict[bytes, list[SnapshotRow]]:
    """All that was given out as checkpoints, by channel; it may be much for the trio thread."""
    found: dict[bytes, list[SnapshotRow]] = {}
    with store.read() as txn:
        for _, value in txn.scan("snapshots", b"", b"\xff" * 49):
            row = _decode(value)
            if row.listed:
                found.setdefault(row.channel, []).append(row)
    return found


async def remember(store: Store, row: SnapshotRow) -> SnapshotRow:
    """Keep what is given out; the same as before comes back as it was made first."""
    key = row.root + sha256(f"{row.customer}\0{row.scope}\0{row.label}".encode()).digest()[:16]
    with store.read() as txn:
        value = txn.get("snapshots", key)
    if value is not None:
        before = _decode(value)
        if before.listed or not row.listed:
            return before
        row = msgspec.structs.replace(row, created_us=before.created_us)
    made = encode_row(row)

    def job(txn: Txn) -> None:
        if txn.entries("snapshots") >= SNAPSHOTS_MAX:
            _drop_oldest(txn)
        txn.put("snapshots", key, made)

    await store.commit(job)
    return row


def _drop_oldest(txn: Txn) -> None:
    """Forget the oldest that were given out, those first that nobody asked for as a checkpoint."""
    found = [(_decode(value), key) for key, value in txn.scan("snapshots", b"", b"\xff" * 49)]
    found.sort(key=lambda one: (one[0].listed, one[0].created_us))
    for _, key in found[:DROPPED]:
        txn.delete("snapshots", key)
