"""Looks on from outside: which heads were signed and shown, and whether it was right to do so.

It knows no more of the nodes than what they sign, say and are told, and what is on their disks. A
claim that does not hold is a `Violation` with the number of the design's invariant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec
import trio

from tallystick.node import channel as channel_module
from tallystick.node import founding as founding_module
from tallystick.node.store.keyspace import ChannelRow, LogRow, declaration_key, log_key
from tallystick.node.store.source import stored_parts
from tallystick.node.tree import LogTree
from tallystick.protocol import heads
from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.errors import PeerBreach, ProofError
from tallystick.protocol.heads import Head
from tallystick.protocol.keys import origin
from tallystick.protocol.merkle import chain_leaves
from tallystick.protocol.messages import (
    Append,
    Channels,
    Cosign,
    Founded,
    Holding,
    ProposeCheckpoint,
    Return,
    SignCheckpoint,
    decode_message,
)
from tallystick.protocol.records import Declaration, Reveal, decode_batch, record_digest
from tallystick.protocol.states import Channel as Standing

if TYPE_CHECKING:
    from simulator.party import Party

decode_channel_row = msgspec.msgpack.Decoder(ChannelRow).decode
_log = msgspec.msgpack.Decoder(LogRow).decode
FENCES = 15  # what the judge numbers behind the invariants: of two nodes of a party one is heard
SPOKEN = (Channels, Founded, Holding, Append, Cosign, Return)
# Whose process runs now: a party may have several homes, and all sign with the same keys.
here: ContextVar[Party] = ContextVar("here")


class Violation(AssertionError):
    """An invariant of the design does not hold."""

    def __init__(self, invariant: int, what: str) -> None:
        super().__init__(f"invariant {invariant}: {what}")
        self.invariant = invariant


class Watch:
    """What was signed and shown, in the order in which it happened."""

    def __init__(self) -> None:
        self.signed: dict[bytes, Head] = {}  # by signature
        self.signed_at: dict[str, dict[Head, set[str]]] = defaultdict(dict)  # by log: addresses
        self.shown: list[tuple[int, Head]] = []  # with the number of the event
        self.cosigned: dict[bytes, Head] = {}
        self.cosigned_shown: list[Head] = []
        self.declared: dict[bytes, tuple[str, bytes, int]] = {}  # author, channel, index
        self.events = 0
        self.violations: list[Violation] = []
        self.honest: set[str] = set()
        self.convicted: list[tuple[Party, bytes, int, float]] = []  # who could, where, when
        self._known: set[Head] = set()
        self.generations: dict[tuple[str, str], int] = {}  # with which a home spoke, by party

    @contextmanager
    def looking(self) -> Iterator[None]:
        """See every signature on a head that any node makes."""
        with (
            mock.patch.object(channel_module, "sign_head", self._sign),
            mock.patch.object(founding_module, "sign_head", self._sign),
            mock.patch.object(channel_module, "cosign_head", self._cosign),
        ):
            yield

    def violated(self, invariant: int, what: str) -> None:
        """Note a violation; the run goes on to its end."""
        self.violations.append(Violation(invariant, what))

    def _sign(self, head: Head, key: Any) -> bytes:
        name = head.origin.split("/")[0]
        party = here.get(None)
        channel = bytes.fromhex(head.origin.split("/")[1])
        fresh = head not in self._known and head.size > 1
        if fresh and party is not None and channel not in party.heard:
            self.violated(3, f"{name} signed size {head.size} before its peer had confirmed")
        signature = heads.sign_head(head, key)
        self.signed[signature] = head
        self._known.add(head)
        if party is not None:
            self.signed_at[head.origin].setdefault(head, set()).add(party.address)
        return signature

    def _cosign(self, head: Head, key: Any, timestamp_s: int) -> bytes:
        blob = heads.cosign_head(head, key, timestamp_s)
        self.cosigned[blob] = head
        return blob

    def sent(self, party: Party, body: bytes, to: tuple[str, int]) -> None:
        """A node puts a frame on the wire to a party's node of some generation."""
        self.events += 1
        message = decode_message(body)
        if isinstance(message, SPOKEN):
            self._check_fence(party, *to)
        match message:
            case Append():
                head = self.signed.get(message.signature)
                if head is not None:
                    self.shown.append((self.events, head))
                    self._check_durable(2, party, head, own=True)
                    self._look_at_declarations(party, message)
            case Cosign():
                head = self.cosigned[message.cosignature]
                self.cosigned_shown.append(head)
                self._check_durable(5, party, head, own=False)
            case Holding() if message.cosignature in self.cosigned:
                self.cosigned_shown.append(self.cosigned[message.cosignature])
            case ProposeCheckpoint() | SignCheckpoint():
                self._checkpoint(party, message)
            case _:
                pass

    def arrived(self, party: Party, body: bytes) -> None:
        """A node takes a frame from the wire."""
        with suppress(PeerBreach):
            message = decode_message(body)
            if isinstance(message, Holding):
                party.heard.add(message.channel)
            elif isinstance(message, Append):
                self._look_for_rewriting(party, message)

    def _check_fence(self, party: Party, peer: str, generation: int) -> None:
        """Who once spoke with a peer's node never speaks with an older one of it."""
        newest = self.generations.get((party.address, peer), 0)
        if generation < newest:
            said = f"{party.name} speaks with {peer}'s node {generation} after {newest}"
            self.violated(FENCES, said)
        self.generations[party.address, peer] = max(newest, generation)

    def _look_for_rewriting(self, party: Party, message: Append) -> None:
        """Note whether a node now has two histories of a log, both signed by its author."""
        found = party.process and party.process.books.channels.get(message.channel)
        if not found or party.process is None or found[0].row.peer in self.honest:
            return
        channel = found[0]
        link = party.process.peering.links.get(channel.row.peer)
        if link is None or not link.live or message.channel not in link.session.channels:
            return
        standing = link.session.channels[message.channel]
        peer, first = channel.peer, message.first
        if standing.state is Standing.HALTED or first >= peer.durable_size or not peer.settled:
            return
        parts = decode_batch(message.batch)[1]
        with peer.store.read() as txn:
            stop = min(first + len(parts), peer.durable_size)
            held = list(stored_parts(txn, peer.number, first, stop))
            tree = LogTree(txn, peer.number, peer.channel_id, first)
            leaves = chain_leaves(tree.last_leaf(), parts)
            root = tree.frontier().extend(leaves).root()
        if held == parts[: stop - first]:
            return
        head = peer.head(first + len(parts), root)
        with suppress(ProofError):
            heads.verify_head_signature(head, peer.party.log_key, message.signature)
            self.convicted.append((party, message.channel, party.lives, trio.current_time()))

    def _checkpoint(self, party: Party, message: ProposeCheckpoint | SignCheckpoint) -> None:
        if isinstance(message, ProposeCheckpoint):
            for head in parse_checkpoint(message.text).heads:
                if head.party == party.name:
                    name = origin(head.party, message.channel)
                    self.shown.append((self.events, Head(name, head.size, head.root)))

    def _look_at_declarations(self, party: Party, message: Append) -> None:
        """A party can open what it declares, and opens it when both have declared."""
        for index, record in enumerate(decode_batch(message.batch)[0], message.first):
            place = (party.name, message.channel)
            if isinstance(record, Declaration):
                if record_digest(record) not in self.declared:
                    self._check_salt(party, message.channel, record)
                self.declared.setdefault(record_digest(record), (*place, index))
            elif isinstance(record, Reveal) and party.name in self.honest:
                for digest in (record.declaration, record.peer_declaration):
                    found = self.declared.get(digest)
                    if found is None or not self._is_cosigned(*found):
                        self.violated(12, f"{party.name} revealed before both had declared")

    def _is_cosigned(self, author: str, channel: bytes, index: int) -> bool:
        name = origin(author, channel)
        return any(head.origin == name and head.size > index for head in self.cosigned_shown)

    def _check_salt(self, party: Party, channel: bytes, record: Declaration) -> None:
        tables = party.disk.tables
        number = decode_channel_row(tables["channels"].values[channel]).number
        key = declaration_key(number, record.commitment)
        closer = party.process and party.process.books.channels[channel][1]
        closed = closer and any(row.period == record.period for row in closer.rows)
        if key not in tables["declarations"].values and not (closed or party.restored):
            self.violated(12, f"{party.name} declared what it has not kept")

    def _check_durable(self, invariant: int, party: Party, head: Head, *, own: bool) -> None:
        """What is said to be there is on the disk of who says so."""
        channel = bytes.fromhex(head.origin.split("/")[1])
        tables = party.disk.tables
        row = tables["channels"].values.get(channel)
        number = 2 * decode_channel_row(row).number + (not own) if row else -1
        log = tables["logs"].values.get(log_key(number)) if row else None
        size = _log(log).size if log else 0
        if size < head.size:
            said = "signed" if own else "co-signed"
            self.violated(
                invariant, f"{party.name} {said} {head.size} records, {size} are on its disk"
            )
