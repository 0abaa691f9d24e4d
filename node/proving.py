"""Proofs out of the store: a delta's leaf and path, a balance line's path, a period's bundle.

The store keeps one hash for each 256 leaves and for each 256 of those; what lies below is
recomputed from at most 256 records, so a proof costs the same in a short log and in a long one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import CheckpointRow, index_key, index_of, log_key, tile_key
from tallystick.node.store.tiles import TILE
from tallystick.protocol.bundle import BundleContents, write_bundle
from tallystick.protocol.checkpoint import verify_checkpoint
from tallystick.protocol.errors import InputError
from tallystick.protocol.heads import SignedHead
from tallystick.protocol.line_proof import format_line_proof
from tallystick.protocol.merkle import chain_leaves, inclusion_path, node_hash, root_of
from tallystick.protocol.proof import format_proof
from tallystick.protocol.records import batch_bytes, decode_batch
from tallystick.protocol.statement import Line, decode_line, encode_line, line_leaves


@dataclass(frozen=True, slots=True)
class DeltaProof:
    """The two files that prove a delta, and where it is."""

    index: int
    size: int
    proof: bytes
    leaf: bytes


def _parts(txn: Txn, log: ChannelLog, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of the records from `start` up to `stop`."""
    found = txn.floor("batches", index_key(log.number, start))
    assert found is not None
    for key, value in txn.scan("batches", found[0], log_key(log.number + 1)):
        first = index_of(key)
        if first >= stop:
            return
        yield from decode_batch(value)[1][max(start - first, 0) : stop - first]


class _Tree:
    """A log's tree up to a size, as the store keeps it; each tile is recomputed once at most."""

    def __init__(self, txn: Txn, log: ChannelLog, size: int) -> None:
        self._txn, self._log, self._size = txn, log, size
        self._tiles: dict[int, tuple[list[bytes], list[bytes]]] = {}

    def _tile(self, number: int) -> tuple[list[bytes], list[bytes]]:
        """The records of a tile, and its leaf hashes after the one before it."""
        if number not in self._tiles:
            previous = self._log.channel_id
            if number:
                row = self._txn.get("tiles", tile_key(self._log.number, 1, number - 1))
                assert row is not None
                previous = row[32:]
            start = number * TILE
            parts = list(_parts(self._txn, self._log, start, min(start + TILE, self._size)))
            self._tiles[number] = parts, [previous, *chain_leaves(previous, parts)]
        return self._tiles[number]

    def leaf_data(self, index: int) -> bytes:
        """A record after the leaf hash before it."""
        parts, leaves = self._tile(index // TILE)
        return leaves[index % TILE] + parts[index % TILE]

    def subtree(self, start: int, end: int) -> bytes:
        """The Merkle tree hash of the leaves from `start` up to `end`."""
        width = end - start
        level, span = 1, TILE
        while span <= width:
            if span == width and start % span == 0:
                row = self._txn.get("tiles", tile_key(self._log.number, level, start // span))
                if row is not None:
                    return row[:32]
            level, span = level + 1, span * TILE
        if start // TILE == (end - 1) // TILE:
            _, leaves = self._tile(start // TILE)
            first = start % TILE + 1
            return root_of(leaves[first : first + width])
        half = 1 << ((width - 1).bit_length() - 1)
        return node_hash(self.subtree(start, start + half), self.subtree(start + half, end))


def signed_head(channel: Channel, log: ChannelLog, txn: Txn, size: int) -> bytes:
    """The note of a head with the author's and the co-signer's lines."""
    row = log.head_row(txn, size)
    if row is None or not row.signature or not row.cosignature:
        raise InputError(
            f"the head of size {size} of {log.party.name}'s log is not co-signed here yet",
            "See tally status; it is co-signed when the peer is connected",
        )
    head = SignedHead(log.head(size, row.root), row.signature, row.cosignature)
    cosigner = channel.consumer_log if log is channel.provider_log else channel.provider_log
    return head.note(
        log.keyring.log_vkeys(log.role), cosigner.keyring.cosigner_vkeys(cosigner.role)
    )


def prove_delta(channel: Channel, log: ChannelLog, index: int) -> DeltaProof:
    """The proof of a record under the newest co-signed head of its log."""
    size = log.cosigned_size
    if index >= size:
        raise InputError(
            f"record {index} of {log.party.name}'s log is recorded, but not co-signed yet",
            "See tally status; wait for the peer, or emit with --wait",
        )
    with channel.store.read() as txn:
        tree = _Tree(txn, log, size)
        path = inclusion_path(index, size, tree.subtree)
        note = signed_head(channel, log, txn, size)
        leaf = tree.leaf_data(index)
    return DeltaProof(index, size, format_proof(index, path, note), leaf)


def prove_line(row: CheckpointRow, line: Line) -> tuple[bytes, bytes]:
    """The proof of a balance line under its period's checkpoint, and the line's bytes."""
    data = encode_line(line)
    leaves = line_leaves([decode_line(other) for other in row.lines])
    index = row.lines.index(data)
    path = inclusion_path(index, len(leaves), lambda a, b: root_of(leaves[a:b]))
    return format_line_proof(index, path, row.note), data


def bundle(channel: Channel, row: CheckpointRow, out: BinaryIO, *, full: bool) -> None:
    """Write a closed period's bundle."""
    checkpoint = verify_checkpoint(row.note, channel.own.keyring)
    logs = (channel.provider_log, channel.consumer_log)
    with channel.store.read() as txn:
        heads = [
            signed_head(channel, log, txn, head.size)
            for log, head in zip(logs, checkpoint.heads, strict=True)
        ]
    contents = BundleContents(
        checkpoint=row.note,
        terms=channel.row.terms,
        provider_head=heads[0],
        consumer_head=heads[1],
        lines=[decode_line(data) for data in row.lines],
    )
    records = [_batches(log, head.size) for log, head in zip(logs, checkpoint.heads, strict=True)]
    if full:
        write_bundle(out, contents, records[0], records[1])
    else:
        write_bundle(out, contents)


def _batches(log: ChannelLog, size: int) -> Iterator[bytes]:
    start = 0
    while start < size:
        with log.store.read() as txn:
            parts = list(_parts(txn, log, start, min(start + 4096, size)))
        yield batch_bytes(parts)
        start += len(parts)
