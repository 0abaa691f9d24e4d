"""What the command line may ask of a running node, over its Unix socket.

Only what needs the running node is here: what writes, and what is known to nobody else. Queries
read the store. Parameters and answers are plain values; errors are the project's own.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import trio

from tallystick.node import accusing, disputing
from tallystick.node.books import clock_us
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.errors import PeerUnreachable
from tallystick.node.founding import party_keys
from tallystick.node.gossiping.judging import lacking
from tallystick.node.importing.drafts import DRAFTS_MAX, Draft
from tallystick.node.node import Node
from tallystick.node.pairing import join, new_invite
from tallystick.node.reconciling.service import Reconciling
from tallystick.node.rotating import JOBS, waiting
from tallystick.node.transport.tls import parse_address
from tallystick.protocol.declarations import read_totals
from tallystick.protocol.errors import (
    ConflictError,
    FormatError,
    InputError,
    InvalidRecord,
    ProofError,
)
from tallystick.protocol.evidence import parse_evidence, verify_evidence
from tallystick.protocol.messages import Holding, ProposeTerms
from tallystick.protocol.pairing import comparison_words
from tallystick.protocol.records import (
    Answer,
    Correction,
    DeclaredTotal,
    Dispute,
    Job,
    Resolution,
    Withdrawal,
    decode_record,
)
from tallystick.protocol.terms import check_terms, describe_terms, meter_named, parse_terms

WAIT_SECONDS = 15  # for a peer that is expected to answer at once
COSIGNED_SECONDS = 3  # for a co-signature that people are shown

_decode_drafts = msgspec.msgpack.Decoder(list[Draft]).decode

Method = Callable[..., Awaitable[object]]


class Service:
    """The methods, by name in `methods`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._books = node.books
        self.http_address = ""  # where programs reach us over TCP
        self.methods: Mapping[str, Method] = {
            "invite": self.invite,
            "join": self.join,
            "propose": self.propose,
            "accept": self.accept,
            "emit": self.emit,
            "wait": self.wait,
            "correct": self.correct,
            "say": self.say,
            "declare": self.declare,
            "checkpoint": self.checkpoint,
            "seal": self.seal,
            "import_evidence": self.import_evidence,
            "rotate": self.rotate,
            **Reconciling(node).methods,
            "live": self.live,
            "recovery": self.recovery,
            "agree": self.agree,
            "only_copy": self.only_copy,
            "webhooks_changed": self.webhooks_changed,
            "webhooks_replay": self.webhooks_replay,
        }

    async def invite(
        self, lifetime_seconds: int, replaces: str = "", address: str = ""
    ) -> dict[str, Any]:
        """A new pairing code; with `replaces` for that peer's new keys."""
        node = self._node
        address = address or node.peering.address
        parse_address(address)
        if replaces:
            self._books.peer(replaces)
        invite, stored = new_invite(
            node.identity,
            address,
            lifetime_seconds,
            clock_us() / 1e6,
            secrets.token_bytes(16),
            replaces,
        )
        await self._books.pairing_book().add(stored)
        return {"code": invite.encode(), "expires_at": invite.expires_at_s, "address": address}

    async def join(self, code: str) -> dict[str, Any]:
        """Pair with the node that made the code."""
        node = self._node
        peer = await join(code, node.identity, node.certificate, node.peering.address)
        await self._books.pairing_book().remember(peer)
        node.peering.add_peer(peer)
        return {"peer": peer.name, "words": comparison_words(node.identity, peer)}

    async def propose(self, source: bytes, to: str) -> dict[str, Any]:
        """Propose terms to a peer; returns once its node holds them, if it can be reached."""
        node, founding = self._node, self._books.founding
        peer = self._books.peer(to)
        parties = {who.name: party_keys(who) for who in (node.identity, peer)}
        terms = parse_terms(source, parties, secrets.token_bytes(16))
        check_terms(terms)
        channel = await founding.propose(terms, peer)
        link = node.peering.links.get(peer.name)
        if link is not None and link.live:
            link.send(ProposeTerms(founding.rows[channel].terms, founding.signature(terms)))
        held, refused = node.peering.held, node.peering.refused
        refused.pop(channel, None)
        await self._until(lambda: channel in held or channel in refused)
        return {
            "channel": channel.hex(),
            "delivered": channel in held,
            "refused": refused.get(channel, ""),
            "description": describe_terms(terms),
        }

    async def accept(self, selector: str | None) -> dict[str, Any]:
        """Accept terms that a peer proposed: found the channel."""
        node, founding = self._node, self._books.founding
        channel = self._books.select(selector, ("offered",))
        await node.peering.open(channel)
        row = founding.rows[channel]
        opened, _ = self._books.channels[channel]
        delivered = await self._until(lambda: opened.peer.durable_size > 0)
        return {"channel": channel.hex(), "peer": row.peer, "delivered": delivered}

    async def _until(self, condition: Callable[[], bool]) -> bool:
        with trio.move_on_after(WAIT_SECONDS):
            while not condition():
                with trio.move_on_after(0.05):
                    await self._node.peering.changed.wait()
        return condition()

    def _channel(self, selector: str | None) -> tuple[Channel, Closer]:
        return self._books.channels[self._books.select(selector)]

    async def emit(self, channel: str | None, drafts: bytes) -> dict[str, Any]:
        """Record deltas (MessagePack list of drafts); answered when they are durable."""
        try:
            decoded: Sequence[Draft] = _decode_drafts(drafts)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"not a list of deltas: {error}") from None
        return await self.record(self._books.select(channel), decoded)

    async def record(self, channel: bytes, drafts: Sequence[Draft]) -> dict[str, Any]:
        """Record deltas; answered when they are durable: the index of each (-1: not recorded), how
        many were there already, what is wrong with others, and our log's size then.
        """
        found, _ = self._books.channels[channel]
        self._check_not_halted(found)
        if len(drafts) > DRAFTS_MAX:
            raise InputError(
                f"{len(drafts)} deltas in one request; {DRAFTS_MAX} are allowed",
                "Send them in several requests",
            )
        result = await found.emit(drafts)
        return {
            "indexes": result.indexes,
            "duplicates": len(result.repeated),
            "repeated": result.repeated,
            "problems": result.problems,
            "size": 1 + max(result.indexes, default=-1),
        }

    def _check_not_halted(self, channel: Channel) -> None:
        row = self._books.founding.rows[channel.id]
        if row.state == "halted":
            raise InputError(
                f"the channel with {row.peer} is halted: {row.reason}",
                "See tally status; nothing more is recorded in it",
            )

    async def wait(self, channel: str | None, size: int, seconds: float) -> dict[str, Any]:
        """Return when the peer has co-signed our log up to `size`."""
        found, _ = self._channel(channel)
        with trio.move_on_after(seconds):
            await found.wait_cosigned(size)
        if found.own.cosigned_ahead < size:
            advice = "What was recorded is durable here and is co-signed when the peer is back"
            if found.withheld:
                advice = f"It takes no more of our log: {found.withheld}"
            raise PeerUnreachable(
                f"{found.peer_keys.name} has not co-signed within {seconds:g} seconds", advice
            )
        return {"cosigned": found.own.cosigned_ahead}

    async def correct(
        self, channel: str | None, meter: str, id: str, quantity: int | None, reason: str
    ) -> dict[str, Any]:
        """Replace or void the quantity of a delta of ours."""
        found, _ = self._channel(channel)
        self._check_not_halted(found)
        meter_named(found.terms, meter)

        def make() -> Correction | None:
            now = found.own.effective(meter, id)
            if now is not None and now[1] == quantity:
                return None
            return Correction(id, meter, quantity, reason, found.now_recorded_at())

        try:
            index = await found.append_made(make)
        except InvalidRecord as error:
            raise ConflictError(error.message, error.advice) from None
        return {"index": index, "again": index is None}

    async def say(self, channel: str | None, record: bytes) -> dict[str, Any]:
        """Say something of a dispute in our log (the bytes of a record, its time left open), unless
        our log says it already; where it stands there, and the digest of the dispute.
        """
        found, _ = self._channel(channel)
        self._check_not_halted(found)
        said = decode_record(record)
        if not isinstance(said, Dispute | Answer | Resolution | Withdrawal):
            raise InputError("nothing of this kind is said of a dispute")
        spoken = await disputing.say(found, said)
        if found.live:  # the co-signature says from when the peer's time counts: show it if we can
            with trio.move_on_after(COSIGNED_SECONDS):
                await found.wait_cosigned(spoken.index + 1)
                await found.store.commit(lambda txn: None)
        return {"index": spoken.index, "dispute": spoken.dispute, "again": spoken.again}

    async def declare(
        self, channel: str | None, period: str, totals: dict[str, str], early: bool
    ) -> dict[str, Any]:
        """Commit to our totals of a period, in each meter's scale as decimal text."""
        found, closer = self._channel(channel)
        self._check_not_halted(found)
        shown = tuple(DeclaredTotal(meter, total) for meter, total in sorted(totals.items()))
        try:
            read = read_totals(found.terms, shown)
        except FormatError as error:
            raise InputError(error.message, error.advice) from None
        declarer = self._node.peering.declarer
        index, again = await declarer.declare(found, closer, period, read, early)
        return {"index": index, "again": again}

    async def checkpoint(self, channel: str | None, period: str, force: bool) -> dict[str, Any]:
        """Close a period with the peer."""
        found, closer = self._channel(channel)
        self._check_not_halted(found)
        link = self._node.peering.links.get(found.peer_keys.name)
        send = link.say if link is not None and link.live and found.live else None
        row = await closer.close(period, force=force, send=send)
        return {"period": row.period, "digest": row.digest.hex()}

    async def import_evidence(self, data: bytes) -> dict[str, Any]:
        """Keep evidence that convicts a party of one of our channels, and halt that channel."""
        checks = verify_evidence(data)
        for check in checks:
            if not check.ok:
                raise ProofError(
                    f"this convicts nobody: {check.name}: {check.detail}",
                    "Nothing was kept; see tally verify",
                )
        accused = parse_evidence(data).accused
        if accused.channel_id not in self._books.channels:
            raise InputError(
                f"this is about channel {accused.channel_id.hex()}, which is not one of ours"
            )
        channel, _ = self._books.channels[accused.channel_id]
        found = await accusing.keep(channel, data)
        said = checks[-1].detail
        await self._node.peering.convicted(channel, f"evidence {found.name} {said}")
        return {"digest": found.digest.hex(), "says": said, "peer": channel.peer_keys.name}

    async def recovery(self) -> dict[str, Any]:
        """How certain each channel is here, by its id, and what its peer said on its link: how
        certain it is there, and what it holds of our log and of its own.
        """
        answer = {}
        for channel, _ in self._books.channels.values():
            held = self._holding(channel)
            said = held and {"doubt": held.doubt, "own": held.size, "theirs": held.own_size}
            answer[channel.id.hex()] = {"doubt": channel.doubt, "peer": said}
        return answer

    def _holding(self, channel: Channel) -> Holding | None:
        link = self._node.peering.links.get(channel.peer_keys.name)
        return link.holding(channel.id) if link is not None and link.live else None

    async def agree(self, channel: str | None) -> dict[str, Any]:
        """People here agree to go on with what is left, after both sides lost records."""
        found, _ = self._channel(channel)
        self._check_not_halted(found)
        peer = found.peer_keys.name
        if not found.doubt:
            raise InputError("nothing is in doubt in this channel here", "There is nothing to do")
        if found.doubt > 1:
            raise InputError(
                "this side has agreed already", f"{peer} runs tally recover --agree as well"
            )
        holding = self._holding(found)
        if holding is None:
            raise PeerUnreachable(
                f"{peer} has not said yet what it holds", "See tally status, and try again then"
            )
        row = lacking(found)
        if not holding.doubt and row is not None and holding.size < row.size:
            raise InputError(
                f"gossip shows {row.size:,} records of our log; {peer} has {holding.size:,} of them"
                " and says that it lost none",
                "Its people must know that it did; nothing is signed before both sides agree",
            )
        if not holding.doubt:
            raise InputError(
                f"{peer} lost nothing: what is missing here comes back from it by itself",
                "See tally recover",
            )
        if holding.size > found.own.durable_size:
            raise InputError(f"{peer} still returns records of ours", "Try again when it is done")
        await self._node.peering.agree_on_loss(found)
        return {"channel": found.id.hex(), "peer": peer}

    async def only_copy(self) -> None:
        """People here say that no other copy of this home runs any more."""
        peering = self._node.peering
        if not peering.presences.stopped:
            raise InputError(
                "no other copy of this home was heard of", "There is nothing to decide"
            )
        await peering.only_copy()

    async def seal(self, channel: str | None, drop: bool) -> list[dict[str, Any]]:
        """Seal one channel, or all, now; what was done of each."""
        books = self._books
        chosen = list(books.channels) if channel is None else [books.select(channel)]
        drop = drop or books.config.archive.drop
        return [await self._node.keeper.seal(key, drop=drop) for key in chosen]

    async def webhooks_changed(self) -> None:
        """The home's file of endpoints is another one now."""
        self._node.webhooks.reload()

    async def webhooks_replay(self, name: str | None) -> dict[str, Any]:
        """Send deliveries again: of an event, or all that are dead."""
        return {"replaying": await self._node.webhooks.replay(name)}

    async def rotate(
        self, channel: str | None, job: Job, overlap_seconds: int
    ) -> list[dict[str, Any]]:
        """Give one channel, or all, the next key of a job."""
        if job not in JOBS:
            raise InputError(f"there is no {job!r} key", f"Say one of: {', '.join(JOBS)}")
        rotator, overlap_us = self._node.peering.rotator, overlap_seconds * 1_000_000
        if channel is None:
            done = await rotator.rotate(job, overlap_us)
        else:
            found, _ = self._channel(channel)
            done = [await rotator.rotate_one(found, job, overlap_us)]
        live = [one.channel for one in done if one.channel.live]
        await self._until(lambda: all(waiting(channel, job) is None for channel in live))
        return [
            {
                "channel": one.channel.id.hex(),
                "peer": one.channel.peer_keys.name,
                "job": job,
                "number": one.number,
                "key": one.key.hex(),
                "old_until": one.old_until_us,
                "repeated": waiting(one.channel, job) is None,
            }
            for one in done
        ]

    async def live(self) -> dict[str, Any]:
        """What only the running node knows."""
        node = self._node
        now = clock_us()
        channels = {}
        for key, (channel, closer) in self._books.channels.items():
            link = node.peering.links.get(channel.peer_keys.name)
            channels[key.hex()] = {
                "connected": link is not None and link.live,
                "confirmed": channel.live,
                "since_cosigned_seconds": (
                    (now - channel.cosigned_at_us) / 1e6 if channel.cosigned_at_us else None
                ),
                "difference": closer.difference,
                "withheld": channel.withheld,
                "clock_skew_seconds": round(link.skew_seconds, 1) if link else None,
            }
        peers = {name: link.live for name, link in node.peering.links.items()}
        http = self.http_address or None
        standby = node.mirroring.document() if node.mirroring else None
        return {
            "address": node.peering.address,
            "http": http,
            "channels": channels,
            "peers": peers,
            "standby": standby,
            "timestamps": node.stamper.document(),
        }
