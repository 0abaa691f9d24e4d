"""A channel in its node: both logs, and what may be done with them while the node runs.

Emits that arrive together become one batch with one head, one hash pass and one fsync. A head is
signed only while a session has confirmed what the peer holds of our log (`live`); what is recorded
before that is durable, and signed when the peer has answered. While what we lost of our log comes
back (`recovery`), emits wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec
import trio
from nacl.signing import SigningKey

from tallystick.node.batches import Batch
from tallystick.node.errands import WHEN_CALLED, Errands
from tallystick.node.errors import StoreError
from tallystick.node.founding import read_terms
from tallystick.node.importing.drafts import Draft
from tallystick.node.late import LateLines
from tallystick.node.logs import ChannelLog
from tallystick.node.news import News
from tallystick.node.requests import EmitResult, Request, Turns, joined, parts_of, readable
from tallystick.node.sealing import (
    deltas_of,
    rows_beside,
)
from tallystick.node.sorting import sort_out
from tallystick.node.store.disk import Store, Ticket
from tallystick.node.store.keyspace import ChannelRow
from tallystick.node.store.source import stored_parts
from tallystick.protocol.derive import Folder, LineKey
from tallystick.protocol.errors import (
    FormatError,
    InvalidRecord,
    PeerBreach,
    ProofError,
)
from tallystick.protocol.heads import (
    Head,
    cosign_head,
    sign_head,
    verify_head_cosignature,
    verify_head_signature,
)
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import KEYS_MAX, Identity
from tallystick.protocol.log import LogFacts
from tallystick.protocol.messages import Append
from tallystick.protocol.moves import Moves, unbilled
from tallystick.protocol.records import (
    TIME_MAX_US,
    Close,
    Correction,
    Delta,
    Epoch,
    Matter,
    Record,
    Rotation,
    batch_count,
    decode_batch,
    decode_record,
    encode_record,
)
from tallystick.protocol.terms import channel_id, role_of

_RESUMED = trio.Event()
_RESUMED.set()
BATCHES_AHEAD_MAX = 2  # prepared but not yet durable: one on the disk, one being hashed


def _nothing() -> None:
    pass


class Channel:
    """One open channel. `clock_us` gives microseconds since the Unix epoch."""

    def __init__(
        self,
        store: Store,
        index_folder: Path,
        seed: int,
        identity: Identity,
        row: ChannelRow,
        clock_us: Callable[[], int],
        errands: Errands | None = None,
        news: News | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.store = store
        self.identity = identity
        self.row = row
        self.terms = terms = read_terms(row)
        self.id = channel_id(terms)
        self.role = role_of(terms, identity.name)
        own, peer = terms.provider, terms.consumer
        numbers = (row.number * 2, row.number * 2 + 1)
        if self.role == "consumer":
            own, peer = peer, own
        peer_role = role_of(terms, peer.name)
        self.peer_keys = peer
        folder = Folder(terms)
        self.own = ChannelLog(store, index_folder, seed, numbers[0], folder, self.role, True)
        self.peer = ChannelLog(store, index_folder, seed, numbers[1], folder, peer_role, False)
        self._clock_us = clock_us
        self.live = False
        self.doubt = row.doubt  # see `ChannelRow`
        self.certain_at = 0  # co-signed up to here, our fresh start after a loss is certain
        self.cuts = 0  # how often the end of our log was set aside, so that sizes changed
        self.resumed = _RESUMED  # emits wait for it
        self._requests: list[Request] = []
        self._cosigned: trio.Event | None = None  # who waits for the next co-signature
        self.cosigned_at_us = 0
        self.quota_bytes = 0  # of what the peer makes us hold; 0: none is set
        self.closed_bytes = 0  # of the checkpoints that are kept
        self.late_lines = LateLines(terms, self.own.folder.calendar)  # of those checkpoints
        self.news = news or News()
        self.errands = errands or Errands()
        self.turns = turns or Turns()
        self.stirred: Callable[[], None] = _nothing  # it went live, or was co-signed
        self.withheld = ""  # why the peer takes no more of our log now
        try:
            self.load()
        except BaseException:
            self.own.index.close()
            self.peer.index.close()
            raise

    @cached_property
    def gate(self) -> trio.Lock:
        """Held while our log is prepared to grow, or cut."""
        return trio.Lock()

    @cached_property
    def _slots(self) -> trio.Semaphore:
        return trio.Semaphore(BATCHES_AHEAD_MAX)

    def load(self) -> None:
        """Bring memory to what is on disk."""
        self.own.load(self.id)
        self.peer.load(self.id)

    @property
    def provider_log(self) -> ChannelLog:
        """The provider's log, whichever side we are."""
        return self.own if self.role == "provider" else self.peer

    @property
    def consumer_log(self) -> ChannelLog:
        """The consumer's log."""
        return self.peer if self.role == "provider" else self.own

    def moves(self, lines: Set[LineKey]) -> Moves:
        """When these lines moved, by what is durable here."""
        a, b = (
            unbilled(lines, log.tallies_of(lines)) for log in (self.provider_log, self.consumer_log)
        )
        return self.late_lines.moves(lines, (a, b))

    @property
    def held_bytes(self) -> int:
        """What the peer makes us hold in this channel: its log, and the checkpoints."""
        return self.peer.held_bytes + self.closed_bytes

    @property
    def full(self) -> bool:
        """Whether the peer's quota is reached, so that nothing more of its log is taken."""
        return 0 < self.quota_bytes <= self.held_bytes

    # Confirmation

    @property
    def signed_size(self) -> int:
        """What we signed of our log. The terms count: signing them again gives the same bytes."""
        return max(self.own.signed_size, min(self.own.state.size, 1))

    def go_live(self) -> None:
        """The peer said what it holds of our log, and it is ours: heads may be signed."""
        self.live = True
        self.stirred()

    def part(self) -> None:
        """The link ended, or the channel halted: sign nothing until the peer speaks again."""
        self.live = False
        self.resume()

    def pause(self) -> None:
        """Let emits wait."""
        if self.resumed.is_set():
            self.resumed = trio.Event()

    def resume(self) -> None:
        """Let emits go on."""
        self.resumed.set()

    # Our log

    async def emit(self, drafts: Sequence[Draft]) -> EmitResult:
        """Record deltas durably; returns when they, or what they repeat, are fsynced."""
        parts = parts_of(drafts)
        self._requests += parts
        self.errands.call(Channel.make_batches, self)
        for part in parts:
            await part.scheduled.wait()
            assert part.ticket is not None
            await part.ticket.wait()
        return joined(parts)

    async def make_batches(self) -> float:
        """Turn what callers emit into batches, until nothing of it is left."""
        while self._requests:
            await self.resumed.wait()
            await self._slots.acquire()
            async with self.gate:
                if not self.resumed.is_set():
                    self._slots.release()
                    continue
                group: list[Request] = []
                count = 0
                most = self.turns.most(self, trio.current_time())
                while self._requests and (
                    not group or count + len(self._requests[0].drafts) <= most
                ):
                    group.append(self._requests.pop(0))
                    count += len(group[-1].drafts)
                try:
                    if self.own.dropped:
                        group = await readable(self.own, group)
                    ticket = self._append(group)
                    ticket.then_always(self._slots.release)
                except StoreError as error:
                    self._slots.release()
                    ticket = Ticket.failed(error)
            for request in group:
                request.ticket = ticket
                request.scheduled.set()
        return WHEN_CALLED

    async def emit_paused(self, drafts: Sequence[Draft]) -> EmitResult:
        """The same as `emit` while emits wait, for what goes before them."""
        request = Request(drafts)
        async with self.gate:
            await self._append([request]).wait()
        return request.result

    def _append(self, group: Sequence[Request]) -> Ticket:
        self.keep_founded()
        own = self.own
        found = sort_out(own, [draft for request in group for draft in request.drafts])
        start = 0
        for request in group:
            stop = start + len(request.drafts)
            request.result.indexes = found.indexes[start:stop]
            request.result.repeated = [
                place - start for place in found.repeated if start <= place < stop
            ]
            request.result.problems = [
                (place - start, kind, said)
                for place, kind, said in found.problems
                if start <= place < stop
            ]
            start = stop
        if not found.fresh:
            return self.store.submit(lambda txn: None)
        recorded_at = self.now_recorded_at()
        records = deltas_of(found.fresh, recorded_at)
        return own.submit_checked(
            records,
            [encode_record(record) for record in records],
            found.prints,
            msgspec.structs.replace(own.state.facts, recorded_at=recorded_at),
            self._sign,
            lambda batch: None,
            rows_beside(own.number, found.fresh),
        )

    async def append_own(self, record: Correction | Close | Rotation | Matter) -> int:
        """Append another kind of record of ours; its index, once durable."""
        index = await self.append_made(lambda: record)
        assert index is not None
        return index

    async def append_made(
        self, make: Callable[[], Correction | Close | Rotation | Matter | None]
    ) -> int | None:
        """Append what `make` gives, if anything; its index, once durable.

        `make` sees our log as the record will find it: nothing of it is on its way to the disk.
        """
        while True:
            await self.resumed.wait()
            async with self.gate:
                await self.own.settle()
                if self.resumed.is_set():
                    record = make()
                    if record is None:
                        return None
                    index, ticket = self._append_record(record)
                    break
        await ticket.wait()
        return index

    async def append_paused(self, record: Correction | Epoch | Rotation | Matter) -> int:
        """The same while emits wait."""
        async with self.gate:
            index, ticket = self._append_record(record)
            await ticket.wait()
        return index

    def _append_record(
        self, record: Correction | Close | Epoch | Rotation | Matter
    ) -> tuple[int, Ticket]:
        self.keep_founded()
        last = self.own.state.facts.recorded_at
        if record.recorded_at < last:  # other records went before it since its time was read
            record = msgspec.structs.replace(record, recorded_at=last)
        part = encode_record(record)
        try:
            decode_record(part)  # a value out of its range is written as well, but never read again
        except FormatError as error:
            raise InvalidRecord(error.message) from None
        index = self.own.state.size
        return index, self.own.submit([record], [part], [], self._sign, lambda batch: None)

    def found(self) -> Ticket:
        """Append the terms as our log's first record."""
        return self.own.submit(
            [self.terms], [encode_record(self.terms)], [], self._sign, lambda batch: None
        )

    def keep_founded(self) -> None:
        """The same unless it was done: power or the disk may fail between opening and this."""
        if not self.own.state.size:
            self.found()

    def now_recorded_at(self) -> int:
        """The `recorded_at` of a record made now: a log's never goes back."""
        return min(max(self._clock_us(), self.own.state.facts.recorded_at), TIME_MAX_US)

    def _sign(self, head: Head, facts: LogFacts) -> tuple[bytes, bytes]:
        if not self.live:
            return b"", b""
        return sign_head(head, self.log_signer(self.own.rules.keyring(facts))), b""

    def log_signer(self, ring: Keyring) -> SigningKey:
        """Our log key in force by a keyring."""
        return self.identity.signer_of("log", ring.keys(self.role, "log")[-1].key)

    async def signed_batch(self, start: int, stop: int) -> Batch:
        """Records from `start` up to at most `stop` with a signed head; the signature is durable
        before it is sent.
        """
        batch = self.own.batch_from(start, stop)
        if not batch.signature:
            head = self.own.head(batch.size, batch.root)
            signature = sign_head(head, self.log_signer(self.own.keyring_at(batch.size)))
            await self.own.store_signature(batch.size, batch.root, signature).wait()
            batch = Batch(batch.first, batch.data, batch.root, signature)
        return batch

    def take_cosignature(self, size: int, cosignature: bytes) -> None:
        """Check the peer's co-signature of our head of that size, and keep it; who waits for it
        need not wait for our disk, for the peer says it again if it is lost.
        """
        with self.store.read() as txn:
            row = self.own.head_row(txn, size)
        if row is None or not row.signature:
            raise PeerBreach("bad-cosignature", f"the peer co-signed size {size}, never signed")
        ring = self.own.keyring_at(size)
        self.check_cosignature(self.own.head(size, row.root), ring, cosignature)
        kept = self.own.store_cosignature(size, cosignature)
        kept.then_always(lambda: self.news.changed(self.id))
        self.own.growth.cosigned(size)
        self.cosigned_at_us = self._clock_us()
        if self._cosigned is not None:
            self._cosigned.set()
            self._cosigned = None
        self.stirred()

    def verify_author(self, log: ChannelLog, head: Head, facts: LogFacts, signature: bytes) -> None:
        """Refuse (`ProofError`) a head that no log key of its author signed that counts there."""
        keys = log.rules.keyring(facts).counting(log.role, "log", facts.recorded_at)
        for key in keys[1:]:
            with suppress(ProofError):
                return verify_head_signature(head, key, signature)
        return verify_head_signature(head, keys[0], signature)

    def verify_ours(self, head: Head, signature: bytes) -> None:
        """Refuse (`ProofError`) a head of our log that none of our log keys signed. Those that we
        may have forgotten count too: all of them come from the seed.
        """
        for number in range(KEYS_MAX):
            key = bytes(self.identity.signer("log", number).verify_key)
            with suppress(ProofError):
                return verify_head_signature(head, key, signature)
        raise ProofError(f"head {head.size}: none of our keys signed it")

    def check_cosignature(self, head: Head, ring: Keyring, cosignature: bytes) -> None:
        """`PeerBreach` unless a co-signer's key of the peer's made it that counted then.

        The time it was made is in it; which keys there are, our log says up to that head.
        """
        at_us = int.from_bytes(cosignature[:8], "big") * 1_000_000
        keys = ring.counting(self.peer.role, "cosigner", at_us)
        name = self.peer_keys.name
        try:
            for key in keys[1:]:
                with suppress(ProofError):
                    verify_head_cosignature(head, name, key, cosignature)
                    return
            verify_head_cosignature(head, name, keys[0], cosignature)
        except (ProofError, FormatError) as error:
            raise PeerBreach(
                "bad-cosignature", f"the peer's co-signature does not hold: {error.message}"
            ) from None

    async def wait_cosigned(self, size: int) -> None:
        """Return once the peer has co-signed our log up to `size`."""
        while self.own.cosigned_ahead < size:
            if self._cosigned is None:
                self._cosigned = trio.Event()
            await self._cosigned.wait()

    # The peer's log

    def receive(self, message: Append, then: Callable[[int, bytes], None]) -> Ticket:
        """Check the peer's batch and queue it; `then(size, cosignature)` runs once it is durable.

        `PeerBreach` if a record is invalid or the head's signature does not hold; then nothing is
        stored and nothing co-signed.
        """
        peer = self.peer
        if message.first != peer.state.size:
            raise StoreError("the peer's records came while the store was being read again")
        try:
            records, parts = decode_batch(message.batch)
            prints = self.check_new(peer, records)
            cosignature = b""

            def sign(head: Head, facts: LogFacts) -> tuple[bytes, bytes]:
                nonlocal cosignature
                self.verify_author(peer, head, facts, message.signature)
                key = peer.rules.keyring(facts).keys(self.role, "cosigner")[-1].key
                cosigner = self.identity.signer_of("cosigner", key)
                cosignature = cosign_head(head, cosigner, self._clock_us() // 1_000_000)
                return message.signature, cosignature

            def durable(batch: Batch) -> None:
                then(batch.size, cosignature)
                self.news.changed(self.id)

            return peer.submit(records, parts, prints, sign, durable)
        except (InvalidRecord, FormatError) as error:
            raise PeerBreach("invalid-record", f"the peer's log: {error.message}") from None
        except ProofError as error:
            raise PeerBreach("bad-head", f"the peer's head: {error.message}") from None

    def check_new(self, log: ChannelLog, records: Sequence[Record]) -> list[int]:
        """The fingerprints of the batch's deltas; `InvalidRecord` if an id is not new."""
        deltas = [record for record in records if type(record) is Delta]
        prints = log.fingerprints([(delta.meter, delta.id) for delta in deltas])
        known = log.known(prints)
        if known or len(set(prints)) != len(prints):
            seen: set[tuple[str, str]] = set()
            for delta, value in zip(deltas, prints, strict=True):
                pair = (delta.meter, delta.id)
                earlier = [log.record(index) for index in known.get(value, ())]
                if pair in seen or any(
                    isinstance(r, Delta) and (r.meter, r.id) == pair for r in earlier
                ):
                    raise InvalidRecord(f"{delta.meter}/{delta.id} is there twice")
                seen.add(pair)
        return prints

    async def repeats(self, message: Append) -> bool:
        """Whether the peer only sent again, byte for byte, what is here of its log already."""
        await self.peer.settle()
        stop = min(message.first + batch_count(message.batch), self.peer.durable_size)
        try:
            sent = decode_batch(message.batch)[1][: stop - message.first]
        except FormatError:
            return False
        with self.store.read() as txn:
            held = list(stored_parts(txn, self.peer.number, message.first, stop))
        return sent == held
