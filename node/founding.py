"""Founding a channel: terms are proposed, held until a person accepts them, and then binding.

Each side's acceptance is its signature on the head of size 1 of its own log, whose only record is
the terms; nothing else is signed. Messages that got lost are said again at the next greeting, so a
founding cannot stay half done.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
import trio

from tallystick.node.news import News
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import ChannelRow, encode_row
from tallystick.protocol.errors import (
    FormatError,
    InputError,
    InvalidRecord,
    PeerBreach,
    ProofError,
)
from tallystick.protocol.heads import Head, sign_head, verify_head_signature
from tallystick.protocol.keys import Identity, origin
from tallystick.protocol.merkle import Frontier, chain_leaves
from tallystick.protocol.messages import Founded
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import Meter, PartyKeys, Terms, decode_record, encode_record
from tallystick.protocol.terms import channel_id, check_terms

decode_channel = msgspec.msgpack.Decoder(ChannelRow).decode


def read_terms(row: ChannelRow) -> Terms:
    """The terms of a row; meters that many name alike are one object, for all channels."""
    terms = decode_record(row.terms)
    assert isinstance(terms, Terms)
    return msgspec.structs.replace(terms, meters=_held_once(terms.meters))


@lru_cache(256)
def _held_once(meters: tuple[Meter, ...]) -> tuple[Meter, ...]:
    return meters


def party_keys(who: Identity | PeerIdentity) -> PartyKeys:
    """A party as terms name it."""
    return PartyKeys(who.name, who.log_key, who.cosigner_key)


def first_head(party: str, terms: Terms) -> Head:
    """The head of size 1 of a party's log under these terms."""
    channel = channel_id(terms)
    leaves = chain_leaves(channel, [encode_record(terms)])
    return Head(origin(party, channel), 1, Frontier.empty().extend(leaves).root())


class Founding:
    """The channels' rows, from proposal to opening."""

    def __init__(self, store: Store, identity: Identity, news: News | None = None) -> None:
        self._store = store
        self._news = news or News()
        self._identity = identity
        self._changing = trio.Lock()  # `rows` is what is on disk, so changes go one by one
        with store.read() as txn:
            scan = txn.scan("channels", b"", b"\xff" * 33)
            self.rows = {key: decode_channel(value) for key, value in scan}
        self._of_peers: dict[str, list[bytes]] = {}
        for key, row in self.rows.items():
            self._of_peers.setdefault(row.peer, []).append(key)
        self._next_number = 1 + max((row.number for row in self.rows.values()), default=-1)

    def of_peer(self, peer: str) -> list[tuple[bytes, ChannelRow]]:
        """The channels with a peer, of whatever state, and those that are only proposed."""
        return [(key, self.rows[key]) for key in self._of_peers.get(peer, ())]

    def terms_of(self, channel: bytes) -> Terms:
        """The terms of a row."""
        terms = decode_record(self.rows[channel].terms)
        assert isinstance(terms, Terms)
        return terms

    def signature(self, terms: Terms) -> bytes:
        """Our signature on our log's first head: the acceptance of these terms."""
        own = terms.provider if terms.provider.name == self._identity.name else terms.consumer
        signer = self._identity.signer_of("log", own.log_key)
        return sign_head(first_head(own.name, terms), signer)

    async def propose(self, terms: Terms, peer: PeerIdentity) -> bytes:
        """Keep terms of ours durably; the channel id."""
        channel = channel_id(terms)
        await self._add(channel, terms, peer.name, "proposed", b"")
        return channel

    def check_offer(self, data: bytes, signature: bytes, peer: PeerIdentity) -> Terms:
        """The terms that a peer offers; `PeerBreach` unless they are between us two and signed."""
        try:
            terms = decode_record(data)
            if not isinstance(terms, Terms):
                raise FormatError("not a terms record")
            check_terms(terms)
            expected = {party_keys(self._identity), party_keys(peer)}
            if {terms.provider, terms.consumer} != expected:
                raise InvalidRecord("they are not between the two of us, with our keys")
            verify_head_signature(first_head(peer.name, terms), peer.log_key, signature)
        except (FormatError, InvalidRecord, InputError, ProofError) as error:
            raise PeerBreach(
                "bad-terms", f"the terms that the peer offers: {error.message}"
            ) from None
        return terms

    def waiting(self, peer: str) -> int:
        """How many of a peer's offers wait for a person here."""
        return sum(row.state == "offered" for _, row in self.of_peer(peer))

    async def offer(self, terms: Terms, peer: PeerIdentity, signature: bytes) -> bytes:
        """Keep a peer's terms until a person accepts them; the channel id."""
        channel = channel_id(terms)
        await self._add(channel, terms, peer.name, "offered", signature)
        return channel

    async def open(self, channel: bytes, signature: bytes | None = None) -> ChannelRow:
        """The channel is founded: both signatures are there."""
        signature = signature or self.rows[channel].signature
        await self._change(channel, state="open", signature=signature, reason="")
        return self.rows[channel]

    async def halt(self, channel: bytes, reason: str) -> None:
        """Nothing more is signed in this channel: at once, also while the disk cannot keep it."""
        stopped = msgspec.structs.replace(self.rows[channel], state="halted", reason=reason)
        self.rows[channel] = stopped
        # Whoever asked may go away, with a link for instance; it stays halted on the disk too.
        with trio.CancelScope(shield=True):
            await self._change(channel, state="halted", reason=reason)

    async def replace_keys(self, peer: PeerIdentity, keep: Callable[[Txn], None]) -> None:
        """Keep a peer by `keep`, and end in the same transaction what is under other keys of its:
        what was proposed is gone, open channels halt and stay as they are otherwise.
        """
        reason = f"{peer.name} has new keys by a new pairing; this channel is under the old ones"
        async with self._changing:
            old = {key: row for key, row in self.of_peer(peer.name) if self._is_past(row, peer)}
            halted = {
                key: msgspec.structs.replace(row, state="halted", reason=reason)
                for key, row in old.items()
                if row.state == "open"
            }
            gone = [key for key, row in old.items() if row.state in ("proposed", "offered")]

            def job(txn: Txn) -> None:
                keep(txn)
                for key, row in halted.items():
                    txn.put("channels", key, encode_row(row))
                for key in gone:
                    txn.delete("channels", key)

            await self._store.commit(job)
            self.rows |= halted
            for key in gone:
                del self.rows[key]
                self._of_peers[peer.name].remove(key)
            for key in old:
                self._news.changed(key)

    def is_past(self, channel: bytes, peer: PeerIdentity) -> bool:
        """Whether a channel is under keys of the peer's that these have replaced."""
        return self._is_past(self.rows[channel], peer)

    def _is_past(self, row: ChannelRow, peer: PeerIdentity) -> bool:
        terms = decode_record(row.terms)
        assert isinstance(terms, Terms)
        return row.peer == peer.name and party_keys(peer) not in (terms.provider, terms.consumer)

    async def set_doubt(self, channel: bytes, doubt: int) -> None:
        """Say whether what we signed last in this channel is certain (see `ChannelRow`)."""
        await self._change(channel, doubt=doubt)

    def check_founded(self, message: Founded, peer: PeerIdentity) -> tuple[Terms, bytes]:
        """The terms of a channel that both accepted, and the peer's signature.

        `PeerBreach` unless they are between us two and both signatures hold, ours included: so
        nobody can tell us that we agreed to what we did not.
        """
        try:
            terms = decode_record(message.terms)
            if not isinstance(terms, Terms):
                raise FormatError("not a terms record")
            check_terms(terms)
            names = {terms.provider.name, terms.consumer.name}
            if names != {self._identity.name, peer.name}:
                raise InvalidRecord("they are not between the two of us")
            signatures = (message.provider_signature, message.consumer_signature)
            theirs = b""
            for party, signature in zip((terms.provider, terms.consumer), signatures, strict=True):
                verify_head_signature(first_head(party.name, terms), party.log_key, signature)
                if party.name == self._identity.name:
                    self._identity.signer_of("log", party.log_key)
                else:
                    theirs = signature
        except (FormatError, InvalidRecord, InputError, ProofError) as error:
            raise PeerBreach("bad-terms", f"the channel of the peer: {error.message}") from None
        return terms, theirs

    def founded(self, channel: bytes) -> Founded:
        """What proves to the peer that both founded an open channel."""
        row, terms = self.rows[channel], self.terms_of(channel)
        ours = self.signature(terms)
        both = (ours, row.signature)
        if terms.provider.name != self._identity.name:
            both = (row.signature, ours)
        return Founded(row.terms, *both)

    async def restore(self, terms: Terms, peer: PeerIdentity, signature: bytes) -> bytes:
        """Keep a channel that we had founded and lost; nothing of it is certain yet."""
        channel = channel_id(terms)
        await self._add(channel, terms, peer.name, "proposed", signature, 1)
        return channel

    async def _add(
        self, channel: bytes, terms: Terms, peer: str, state: str, signature: bytes, doubt: int = 0
    ) -> None:
        async with self._changing:
            if channel not in self.rows:
                number = self._next_number
                row = ChannelRow(number, encode_record(terms), peer, state, signature, "", doubt)
                await self._put(channel, row)
                self._next_number = number + 1
                self._of_peers.setdefault(peer, []).append(channel)

    async def _change(self, channel: bytes, **fields: object) -> None:
        async with self._changing:
            await self._put(channel, msgspec.structs.replace(self.rows[channel], **fields))

    async def _put(self, channel: bytes, row: ChannelRow) -> None:
        def job(txn: Txn) -> None:
            txn.put("channels", channel, encode_row(row))

        await self._store.commit(job)
        self.rows[channel] = row
        self._news.changed(channel)
