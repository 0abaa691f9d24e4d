"""Evidence against whoever signed two histories: made from the peer's own words, and kept.

A peer may send other records for what it sent before, show a head of our log that is not in our
history, or co-sign what does not extend what it co-signed. Where its signature (or ours) holds on
both sides of the contradiction, the file that convicts it is stored durably before the channel
halts. What is not signed is no evidence; the channel halts all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import msgspec

from tallystick.node.channel import Channel
from tallystick.node.errors import StoreError
from tallystick.node.founding import decode_channel
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import encode_row, evidence_key, log_key
from tallystick.node.tree import LogTree
from tallystick.protocol.accusation import Accused, Part
from tallystick.protocol.blinding import OpenedHead
from tallystick.protocol.errors import FormatError, PeerBreach, ProofError
from tallystick.protocol.evidence import (
    Evidence,
    build_evidence,
    evidence_digest,
    parse_evidence,
    verify_evidence,
)
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.merkle import Subtree, chain_leaves, node_hash, root_of
from tallystick.protocol.messages import Append, Holding
from tallystick.protocol.notes import (
    Note,
    Signature,
    format_note,
    verify_cosignature_blob,
    verify_note_signature,
)
from tallystick.protocol.records import decode_batch, encode_record
from tallystick.protocol.session import Rewriting

_log = logging.getLogger("tallystick.accusing")


@dataclass(frozen=True, slots=True)
class Kept:
    """Evidence in the store: its digest, its file's bytes, and what they say."""

    digest: bytes
    data: bytes
    evidence: Evidence

    @property
    def name(self) -> str:
        """The beginning of the digest: enough to name it here."""
        return self.digest.hex()[:16]


def kept(channel: Channel) -> list[Kept]:
    """All evidence that is stored in a channel."""
    number = channel.row.number
    with channel.store.read() as txn:
        files = [data for _, data in txn.scan("evidence", log_key(number), log_key(number + 1))]
    return [Kept(evidence_digest(data), data, parse_evidence(data)) for data in files]


async def keep(channel: Channel, data: bytes) -> Kept:
    """Store evidence that was verified, durably, and in the same transaction that its channel is
    halted: there is no moment in which a crash leaves the one without the other.
    """
    found = Kept(evidence_digest(data), data, parse_evidence(data))
    key = evidence_key(channel.row.number, found.digest)

    def job(txn: Txn) -> None:
        txn.put("evidence", key, data)
        row = decode_channel(txn.get("channels", channel.id) or b"")
        if row.state == "open":
            stopped = msgspec.structs.replace(row, state="halted", reason=f"evidence {found.name}")
            txn.put("channels", channel.id, encode_row(stopped))

    await channel.store.commit(job)
    channel.news.changed(channel.id)
    return found


def convicts(data: bytes) -> bool:
    """Whether every check of a file of evidence holds."""
    return all(check.ok for check in verify_evidence(data))


async def rewriting(channel: Channel, breach: Rewriting) -> PeerBreach:
    """What to say of a peer that sends other records for what it sent before.

    If it signed them, the evidence is stored when this returns.
    """
    found = await _keep_made(channel, lambda txn: _of_rewriting(channel, breach.append, txn))
    if found is None:
        return breach
    return PeerBreach(
        breach.code,
        f"the peer signed two histories of its log, evidence {found.name}: {breach.message}",
        "See: tally evidence",
    )


async def foreign_head(channel: Channel, message: Holding) -> PeerBreach:
    """What to say of a head of ours that the peer shows, that we signed, and that is not in our
    history: our own signature convicts us. If the peer co-signed both histories, so does its own.
    """
    own = channel.own
    ours = await _keep_made(channel, lambda txn: _of_head(channel, own, message, "author", txn))
    theirs = await _keep_made(
        channel, lambda txn: _of_head(channel, own, message, "co-signer", txn)
    )
    said = f"the peer holds another history of our log at size {message.size}, signed by us"
    if ours is not None:
        said += f": our own signature convicts us, evidence {ours.name}"
    if theirs is not None:
        said += f"; the peer co-signed both, evidence {theirs.name}"
    advice = (
        "Was this home restored from a copy of a time that had been given up? Keep it, and make a"
        " home of an older copy, or of the seed alone: tally recover"
    )
    return PeerBreach("inconsistent", said, advice)


async def unsigned_head(channel: Channel, message: Holding) -> PeerBreach:
    """What to say of a head of our log that we never signed; the peer may have co-signed it."""
    own = channel.own
    found = await _keep_made(channel, lambda txn: _of_head(channel, own, message, "co-signer", txn))
    said = "the peer shows a head that we never signed"
    if found is not None:
        said += f", and co-signed it beside our history, evidence {found.name}"
    return PeerBreach("bad-head", said)


async def shown_head(channel: Channel, log: ChannelLog, opened: OpenedHead) -> list[Kept]:
    """Evidence of a head that gossip shows and that is not in the history here, against its author
    and against its co-signer, where their signatures hold on both sides.
    """
    found: list[Kept] = []
    parts: tuple[Part, Part] = ("author", "co-signer")
    for part in parts:
        made = await _keep_made(channel, partial(_of_head, channel, log, opened, part))
        if made is not None:
            found.append(made)
    return found


async def _keep_made(channel: Channel, make: Callable[[Txn], bytes | None]) -> Kept | None:
    """Store what `make` gives if it convicts; no failure here keeps a channel from halting."""
    try:
        with channel.store.read() as txn:
            data = make(txn)
    except (FormatError, ProofError, StoreError) as error:
        _log.info("no evidence", extra={"reason": error})
        return None
    if data is None or not convicts(data):
        return None
    try:
        return await keep(channel, data)
    except StoreError as error:
        _log.error(
            "evidence cannot be stored; here it is",
            extra={"reason": error.message, "evidence": data.decode()},
        )
        return None


def _of_rewriting(channel: Channel, message: Append, txn: Txn) -> bytes:
    """Evidence of the peer's batch against its log as it is here."""
    log = channel.peer
    if message.first > log.durable_size:
        raise ProofError("what was sent before it was not taken: the log's quota is reached")
    size, before = log.durable_size, LogTree(txn, log.number, log.channel_id, message.first)
    leaves = chain_leaves(before.last_leaf(), decode_batch(message.batch)[1])
    sent = log.head(before.size + len(leaves), before.frontier().extend(leaves).root())
    here = LogTree(txn, log.number, log.channel_id, size)
    return build_evidence(
        accused(channel, log, "author"),
        stored_note(channel, log, size, txn),
        _note(channel, log, sent, message.signature, b""),
        _grown(before, leaves) if sent.size > size else here.subtree,
    )


def _of_head(
    channel: Channel, log: ChannelLog, message: Holding | OpenedHead, part: Part, txn: Txn
) -> bytes | None:
    """Evidence of a head that somebody shows of a log, against the newest one here that the
    accused signed; None if that is shorter.
    """
    size = log.signed_size if part == "author" else log.cosigned_size
    if not 0 < message.size <= size:
        return None
    shown = log.head(message.size, message.root)
    return build_evidence(
        accused(channel, log, part),
        stored_note(channel, log, size, txn),
        _note(channel, log, shown, message.signature, message.cosignature),
        LogTree(txn, log.number, log.channel_id, size).subtree,
    )


def _grown(before: LogTree, leaves: Sequence[bytes]) -> Subtree:
    """The hashes of a history that goes on from a log's first records with other leaves."""

    def subtree(start: int, end: int) -> bytes:
        if end <= before.size:
            return before.subtree(start, end)
        if start >= before.size:
            return root_of(leaves[start - before.size : end - before.size])
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        return node_hash(subtree(start, middle), subtree(middle, end))

    return subtree


# What both files need


def accused(channel: Channel, log: ChannelLog, part: Part) -> Accused:
    """The author or the co-signer of a log, with the rotations of its keys."""
    own = log if part == "author" else _other(channel, log)
    return Accused(channel.id, own.party.name, part, channel.row.terms, rotations(own))


def rotations(log: ChannelLog) -> tuple[bytes, ...]:
    """The records by which the log's author changed its log and cosigner keys, oldest first."""
    return tuple(
        encode_record(log.record(one.index))
        for one in log.state.facts.keys
        if one.party == log.role and one.job != "transport"
    )


def stored_note(channel: Channel, log: ChannelLog, size: int, txn: Txn) -> bytes:
    """A stored head's note with the lines that there are; `ProofError` if there are none."""
    row = log.head_row(txn, size)
    if row is None:
        raise ProofError(f"no head of {size} records of {log.party.name}'s log is stored here")
    return _note(channel, log, log.head(size, row.root), row.signature, row.cosignature)


def _note(
    channel: Channel, log: ChannelLog, head: Head, signature: bytes, cosignature: bytes
) -> bytes:
    """A head's note with those of its two lines that hold; `ProofError` if none does."""
    text, other = head_text(head), _other(channel, log)
    lines: list[Signature] = []
    for vkey in log.keyring.log_vkeys(log.role):
        line = Signature(vkey.name, vkey.id, signature)
        with suppress(ProofError):
            verify_note_signature(Note(text, (line,)), vkey)
            lines.append(line)
            break
    for vkey in other.keyring.cosigner_vkeys(other.role):
        with suppress(ProofError):
            verify_cosignature_blob(text, vkey, cosignature)
            lines.append(Signature(vkey.name, vkey.id, cosignature))
            break
    if not lines:
        raise ProofError(f"the head of {head.size} records carries no signature that holds")
    return format_note(Note(text, tuple(lines)))


def _other(channel: Channel, log: ChannelLog) -> ChannelLog:
    return channel.peer if log is channel.own else channel.own
