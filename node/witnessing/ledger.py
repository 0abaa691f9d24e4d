"""What this node has co-signed as a witness: one head of each origin, durable before it is told.

Requests about one origin are taken one after the other, so that two of them cannot both extend
what was seen before. Times never go back, so two lines of ours never contradict each other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import trio
from nacl.signing import SigningKey

from tallystick.node.books import WITNESS_DOUBT
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import SeenRow, encode_row
from tallystick.node.witnessing.known import KnownLogs
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey, witness_name
from tallystick.protocol.notes import Note, Signature, format_note
from tallystick.protocol.witness import (
    NOTHING_SEEN,
    AddCheckpoint,
    Refused,
    Seen,
    check_prefix,
    check_signature,
    cosign_checkpoint,
)

LOCKS = 64  # for all origins together, each of which always has the same

decode_seen = msgspec.msgpack.Decoder(SeenRow).decode


class Ledger:
    """The heads that a witness has co-signed."""

    def __init__(
        self,
        store: Store,
        party: str,
        key: SigningKey,
        known: KnownLogs,
        origins_max: int,
        clock_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._key = key
        self._known = known
        self._origins_max = origins_max
        self._clock_us = clock_us
        self.vkey = Vkey(witness_name(party), ED25519_COSIGNATURE, bytes(key.verify_key))
        self._locks = [trio.Lock() for _ in range(LOCKS)]
        self._counts: Counter[str] = Counter()  # of origins, by paired peer
        with store.read() as txn:
            self.doubtful = txn.get("meta", WITNESS_DOUBT) is not None
            for row in seen_rows(txn):
                self._counts[known.party_of(row.origin) or ""] += 1

    @property
    def origins(self) -> int:
        """How many logs it has co-signed a head of."""
        return self._counts.total()

    async def add(self, request: AddCheckpoint, allow: Callable[[str], None]) -> Signature:
        """Our line on a checkpoint that extends what was seen, once that is durable; `Refused` if
        there must be none. `allow` may refuse an origin whose signature holds.
        """
        origin = request.head.origin
        vkeys = self._known.vkeys_of(origin)
        if not vkeys:
            raise Refused(404, "this log is not known here")
        signed = check_signature(request, vkeys)
        allow(origin)  # only now: nobody else can use up what a log may ask
        if self.doubtful:
            raise Refused(
                503, "what this witness has seen was restored from a copy: its owner must look"
            )
        key = origin_key(origin)
        async with self._locks[key[0] % LOCKS]:
            row = self.find(key)
            party = self._known.party_of(origin) or ""
            if row is None and party and self._counts[party] >= self._origins_max:
                raise Refused(403, f"{party} has as many logs here as a peer may have")
            head = check_prefix(request, Seen(row.size, row.root) if row else NOTHING_SEEN)
            at_s = max(self._clock_us() // 1_000_000, row.at_s if row else 1)
            text = request.checkpoint.text
            line = cosign_checkpoint(text, self.vkey.name, self._key, at_s)
            note = format_note(Note(text, (signed, line)))
            value = encode_row(SeenRow(origin, head.size, head.root, note, at_s))
            await self._store.commit(lambda txn: txn.put("seen", key, value))
            self._counts[party] += row is None
        return line

    def find(self, key: bytes) -> SeenRow | None:
        """What was co-signed of the origin of this hash."""
        with self._store.read() as txn:
            value = txn.get("seen", key)
        return decode_seen(value) if value else None

    async def settle(self) -> None:
        """Its owner looked: go on from what the store says."""
        await self._store.commit(lambda txn: txn.delete("meta", WITNESS_DOUBT))
        self.doubtful = False


def origin_key(origin: str) -> bytes:
    """The key of an origin's row."""
    return hashlib.sha256(origin.encode()).digest()


def seen_rows(txn: Txn) -> Iterator[SeenRow]:
    """Everything that was co-signed."""
    for _, value in txn.scan("seen", b"", b"\xff" * 33):
        yield decode_seen(value)
