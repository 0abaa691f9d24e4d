"""What a home does that lost a part of its own log: the counterparty is the backup.

Records that were never signed and stand where the peer holds others are set aside; our own are
fetched back, each head under our own signature; then what was set aside is recorded once. Only if
the peer lost data too, and people at both say so, an `Epoch` record marks what cannot come back.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
import trio

from tallystick.node.channel import Channel
from tallystick.node.errors import StoreError
from tallystick.node.gossiping.judging import forget_shown, lacking
from tallystick.node.importing.drafts import Draft
from tallystick.node.rebuilding import aside_rows, cut, free_number
from tallystick.node.sealing import sealed_of
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import UnplacedRow, encode_row, index_key
from tallystick.node.upkeep import RETRY_SECONDS
from tallystick.protocol.errors import FormatError, InvalidRecord, PeerBreach, ProofError
from tallystick.protocol.heads import Head
from tallystick.protocol.log import LogFacts
from tallystick.protocol.messages import Return
from tallystick.protocol.records import (
    Answer,
    Correction,
    Declaration,
    Delta,
    Dispute,
    Epoch,
    Lapse,
    Matter,
    Record,
    Reminder,
    Resolution,
    Reveal,
    Rotation,
    Withdrawal,
    decode_batch,
    encode_record,
    record_digest,
)

LOSS = "both parties lost what was recorded after this point"

Placeable = Correction | Rotation | Matter

_log = logging.getLogger("tallystick.recovery")


async def set_aside(channel: Channel) -> None:
    """Take what was recorded and never signed out of our log, durably; emits wait from now on."""
    channel.pause()
    async with channel.gate, channel.own.flushing:
        # Signatures and co-signatures on their way to the disk say there how long the log is.
        await channel.store.commit(lambda txn: None)
        size = channel.signed_size
        if channel.own.state.size > size:
            cut(channel.own, size)
            await _follow_cut(channel)
            channel.cuts += 1


async def _follow_cut(channel: Channel) -> None:
    """Bring memory to what was cut on the disk, however long that has no room for what follows:
    whoever appended before would append to a log that is gone.
    """
    with trio.CancelScope(shield=True):
        while True:
            try:
                channel.own.load(channel.id)
            except StoreError as error:
                if channel.store.stopped:
                    raise
                _log.warning(
                    "what was set aside waits for the disk", extra={"reason": error.message}
                )
                await trio.sleep(RETRY_SECONDS)
            else:
                return


async def take_back(channel: Channel, message: Return) -> None:
    """Append records of our own log that the peer returns, under our own signature."""
    if message.first != channel.own.state.size:
        raise StoreError("our records came back while the store was being read again")

    def sign(head: Head, facts: LogFacts) -> tuple[bytes, bytes]:
        channel.verify_author(channel.own, head, facts, message.signature)
        if message.cosignature:
            ring = channel.own.rules.keyring(facts)
            channel.check_cosignature(head, ring, message.cosignature)
        return message.signature, message.cosignature

    try:
        records, parts = decode_batch(message.batch)
        prints = channel.check_new(channel.own, records)
        ticket = channel.own.submit(records, parts, prints, sign, lambda batch: None)
    except (InvalidRecord, FormatError, ProofError) as error:
        raise PeerBreach(
            "bad-return",
            f"what the peer returned of our log does not follow ours: {error.message}",
            "If this home came from a copy of a time that had been given up, make one of an older"
            " copy, or of the seed alone: tally recover",
        ) from None
    await ticket.wait()


def may_sign(ours: int, theirs: int) -> bool:
    """Whether a party may sign again, by how certain both are (see `Holding`).

    Who is certain may; who is not may if the other is certain, for then it had everything back. If
    neither is, people at both agree first, each at its side.
    """
    return ours == 0 or theirs == 0 or (ours > 1 and theirs > 1)


def may_sign_now(channel: Channel, theirs: int) -> bool:
    """The same, where gossip may have shown heads of ours that the peer does not hold either."""
    if lacking(channel) is None:
        return may_sign(channel.doubt, theirs)
    return may_sign(max(channel.doubt, 1), max(theirs, 1))


async def begin_epoch(channel: Channel) -> None:
    """Say in our log that both lost what came after this point, before anything else comes."""
    await set_aside(channel)
    await forget_shown(channel)
    own, peer = channel.own, channel.peer
    record = Epoch(
        own.state.facts.epoch + 1,
        peer.durable_size,
        peer.root_at(peer.durable_size),
        0,
        b"",
        LOSS,
        channel.now_recorded_at(),
    )
    await channel.append_paused(record)


async def record_aside(channel: Channel) -> None:
    """Record again, once, what was set aside; what cannot be is kept with its reason."""
    with channel.store.read() as txn:
        rows = aside_rows(txn, channel.own.number)
    renamed: dict[bytes, bytes] = {}  # digests of what is recorded at another time now
    for key, batch in rows:
        records, _ = decode_batch(batch)
        unplaced = await _again(channel, records, renamed)
        for _, reason in unplaced:
            _log.error(
                "a record that was set aside cannot be recorded again", extra={"reason": reason}
            )

        def job(txn: Txn, key: bytes = key, unplaced: list[tuple[Record, str]] = unplaced) -> None:
            txn.delete("aside", key)
            log = channel.own.number
            for number, (record, reason) in enumerate(unplaced, free_number(txn, "unplaced", log)):
                row = UnplacedRow(encode_record(record), reason)
                txn.put("unplaced", index_key(log, number), encode_row(row))

        await channel.store.commit(job)
    if rows:
        _log.warning("what was recorded meanwhile is in the log", extra={"batches": len(rows)})


async def _again(
    channel: Channel, records: list[Record], renamed: dict[bytes, bytes]
) -> list[tuple[Record, str]]:
    """Record what is not in the log by now; those that contradict it, and why."""
    unplaced: list[tuple[Record, str]] = []
    deltas = [record for record in records if isinstance(record, Delta)]
    drafts = [
        Draft(d.id, d.meter, d.subject, d.quantity, d.occurred_at, sealed_of(channel.own, d))
        for d in deltas
    ]
    if drafts:
        result = await channel.emit_paused(drafts)
        unplaced += [(deltas[place], reason) for place, _, reason in result.problems]
    for record in records:
        # Reminders and lapses rely on heads that are gone; they are made anew if they are due.
        if not isinstance(record, Correction | Rotation | Matter) or isinstance(
            record, Reminder | Lapse
        ):
            continue
        now = channel.now_recorded_at()
        later = _renamed(msgspec.structs.replace(record, recorded_at=now), renamed)
        if not _is_there(channel, later):
            try:
                _check_named(channel, later)
                await channel.append_paused(later)
            except InvalidRecord as error:
                unplaced.append((record, error.message))
                continue
            if isinstance(record, Declaration | Dispute):
                renamed[record_digest(record)] = record_digest(later)
    return unplaced


def _check_named(channel: Channel, record: Placeable) -> None:
    """`InvalidRecord` if what a record says is of a dispute that neither log has (any more)."""
    if isinstance(record, Answer | Resolution | Withdrawal) and all(
        log.index_of(record.dispute) is None for log in (channel.own, channel.peer)
    ):
        raise InvalidRecord("it is about a dispute that is in neither log")


def _renamed(record: Placeable, renamed: Mapping[bytes, bytes]) -> Placeable:
    """A record that names others of our log by their digests now."""
    match record:
        case Answer() | Resolution() | Withdrawal():
            now = renamed.get(record.dispute, record.dispute)
            return msgspec.structs.replace(record, dispute=now)
        case Reveal():
            now = renamed.get(record.declaration, record.declaration)
            return msgspec.structs.replace(record, declaration=now)
        case _:
            return record


def _is_there(channel: Channel, record: Placeable) -> bool:
    """Whether our log says so already, whenever it was recorded."""
    own = channel.own
    match record:
        case Rotation():
            return any(one.key == record.key for one in own.state.facts.keys)
        case Correction():
            now = own.effective(record.meter, record.id)
            return now is not None and now[1] == record.quantity
        case _:
            return any(
                type(said) is type(record)
                and msgspec.structs.replace(said, recorded_at=record.recorded_at) == record
                for _, said in own.matters(own.durable_size)
            )


async def adopt(channel: Channel, size: int, root: bytes, signature: bytes) -> None:
    """Keep our own signature on a head of ours that the peer shows and we had forgotten."""
    with channel.store.read() as txn:
        row = channel.own.head_row(txn, size)
    if row is None or not row.signature:
        await channel.own.store_signature(size, root, signature).wait()
