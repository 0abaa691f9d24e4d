"""The lines of witnesses on heads of our channels' logs, as the store keeps them.

A line was verified before it was stored. Those of heads that a checkpoint names are kept for good;
of other heads only the newest that has lines keeps them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import (
    AskedRow,
    LineRow,
    asked_key,
    encode_row,
    index_key,
    index_of,
    line_of_head_key,
)
from tallystick.protocol.contradiction import Said, build_contradiction, contradict
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import Vkey
from tallystick.protocol.notes import Note, Signature
from tallystick.protocol.witness import Cosigned

_decode_line = msgspec.msgpack.Decoder(LineRow).decode
_decode_asked = msgspec.msgpack.Decoder(AskedRow).decode


def witness_id(vkey: Vkey) -> bytes:
    """By which a witness's key is known in the store."""
    return hashlib.sha256(str(vkey).encode()).digest()[:8]


def lines_of(log: ChannelLog, size: int) -> list[Signature]:
    """The lines of witnesses on the head of this size of a log, by name and key id."""
    with log.store.read() as txn:
        head = log.head_row(txn, size)
        return [] if head is None else read_lines(txn, log.number, size, head.root)


def read_lines(txn: Txn, log: int, size: int, root: bytes) -> list[Signature]:
    """The same for a log by its number and the head's root."""
    start, stop = index_key(log, size), index_key(log, size + 1)
    rows = [_decode_line(value) for _, value in txn.scan("witnessed", start, stop)]
    # A line is of a head, not of a size: after a loss there may be another head of that size.
    found = [Signature(row.name, row.key_id, row.blob) for row in rows if row.root == root]
    return sorted(found, key=lambda line: (line.name, line.key_id))


def contradicted(
    txn: Txn, log: ChannelLog, before: int, head: Head, lines: Collection[Cosigned]
) -> bytes:
    """The file that convicts a witness whose new lines on a head contradict the one that is here on
    the head that it co-signed before; empty if none does.
    """
    for one in lines:
        key = line_of_head_key(log.number, before, witness_id(one.vkey))
        value = txn.get("witnessed", key)
        if value is None:
            continue
        row = _decode_line(value)
        earlier = log.head(before, row.root)
        if contradict(Said(earlier, row.at_s), Said(head, one.at_s)):
            said = Note(head_text(earlier), (Signature(row.name, row.key_id, row.blob),))
            return build_contradiction(one.vkey, said, Note(head_text(head), (one.line,)))
    return b""


def best_with_lines(txn: Txn, log: int, above: int, most: int) -> int:
    """The size of the head with the most lines (the newest of several) that is larger than
    `above` and at most `most`; 0 if none there has a line.
    """
    return _best(_counts(txn, log, above + 1, most))


def put_lines(
    txn: Txn, log: int, head: Head, lines: Collection[Cosigned], kept: Sequence[int]
) -> None:
    """Store lines of a head. `kept` are the sizes of the heads in checkpoints, in order; of older
    heads than this one the lines go, but of those and of the one that has the most.
    """
    for one in lines:
        row = LineRow(head.root, one.line.name, one.line.key_id, one.line.blob, one.at_s)
        key = line_of_head_key(log, head.size, witness_id(one.vkey))
        txn.put("witnessed", key, encode_row(row))
    # What is older than the checkpoint before the last was cleared by the lines that came then.
    counts = _counts(txn, log, kept[-2] if len(kept) > 1 else 0, head.size)
    for size in counts.keys() - {*kept, _best(counts), head.size}:
        for key, _ in list(txn.scan("witnessed", index_key(log, size), index_key(log, size + 1))):
            txn.delete("witnessed", key)


def read_asked(txn: Txn, log: int, vkey: Vkey) -> AskedRow:
    """How far a witness is with a log."""
    value = txn.get("asked", asked_key(log, witness_id(vkey)))
    return _decode_asked(value) if value else AskedRow(0, 0)


def put_asked(txn: Txn, log: int, vkey: Vkey, row: AskedRow) -> None:
    """Keep how far a witness is with a log."""
    txn.put("asked", asked_key(log, witness_id(vkey)), encode_row(row))


def _counts(txn: Txn, log: int, least: int, most: int) -> dict[int, int]:
    """How many lines each head of these sizes has."""
    scan = txn.scan("witnessed", index_key(log, least), index_key(log, most + 1))
    return dict(Counter(index_of(key[:12]) for key, _ in scan))


def _best(counts: dict[int, int]) -> int:
    return max(counts, key=lambda size: (counts[size], size), default=0)
