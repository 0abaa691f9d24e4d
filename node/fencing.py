"""Which node of a peer's party may speak: the one of the newest generation that was seen here.

When a standby takes over it shows a generation that its party signed. That is kept durably before
the session goes on; whoever comes with an older one is refused and shown the proof, so that it
stops for good. A fence belongs to a party's keys: with new keys by a new pairing it is gone.
"""

from __future__ import annotations

import msgspec
import trio

from tallystick.node.books import Books
from tallystick.node.store.keyspace import FenceRow, encode_row
from tallystick.protocol.errors import PeerBreach, ProofError
from tallystick.protocol.generation import verify_generation
from tallystick.protocol.messages import Bye, Fenced, Presence, Promoted
from tallystick.protocol.pairing import PeerIdentity

_decode = msgspec.msgpack.Decoder(FenceRow).decode
_NONE = FenceRow(0, b"")


class Outdated(PeerBreach):
    """The peer's node was superseded; `last` shows it that its party said so."""

    def __init__(self, party: str, fence: FenceRow) -> None:
        super().__init__(
            "fenced",
            f"another node of {party} took over with generation {fence.generation}",
            "Nothing is exchanged with the older one",
        )
        self.last = Fenced(fence.generation, fence.proof)


def last_word(breach: PeerBreach) -> Fenced | Bye:
    """What a peer is told at the end of a session."""
    return breach.last if isinstance(breach, Outdated) else Bye(breach.code, str(breach)[:1000])


class Fences:
    """The fences of one node's peers."""

    def __init__(self, books: Books) -> None:
        self._books = books
        with books.store.read() as txn:
            rows = txn.scan("fences", b"", b"\xff" * 33)
            self._fences = {key: _decode(value) for key, value in rows}
        self._durable = {key: row.generation for key, row in self._fences.items()}
        self._raising = trio.Lock()

    def of(self, peer: PeerIdentity) -> FenceRow:
        """The newest generation of a peer's that was seen here."""
        return self._fences.get(peer.cosigner_key, _NONE)

    def check(self, peer: PeerIdentity, presence: Presence) -> None:
        """`Outdated` if a newer generation than this was seen."""
        fence = self.of(peer)
        if presence.generation < fence.generation:
            raise Outdated(peer.name, fence)

    async def raise_to(
        self, peer: PeerIdentity, presence: Presence, promoted: Promoted | None
    ) -> bool:
        """Have a generation kept durably before this returns; whether it is newer than any before.
        `PeerBreach` if the party did not sign it.
        """
        async with self._raising:
            return await self._raise(peer, presence, promoted)

    async def _raise(
        self, peer: PeerIdentity, presence: Presence, promoted: Promoted | None
    ) -> bool:
        if presence.generation <= self._durable.get(peer.cosigner_key, 0):
            return False
        if promoted is None or promoted.generation != presence.generation:
            raise PeerBreach("bad-generation", f"{peer.name} shows no proof of its generation")
        try:
            verify_generation(peer.name, peer.cosigner_key, promoted.generation, promoted.proof)
        except ProofError as error:
            raise PeerBreach("bad-generation", error.message) from None
        row = FenceRow(promoted.generation, promoted.proof)
        # In memory at once: what waits for the disk must not let the older one in.
        self._fences[peer.cosigner_key] = row
        value = encode_row(row)
        await self._books.store.commit(lambda txn: txn.put("fences", peer.cosigner_key, value))
        self._durable[peer.cosigner_key] = row.generation
        return True
