"""What anybody may verify here, without a key: whoever knows a proof root was given it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from msgspec import Raw

from tallystick.node import proving
from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.numbers import json_number
from tallystick.node.api.pacspace.scopes import instant
from tallystick.node.api.pacspace.snapshots import rows_of_root
from tallystick.node.api.pacspace.starting import parse_root
from tallystick.node.channel import Channel
from tallystick.node.store.keyspace import CheckpointRow, SnapshotRow
from tallystick.protocol.checkpoint import verify_checkpoint
from tallystick.protocol.errors import ProofError, TallyError
from tallystick.protocol.heads import parse_head_note
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import ROLES
from tallystick.protocol.statement import decode_line


async def verify(call: Call) -> object:
    """GET /verify/{proofRoot}."""
    text = call.ids[0]
    root = parse_root(text)
    books = call.world.node.books
    if root is not None:
        for channel, closer in books.channels.values():
            for place, row in enumerate(closer.rows):
                if row.digest == root:
                    at_us = call.closed.at_us(channel, closer, place)
                    return _checkpoint(channel, row, at_us)
        given = [row for row in rows_of_root(books.store, root) if row.channel in books.channels]
        if given:
            return _head(books.channels[given[0].channel][0], given)
    return _answer(text[:200], "This node gave out no such proof.", verified=False)


def _answer(root: str, message: str, *, verified: bool) -> dict[str, Any]:
    return {
        "verified": verified,
        "proofRoot": root,
        "message": message,
        "recordedAt": None,
        "summary": None,
        "records": [],
    }


def _checkpoint(channel: Channel, row: CheckpointRow, at_us: int | None) -> dict[str, Any]:
    root = row.digest.hex()
    try:
        checkpoint = verify_checkpoint(row.note, channel.own.keyring)
    except TallyError as error:
        return _answer(root, f"It does not hold: {error}", verified=False)
    amounts = [total.split(" ", 2)[1] for total in checkpoint.totals]
    return _answer(root, f"Both parties signed this checkpoint of {row.period}.", verified=True) | {
        "recordedAt": None if at_us is None else instant(at_us),
        "summary": {
            "period": row.period,
            "recordCount": sum(decode_line(data).deltas for data in row.lines),
            "netChange": Raw(amounts[0].encode()) if len(amounts) == 1 else None,
            "totals": list(checkpoint.totals),
        },
        "evidence": row.note.decode(),
    }


def _head(channel: Channel, given: Sequence[SnapshotRow]) -> dict[str, Any]:
    snapshot = max(given, key=lambda row: row.created_us)
    root = snapshot.root.hex()
    # A log's head is the root of all who share the log: none is told what another one used.
    alone = len({row.customer for row in given}) == 1
    try:
        note = _checked_note(channel, snapshot)
    except TallyError as error:
        return _answer(root, f"It does not hold: {error}", verified=False)
    return _answer(
        root,
        f"Both parties signed the head of a log with {snapshot.size} records.",
        verified=True,
    ) | {
        "recordedAt": instant(snapshot.created_us),
        "summary": {
            "period": (snapshot.scope or None) if alone else None,
            "recordCount": snapshot.deltas if alone else None,
            "netChange": json_number(Decimal(snapshot.total)) if alone else None,
            "logSize": snapshot.size,
        },
        "evidence": note.decode(),
    }


def _checked_note(channel: Channel, snapshot: SnapshotRow) -> bytes:
    """The note of the head, signed by both; `ProofError` if it is not."""
    log = channel.provider_log if snapshot.role == "provider" else channel.consumer_log
    with channel.store.read() as txn:
        note = proving.signed_head(log, txn, snapshot.size)
    ids = {signature.key_id for signature in parse_note(note).signatures}
    ring = log.keyring_at(snapshot.size)
    other = next(role for role in ROLES if role != log.role)
    authors = [vkey for vkey in ring.log_vkeys(log.role) if vkey.id in ids]
    cosigners = [vkey for vkey in ring.cosigner_vkeys(other) if vkey.id in ids]
    if not authors or not cosigners:
        raise ProofError("keys signed it that are not known here")
    if parse_head_note(note, authors[0], cosigners[0]).head.root != snapshot.root:
        raise ProofError("that log has another root at that size")
    return note
