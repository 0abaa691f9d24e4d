"""Proofs out of the store: a delta's leaf and path, a balance line's path, a period's bundle.

What both sides signed goes out as it is; the paths below it come from the log's stored tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import CheckpointRow
from tallystick.node.store.source import stored_parts
from tallystick.node.timestamping.kept import timestamp_of
from tallystick.node.tree import LogTree
from tallystick.node.witnessing.lines import best_with_lines, read_lines
from tallystick.protocol.bundle import BundleContents, PlacedRotation, write_bundle
from tallystick.protocol.checkpoint import verify_checkpoint
from tallystick.protocol.errors import InputError
from tallystick.protocol.extras import PARTIES_LINES
from tallystick.protocol.heads import SignedHead
from tallystick.protocol.keys import Vkey
from tallystick.protocol.line_proof import format_line_proof
from tallystick.protocol.merkle import inclusion_path, root_of
from tallystick.protocol.notes import parse_note
from tallystick.protocol.proof import format_proof
from tallystick.protocol.records import ROLES, batch_bytes, encode_record
from tallystick.protocol.statement import Line, decode_line, encode_line, line_leaves
from tallystick.protocol.verdict import decode_verdict


@dataclass(frozen=True, slots=True)
class RecordProof:
    """The two files that prove a record, where it is, and the keys that verify it."""

    index: int
    size: int
    proof: bytes
    leaf: bytes
    vkeys: list[Vkey]  # the author's, the co-signer's


@dataclass(frozen=True, slots=True)
class Extras:
    """What others added to a bundle: how many lines of witnesses, and whether a timestamp."""

    lines: int
    timestamp: bool


def signed_head(log: ChannelLog, txn: Txn, size: int, *, witnessed: bool = False) -> bytes:
    """The note of a head with the author's and the co-signer's lines; with `witnessed` also those
    of witnesses.
    """
    row = log.head_row(txn, size)
    if row is None or not row.signature or not row.cosignature:
        raise InputError(
            f"the head of size {size} of {log.party.name}'s log is not co-signed here yet",
            "See tally status; it is co-signed when the peer is connected",
        )
    head = SignedHead(log.head(size, row.root), row.signature, row.cosignature)
    lines = read_lines(txn, log.number, size, row.root) if witnessed else []
    return head.note(*_vkeys(log, size), lines)


def _vkeys(log: ChannelLog, size: int) -> tuple[list[Vkey], list[Vkey]]:
    """The keys that may have signed a head of a log, and those that may have co-signed it."""
    ring = log.keyring_at(size)
    other = next(role for role in ROLES if role != log.role)
    return ring.log_vkeys(log.role), ring.cosigner_vkeys(other)


def prove_record(channel: Channel, log: ChannelLog, index: int) -> RecordProof:
    """The proof of a record under the newest co-signed head of its log, or under the one with the
    most lines of witnesses.
    """
    newest = log.cosigned_size
    if index >= newest:
        raise InputError(
            f"record {index} of {log.party.name}'s log is recorded, but not co-signed yet",
            "See tally status; wait for the peer, or emit with --wait",
        )
    with channel.store.read() as txn:
        size = best_with_lines(txn, log.number, index, newest) or newest
        tree = LogTree(txn, log.number, log.channel_id, size)
        path = inclusion_path(index, size, tree.subtree)
        note = signed_head(log, txn, size, witnessed=True)
        leaf = tree.leaf_data(index)
    ids = [signature.key_id for signature in parse_note(note).signatures]
    vkeys = [vkey for vkeys in _vkeys(log, size) for vkey in vkeys if vkey.id in ids]
    return RecordProof(index, size, format_proof(index, path, note), leaf, vkeys)


def prove_line(row: CheckpointRow, line: Line) -> tuple[bytes, bytes]:
    """The proof of a balance line under its period's checkpoint, and the line's bytes."""
    data = encode_line(line)
    leaves = line_leaves([decode_line(other) for other in row.lines])
    index = row.lines.index(data)
    path = inclusion_path(index, len(leaves), lambda a, b: root_of(leaves[a:b]))
    return format_line_proof(index, path, row.note), data


def bundle(
    channel: Channel, row: CheckpointRow, out: BinaryIO, *, full: bool, plain: bool = False
) -> Extras:
    """Write a closed period's bundle, with what others added unless it is to be plain; what that
    was.
    """
    checkpoint = verify_checkpoint(row.note, channel.own.keyring)
    logs = (channel.provider_log, channel.consumer_log)
    with channel.store.read() as txn:
        heads = [
            signed_head(log, txn, head.size, witnessed=not plain)
            for log, head in zip(logs, checkpoint.heads, strict=True)
        ]
    contents = BundleContents(
        checkpoint=row.note,
        terms=channel.row.terms,
        provider_head=heads[0],
        consumer_head=heads[1],
        lines=[decode_line(data) for data in row.lines],
        verdict=decode_verdict(row.verdict) if row.verdict else None,
        rotations=(
            _rotations(logs[0], checkpoint.sizes[0]),
            _rotations(logs[1], checkpoint.sizes[1]),
        ),
        timestamp=b"" if plain else timestamp_of(channel, row),
    )
    records = [_batches(log, head.size) for log, head in zip(logs, checkpoint.heads, strict=True)]
    if full:
        write_bundle(out, contents, records[0], records[1])
    else:
        write_bundle(out, contents)
    lines = sum(len(parse_note(head).signatures) - PARTIES_LINES for head in heads)
    return Extras(lines, bool(contents.timestamp))


def _rotations(log: ChannelLog, size: int) -> list[PlacedRotation]:
    """The log's rotation records before a size."""
    indexes = [one.index for one in log.keyring_at(size).announced]
    return [(index, encode_record(log.record(index))) for index in indexes]


def _batches(log: ChannelLog, size: int) -> Iterator[bytes]:
    start = 0
    while start < size:
        with log.store.read() as txn:
            parts = list(stored_parts(txn, log.number, start, min(start + 4096, size)))
        yield batch_bytes(parts)
        start += len(parts)
