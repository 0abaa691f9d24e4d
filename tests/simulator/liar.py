"""A party whose node is honest and whose wire is not: it bends what it sends, with its own keys.

Whatever it says, the other side must keep what was agreed, keep evidence of what convicts, and go
on with everybody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import msgspec

from tallystick.node.tree import LogTree
from tallystick.protocol.errors import TallyError
from tallystick.protocol.heads import Head, cosign_head, sign_head
from tallystick.protocol.merkle import chain_leaves
from tallystick.protocol.messages import (
    Append,
    Cosign,
    Halt,
    Holding,
    Message,
    Ping,
    WantPage,
    decode_message,
    encode_message,
)
from tallystick.protocol.records import Delta, Record, batch_bytes, decode_batch, encode_record

if TYPE_CHECKING:
    from simulator.party import Party

FLOOD_FRAMES = 40
OFTEN = {Append: 0.4, Cosign: 0.05, Holding: 0.03}  # how often each message is bent
Lie = Callable[[Message], list[bytes]]


class Liar:
    """What bends a party's frames; `rewritten` are the heads that it signed for other histories."""

    def __init__(self, party: Party, dice: Random) -> None:
        self._party, self._dice = party, dice
        self._sent: list[Append] = []
        self._frames: list[bytes] = []
        self.lying = True
        self.told: Counter[str] = Counter()
        self.rewritten: list[tuple[str, bytes]] = []  # to whom, channel

    def bend(self, peer: str, body: bytes) -> list[bytes]:
        """What to send to a peer instead of a frame."""
        message = decode_message(body)
        lies: list[Lie] = [self._garbage, self._flood, self._replay]
        if isinstance(message, Append):
            lies += 2 * [self._invalid_record, self._rewrite_next, self._unsigned]
            if self._sent:
                lies += 4 * [self._rewrite_before]
        if isinstance(message, Cosign):
            lies += 3 * [self._cosign_other]
        if isinstance(message, Holding):
            lies += 3 * [self._claim_more, self._roll_back]
        if hasattr(message, "channel"):
            lies += [self._wrong_channel, self._halt]
        often = OFTEN.get(type(message), 0.01) if self.lying else 0.0
        if self._dice.random() >= often or self._party.process is None:
            self._note(message, body)
            return [body]
        lie = self._dice.choice(lies)
        bent = lie(message)
        if bent:
            name = lie.__name__.strip("_")
            self.told[name] += 1
            if name == "rewrite_before":
                assert isinstance(message, Append)
                self.rewritten.append((peer, message.channel))
            return bent
        self._note(message, body)
        return [body]

    def _note(self, message: Message, body: bytes) -> None:
        self._frames = [*self._frames[-20:], body]
        if isinstance(message, Append):
            self._sent = [*self._sent[-3:], message]

    # Lies about anything

    def _garbage(self, message: Message) -> list[bytes]:
        body = bytearray(encode_message(message))
        body[self._dice.randrange(len(body))] ^= 1 << self._dice.randrange(8)
        return [bytes(body)]

    def _flood(self, message: Message) -> list[bytes]:
        channel = getattr(message, "channel", bytes(32))
        more = self._dice.choice((Ping(), WantPage(channel, bytes(32), 0)))
        return [encode_message(message), *[encode_message(more)] * FLOOD_FRAMES]

    def _replay(self, message: Message) -> list[bytes]:
        return [self._dice.choice([*self._frames, encode_message(message)])]

    def _wrong_channel(self, message: Message) -> list[bytes]:
        others = [key for key in self._party.world.channels if key != getattr(message, "channel")]  # noqa: B009
        if not others:
            return []
        return [encode_message(msgspec.structs.replace(message, channel=self._dice.choice(others)))]

    def _halt(self, message: Message) -> list[bytes]:
        return [encode_message(Halt(getattr(message, "channel"), "because"))]  # noqa: B009

    # Lies about a log

    def _signed(self, message: Append, records: list[Record]) -> Append:
        """An append of these records instead, with a good signature on the head after them."""
        party = self._party
        assert party.process is not None
        channel = party.process.books.channels[message.channel][0]
        own, first = channel.own, message.first
        parts = [encode_record(record) for record in records]
        with own.store.read() as txn:
            tree = LogTree(txn, own.number, own.channel_id, first)
            frontier, last = tree.frontier(), tree.last_leaf()
        root = frontier.extend(chain_leaves(last, parts)).root()
        head = Head(own.head(0, root).origin, first + len(parts), root)
        signature = sign_head(head, party.identity.log)
        return Append(message.channel, first, batch_bytes(parts), signature)

    def _other(self, message: Append) -> list[bytes]:
        """An append with another quantity in its first delta."""
        records = decode_batch(message.batch)[0]
        for place, record in enumerate(records):
            if isinstance(record, Delta):
                records[place] = msgspec.structs.replace(record, quantity=record.quantity + 1)
                try:
                    return [encode_message(self._signed(message, records))]
                except (TallyError, KeyError):
                    return []  # a restart cut its own log meanwhile
        return []

    def _rewrite_next(self, message: Message) -> list[bytes]:
        assert isinstance(message, Append)
        return self._other(message)

    def _rewrite_before(self, message: Message) -> list[bytes]:
        assert isinstance(message, Append)
        before = [sent for sent in self._sent if sent.channel == message.channel]
        return self._other(before[-1]) if before else []

    def _unsigned(self, message: Message) -> list[bytes]:
        assert isinstance(message, Append)
        return [encode_message(msgspec.structs.replace(message, signature=bytes(64)))]

    def _invalid_record(self, message: Message) -> list[bytes]:
        assert isinstance(message, Append)
        records = decode_batch(message.batch)[0]
        last = records[-1]
        wrong = self._dice.choice(
            (
                Delta("x", "unknown", "s", 1, 1, 2**50, None),
                Delta("x", "tokens", "s", 1, 1, 1, None),
                Delta("x\n", "tokens", "s", 1, 1, 2**50, None),
                last,
            )
        )
        try:
            return [encode_message(self._signed(message, [*records, wrong]))]
        except (TallyError, KeyError):
            return []

    def _cosign_other(self, message: Message) -> list[bytes]:
        assert isinstance(message, Cosign)
        party = self._party
        assert party.process is not None
        if message.channel not in party.process.books.channels:
            return []
        peer = party.process.books.channels[message.channel][0].peer
        head = peer.head(message.size, self._dice.randbytes(32))
        blob = cosign_head(head, party.identity.cosigner, party.clock_us() // 1_000_000)
        return [encode_message(msgspec.structs.replace(message, cosignature=blob))]

    def _claim_more(self, message: Message) -> list[bytes]:
        assert isinstance(message, Holding)
        more = self._dice.choice(
            (
                msgspec.structs.replace(message, size=message.size + 1),
                msgspec.structs.replace(message, own_size=message.own_size + 5),
                msgspec.structs.replace(message, root=bytes(32)),
                msgspec.structs.replace(message, doubt=2),
            )
        )
        return [encode_message(more)]

    def _roll_back(self, message: Message) -> list[bytes]:
        assert isinstance(message, Holding)
        party = self._party
        assert party.process is not None
        peer = party.process.books.channels[message.channel][0].peer
        size = self._dice.randrange(message.size + 1)
        with peer.store.read() as txn:
            row = peer.head_row(txn, size)
        if row is None:
            return [encode_message(Holding(message.channel, 0, 0, 0, bytes(32), b"", b""))]
        back = Holding(
            message.channel, 0, message.own_size, size, row.root, row.signature, row.cosignature
        )
        return [encode_message(back)]
