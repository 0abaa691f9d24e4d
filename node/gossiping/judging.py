"""What a head means that gossip shows: nothing new, that we went back, or that somebody lied.

Only signatures count, not who passed the head on. A head of ours that is ahead of what we signed,
or one that we co-signed and do not hold, says that this home is older than it was. A head that is
not in the history here, signed by its author or co-signed, convicts whoever signed both.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from tallystick.node import accusing
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Job, Txn
from tallystick.node.store.keyspace import ShownRow, encode_row, log_key
from tallystick.protocol.blinding import OpenedHead
from tallystick.protocol.errors import FormatError, PeerBreach, ProofError
from tallystick.protocol.heads import Head, verify_head_cosignature, verify_head_signature
from tallystick.protocol.keys import KEYS_MAX

# What becomes of a head that is shown; the last two are of items that are not judged.
RESULTS = (
    "held", "behind", "unknown", "lost", "rollback", "evidence", "unreadable", "skipped",
)  # fmt: skip

_log = logging.getLogger("tallystick.gossip")
decode_shown = msgspec.msgpack.Decoder(ShownRow).decode


def shown(channel: Channel, log: ChannelLog) -> ShownRow | None:
    """The head that gossip showed of a log, which is more than was here then."""
    with channel.store.read() as txn:
        value = txn.get("shown", log_key(log.number))
    return decode_shown(value) if value else None


def lacking(channel: Channel) -> ShownRow | None:
    """What gossip showed of our own log and is not back yet: nothing may be signed before. What was
    recorded here since and never signed does not stand for it.
    """
    row = shown(channel, channel.own)
    return row if row is not None and row.size > channel.signed_size else None


async def forget_shown(channel: Channel) -> None:
    """Gossip's heads bind no more: people agreed to go on without what was lost."""

    def job(txn: Txn) -> None:
        for log in (channel.own, channel.peer):
            txn.delete("shown", log_key(log.number))

    await channel.store.commit(job)


class Judge:
    """Judges heads for one node. `went_back` has a channel confirmed anew, `convicted` stops it."""

    def __init__(
        self,
        books: Books,
        went_back: Callable[[Channel], Awaitable[None]],
        convicted: Callable[[Channel, str], Awaitable[None]],
    ) -> None:
        self._books = books
        self._went_back = went_back
        self._convicted = convicted
        with books.store.read() as txn:
            held = txn.scan("shown", b"", b"\xff" * 5)
            self._shown = {int.from_bytes(key, "big") for key, _ in held}  # logs

    async def judge(self, channel: Channel, log: ChannelLog, opened: OpenedHead) -> str:
        """What became of a head, one of `RESULTS`: it is here; its log is longer than here, as logs
        are; nobody that is known signed it; it may be of what both lost; we went back; it convicts.
        """
        if not opened.size:
            return "held"
        if opened.size > log.durable_size:
            await log.settle()
        head = log.head(opened.size, opened.root)
        signed = self._signed(channel, log, head, opened.signature)
        cosigned = self._cosigned(channel, log, head, opened.cosignature)
        if not signed and not cosigned:
            return "unknown"
        if any(one.state.facts.epoch for one in (channel.own, channel.peer)):
            # Both signed that records were lost: what is shown may be among them, and undated.
            return "lost"
        ours = log is channel.own
        here = channel.signed_size if ours else log.durable_size
        if opened.size <= here:
            if log.root_at(opened.size) == opened.root:
                return "held"
            return await self._accuse(channel, log, opened)
        if signed if ours else cosigned:
            return await self._go_back(channel, log, opened)
        return "behind"

    def _signed(self, channel: Channel, log: ChannelLog, head: Head, signature: bytes) -> bool:
        """Whether the log's author signed it, by a key that is known here."""
        with suppress(ProofError):
            if log is channel.own:
                channel.verify_ours(head, signature)
                return True
            for vkey in log.keyring.log_vkeys(log.role):
                with suppress(ProofError):
                    verify_head_signature(head, vkey.key, signature)
                    return True
        return False

    def _cosigned(self, channel: Channel, log: ChannelLog, head: Head, cosignature: bytes) -> bool:
        if not cosignature:
            return False
        if log is channel.own:
            with suppress(PeerBreach):
                channel.check_cosignature(head, log.keyring, cosignature)
                return True
            return False
        who = channel.identity
        for number in range(KEYS_MAX):
            key = bytes(who.signer("cosigner", number).verify_key)
            with suppress(ProofError, FormatError):
                verify_head_cosignature(head, who.name, key, cosignature)
                return True
        return False

    async def _accuse(self, channel: Channel, log: ChannelLog, opened: OpenedHead) -> str:
        names = [found.name for found in await accusing.shown_head(channel, log, opened)]
        if not names:
            return "unknown"
        await self._convicted(
            channel, f"gossip showed another history of a log: evidence {', '.join(names)}"
        )
        return "evidence"

    async def _go_back(self, channel: Channel, log: ChannelLog, opened: OpenedHead) -> str:
        before = shown(channel, log)
        if before is not None and before.size >= opened.size:
            return "rollback"
        row = ShownRow(opened.size, opened.root, opened.signature, opened.cosignature)
        key, value = log_key(log.number), encode_row(row)
        self._shown.add(log.number)
        await channel.store.commit(lambda txn: txn.put("shown", key, value))
        _log.error(
            "gossip shows more than this home holds: it is older than it was",
            extra={
                "channel": channel.id.hex()[:8],
                "peer": channel.peer_keys.name,
                "log": log.party.name,
                "shown": opened.size,
                "here": log.durable_size,
            },
        )
        data = {"log": log.party.name, "shown": opened.size, "here": log.durable_size}
        channel.news.happened("rollback.shown", channel.id, data)
        await self._went_back(channel)
        return "rollback"

    async def look_again(self, channel: Channel) -> None:
        """Both logs grew: what gossip showed may be here now, or stand against what is."""
        for log in (channel.own, channel.peer):
            row = shown(channel, log) if log.number in self._shown else None
            if row is None or row.size > log.durable_size:
                continue
            opened = OpenedHead(row.size, row.root, row.signature, row.cosignature)
            if await self.judge(channel, log, opened) != "rollback":
                await channel.store.commit(_deletion(log.number))
                self._shown.discard(log.number)


def _deletion(log: int) -> Job:
    return lambda txn: txn.delete("shown", log_key(log))
