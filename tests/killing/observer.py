"""Looks into both stores while the nodes live and die, and keeps every head that it sees.

A look opens one store as another process would, without its node. What one store shows that the
other node has said (a signed head, a co-signature) or what an emitter was told must be in the other
store when that is opened next: nothing is said before it is durable. Whether all heads belong to
one history is checked at the end, from the records (`audit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from nodes import Party

from killing.ledger import Findings, Ledger
from tallystick.node import queries
from tallystick.node.books import Books
from tallystick.node.declaring import declarations_document
from tallystick.node.home import open_home
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    ChannelRow,
    HeadRow,
    LogRow,
    index_key,
    index_of,
    log_key,
)

_channel = msgspec.msgpack.Decoder(ChannelRow).decode
_head = msgspec.msgpack.Decoder(HeadRow).decode
_log = msgspec.msgpack.Decoder(LogRow).decode


@dataclass(slots=True)
class Seen:
    """What was seen of the head of one size, anywhere and at any time."""

    roots: set[bytes] = field(default_factory=set)
    signatures: set[bytes] = field(default_factory=set)
    cosignatures: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class _Claims:
    """What others can show or were told of a party's store: it must all be there."""

    heads: dict[tuple[str, int], HeadRow] = field(default_factory=dict)  # by author and size
    sizes: dict[str, int] = field(default_factory=dict)  # by author


class Observer:
    """The heads of both logs as both stores have shown them, by author and size."""

    def __init__(self, ledgers: Mapping[str, Ledger], findings: Findings) -> None:
        self.seen: dict[str, dict[int, Seen]] = {name: {} for name in ledgers}
        self.derived: list[dict[str, Any]] = []
        self.looks = 0
        self._ledgers = ledgers
        self._findings = findings
        self._claims = {name: _Claims() for name in ledgers}
        self._rows: dict[tuple[str, str], LogRow] = {}  # as last seen, by holder and author

    def look(self, party: Party, *, whole: bool = False) -> None:
        """Look into a party's store: at what is new, or at the whole of it."""
        holder = party.name
        peer = next(name for name in self._ledgers if name != holder)
        claims = self._gather(holder, peer)
        store = Store(party.home / "store", read_only=True)
        try:
            with store.read() as txn:
                number = next(
                    _channel(value).number for _, value in txn.scan("channels", b"", b"\xff" * 33)
                )
                logs = {holder: number * 2, peer: number * 2 + 1}
                for author, log in logs.items():
                    self._look_at_log(txn, holder, author, log, whole)
                self._settle(txn, holder, logs, claims)
        finally:
            store.close()
        self.looks += 1

    def _gather(self, holder: str, peer: str) -> _Claims:
        """The claims on a store from before it is opened."""
        claims, self._claims[holder] = self._claims[holder], _Claims()
        told = self._ledgers
        claims.sizes[holder] = max(claims.sizes.get(holder, 0), told[holder].size)
        claims.sizes[peer] = max(claims.sizes.get(peer, 0), told[peer].cosigned)
        return claims

    def _look_at_log(self, txn: Txn, holder: str, author: str, log: int, whole: bool) -> None:
        row = _log(txn.get("logs", log_key(log)) or b"")
        before = self._rows.get((holder, author), row)
        for what in ("size", "signed_size", "cosigned_size"):
            if getattr(row, what) < getattr(before, what):
                self._findings.add(
                    f"{holder}: {what} of {author}'s log went back"
                    f" from {getattr(before, what)} to {getattr(row, what)}"
                )
        self._rows[holder, author] = row
        start = 0 if whole else before.cosigned_size
        other = next(name for name in self._ledgers if name != holder)
        claims = self._claims[other]
        for size, head in _heads(txn, log, start):
            self.saw(author, size, head)
            if holder == author and head.cosignature:
                claims.heads[author, size] = head  # the other one co-signed that
            elif holder != author and head.signature:
                claims.heads[author, size] = head  # the other one signed that

    def saw(self, author: str, size: int, head: HeadRow) -> None:
        """Keep a head of an author's log."""
        seen = self.seen[author].setdefault(size, Seen())
        seen.roots.add(head.root)
        if head.signature:
            seen.signatures.add(head.signature)
        if head.cosignature:
            seen.cosignatures.add(head.cosignature)
        if len(seen.roots) > 1:
            self._findings.add(f"{author}'s log has two roots at size {size}")

    def derive(self, party: Party) -> None:
        """Keep what a query derives from a party's store, and the heads that it names."""
        books = Books.open(open_home(party.home), read_only=True)
        try:
            document = queries.derive(*next(iter(books.channels.values())))
        finally:
            books.close()
        for head in document["heads"]:
            self.saw(head["party"], head["size"], HeadRow(bytes.fromhex(head["root"]), b"", b""))
        self.derived.append(document)

    def unrevealed(self, party: Party) -> list[str]:
        """The labels that both parties declared and this party's store shows no totals of."""
        sent = [
            {one.label for one in ledger.declarations if one.index >= 0}
            for ledger in self._ledgers.values()
        ]
        books = Books.open(open_home(party.home), read_only=True)
        try:
            channel, closer = next(iter(books.channels.values()))
            documents = {
                label: declarations_document(channel, closer, label)
                for label in sorted(set.intersection(*sent))
            }
        finally:
            books.close()
        return [
            label
            for label, one in documents.items()
            if None in (one["provider"]["totals"], one["consumer"]["totals"])
        ]

    def _settle(self, txn: Txn, holder: str, logs: Mapping[str, int], claims: _Claims) -> None:
        """Whether a store has what others say it has."""
        for author, size in claims.sizes.items():
            here = self._rows[holder, author].size
            if here < size:
                what = "acknowledged" if author == holder else "co-signed"
                self._findings.add(
                    f"{holder} {what} {size} records of {author}'s log and holds {here}"
                )
        for (author, size), claimed in claims.heads.items():
            value = txn.get("heads", index_key(logs[author], size))
            head = _head(value) if value else HeadRow(b"", b"", b"")
            if author == holder and head.signature != claimed.signature:
                self._findings.add(f"{holder} showed its head {size} before it was durable")
            elif author != holder and head.cosignature != claimed.cosignature:
                self._findings.add(f"{holder} co-signed {author}'s head {size} before it held it")


def _heads(txn: Txn, log: int, start: int) -> Iterator[tuple[int, HeadRow]]:
    for key, value in txn.scan("heads", index_key(log, start), log_key(log + 1)):
        yield index_of(key), _head(value)
