"""What a balance may start from: a checkpoint, a receipt or a proof root that was given before."""

from __future__ import annotations

import re

from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.customers import Customer
from tallystick.node.api.pacspace.ids import ClosedName, Receipt, parse_checkpoint_id
from tallystick.node.api.pacspace.snapshots import rows_of_root
from tallystick.node.api.pacspace.sums import Since
from tallystick.node.api.pacspace.wire import missing
from tallystick.node.store.keyspace import CheckpointRow

_ROOT = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})")


def parse_root(text: str) -> bytes | None:
    """The proof root that a text is; None if it is none."""
    match = _ROOT.fullmatch(text)
    return bytes.fromhex(match[1]) if match else None


def find_start(call: Call, customer: Customer, text: str) -> Since:
    """What a starting point covers of the customer's log."""
    channel, closer = call.customers.opened(customer)
    root = parse_root(text)
    if root is not None:
        for row in closer.rows:
            if row.digest == root:
                return _closed(customer, row)
        for snapshot in rows_of_root(channel.store, root):
            if (snapshot.channel, snapshot.role) == (channel.id, customer.role):
                return Since(snapshot.size, None)
    # A checkpoint of all customers has the ids of all, of which one is of this channel.
    for part in text.split("+"):
        named = parse_checkpoint_id(part)
        if named is None or not channel.id.hex().startswith(named.channel):
            continue
        if isinstance(named, ClosedName):
            for row in closer.rows:
                if row.period == named.label:
                    return _closed(customer, row)
        if isinstance(named, Receipt) and named.role == customer.role:
            size = named.index + 1
            if size <= customer.log(channel).cosigned_size:
                return Since(size, None)
    raise missing(f"there is no checkpoint, receipt or proof {text[:200]!r} of {customer.id}")


def _closed(customer: Customer, row: CheckpointRow) -> Since:
    return Since(row.size_of(customer.role), row.end_us)
