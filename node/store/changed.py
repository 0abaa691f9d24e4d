"""Which rows each of the newest commits changed, so that a standby that has everything up to one of
them is sent those rows alone, whatever became of the process since.

Kept in the transaction that changes them, by name only: their values are in the store itself.
Commits are numbered without gaps; where one is missing here, it is not known what changed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from tallystick.node.store.recorder import Row

if TYPE_CHECKING:
    from tallystick.node.store.disk import Txn

TABLE = "changed"
LINE = b"line"  # in the table `meta`: names the commits that follow each other; noted where it is
KEPT_BYTES = 8 * 1024 * 1024  # on the disk: some 300,000 keys
DROPPED_BYTES = KEPT_BYTES // 8  # of the oldest, at once

Keys = dict[str, set[bytes]]
_encode = msgspec.msgpack.Encoder().encode
decode_changed = msgspec.msgpack.Decoder(dict[str, list[bytes]]).decode


def note(txn: Txn, number: int, rows: Collection[Row]) -> None:
    """Keep what commit `number`, which this transaction is, changes."""
    keys: Keys = {}
    for table, key, _ in rows:
        keys.setdefault(table, set()).add(key)
    txn.put(TABLE, number.to_bytes(8, "big"), _encode(keys))
    if txn.table_bytes(TABLE) > KEPT_BYTES:
        _drop_oldest(txn, number)


def _drop_oldest(txn: Txn, number: int) -> None:
    dropped = 0
    oldest: list[bytes] = []
    for key, stored in txn.stored(TABLE, b"", number.to_bytes(8, "big")):
        oldest.append(key)
        dropped += len(key) + len(stored)
        if dropped >= DROPPED_BYTES:
            break
    for key in oldest:
        txn.delete(TABLE, key)


def changed_since(txn: Txn, number: int, upto: int) -> Keys | None:
    """What the commits after `number` changed, up to and with `upto`; None if that is not known."""
    if number > upto:
        return None
    found: Keys = {}
    start, stop = (number + 1).to_bytes(8, "big"), (upto + 1).to_bytes(8, "big")
    for key, value in txn.scan(TABLE, start, stop):
        number += 1
        if int.from_bytes(key, "big") != number:
            return None
        for table, keys in decode_changed(value).items():
            found.setdefault(table, set()).update(keys)
    return found if number == upto else None


def forget_changes(txn: Txn) -> None:
    """Keep nothing of the commits until now."""
    for key in list(txn.keys(TABLE)):
        txn.delete(TABLE, key)
