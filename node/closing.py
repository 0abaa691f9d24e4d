"""Closing a period: propose, recompute, sign on both sides, or name the first line that differs.

A `Closer` belongs to one channel, and answers the peer's messages about checkpoints. What is signed
is computed here from our own records (`Balances`); the peer's text is only compared with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import trio

from tallystick.node.balances import Balances, Closing
from tallystick.node.channel import Channel
from tallystick.node.closing_news import ClosingNews
from tallystick.node.differing import first_line, other_verdict
from tallystick.node.errors import PeerUnreachable
from tallystick.node.logs import ChannelLog
from tallystick.node.quotas import checkpoint_bytes
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import CheckpointRow, encode_row, index_key
from tallystick.node.upkeep import flush
from tallystick.protocol.checkpoint import (
    Checkpoint,
    checkpoint_note,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from tallystick.protocol.errors import DiffersError, FormatError, InputError, PeerBreach, ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.messages import (
    PAGE_LINES,
    Difference,
    Message,
    ProposeCheckpoint,
    RefuseCheckpoint,
    SignCheckpoint,
    StatementPage,
    WantPage,
)
from tallystick.protocol.notes import Note, Signature, verify_note_signature
from tallystick.protocol.periods import Period
from tallystick.protocol.records import ROLES, Close
from tallystick.protocol.statement import (
    Line,
    decode_line,
    encode_line,
    first_difference,
)
from tallystick.protocol.verdict import encode_verdict

ANSWER_SECONDS = 60
POLL_SECONDS = 0.05
_log = logging.getLogger("tallystick.closing")

Send = Callable[[Message], None]


@dataclass(slots=True)
class _Proposal:
    """Our proposal while the peer looks at it."""

    closing: Closing
    answered: trio.Event
    error: DiffersError | InputError | PeerUnreachable | None = None


class Closer(Balances):
    """The closing of a channel's periods."""

    def __init__(self, channel: Channel, *, agree_early: bool, clock_us: Callable[[], int]) -> None:
        super().__init__(channel)
        self._agree_early = agree_early
        self._clock_us = clock_us
        self._proposal: _Proposal | None = None
        # Our lines, while we page them to the proposer, and the digest of what it proposed.
        self._answering: tuple[bytes, Sequence[Line]] = (b"", [])
        self._counted = 0  # what the peer had co-signed of our log before its last proposal
        self._signing = 0  # checkpoints that both signed and that are not kept yet
        self._news = ClosingNews(channel)
        self.difference: str = ""  # the first differing line of the last failed proposal

    @cached_property
    def _completing(self) -> trio.Lock:
        return trio.Lock()

    @cached_property
    def _catching_up(self) -> trio.Lock:
        return trio.Lock()

    # Propose

    async def close(self, label: str, *, force: bool, send: Send | None) -> CheckpointRow:
        """Have a period closed by both; the checkpoint. A closed one comes back as it is."""
        period = self._calendar.parse(label)
        done = self.row_of(period)
        if done is not None:
            return done
        self._check_turn(period, force)
        if send is None:
            raise PeerUnreachable(
                f"{self.channel.peer_keys.name} is not connected, and a checkpoint needs both",
                "See tally status, and try again when the peer is back",
            )
        if self._proposal is not None:
            raise InputError("another checkpoint of this channel is under way", "Try again soon")
        proposal = await self._propose(period)
        done = self.row_of(period)
        if done is not None:
            return done
        if self._proposal is not None or self._signing:  # meanwhile; of two only one can follow
            raise InputError("another checkpoint of this channel is under way", "Try again soon")
        self._proposal = proposal
        try:
            send(self._message(proposal.closing, force))
            self._news.proposed(proposal.closing.checkpoint, ours=True)
            if not self.channel.live:
                self.part()
            with trio.move_on_after(ANSWER_SECONDS):
                await proposal.answered.wait()
        finally:
            self._proposal = None
        row = self.row_of(period)
        if row is not None:
            return row
        if proposal.error:
            raise proposal.error
        raise PeerUnreachable(
            f"{self.channel.peer_keys.name} did not answer within {ANSWER_SECONDS} seconds",
            "Nothing is closed; try again when the peer is back",
        )

    def _check_turn(self, period: Period, force: bool) -> None:
        last = self.last
        if last is not None and period.end_us <= last.end_us:
            raise InputError(
                f"{period.label} is before {last.period}, which is closed",
                "What comes late for it counts in the first open period",
            )
        for line in self.open_lines():
            if self._calendar.parse(line.period).end_us <= period.start_us:
                raise InputError(
                    f"{line.period} is not closed yet and has usage",
                    f"Close it first: tally checkpoint {line.period}",
                )
        if self._is_early(period) and not force:
            raise InputError(
                f"the grace time of {period.label} is not over",
                "Wait for it, or close early with --force if both agree",
            )

    def _is_early(self, period: Period) -> bool:
        grace_us = self.channel.terms.grace_seconds * 1_000_000
        return self._clock_us() < period.end_us + grace_us

    async def _propose(self, period: Period) -> _Proposal:
        channel = self.channel
        with trio.move_on_after(ANSWER_SECONDS) as waiting:
            sizes = await self._cosigned_sizes()
            while not self._same_keys(sizes):
                await trio.sleep(POLL_SECONDS)  # the other side is about to repeat a rotation
                sizes = await self._cosigned_sizes()
        if waiting.cancelled_caught:
            raise PeerUnreachable(
                f"{channel.peer_keys.name} has not co-signed our log yet", "See tally status"
            )
        lacking = await channel.news.closing(channel.id, *sizes)
        if lacking:
            raise PeerUnreachable(lacking, "Nothing is closed; see tally witness, and try again")
        return _Proposal(self._compute(period, sizes), trio.Event())

    async def _cosigned_sizes(self) -> tuple[int, int]:
        """Both logs' durable co-signed sizes, once ours is co-signed as far as it is durable."""
        channel = self.channel
        await channel.wait_cosigned(channel.own.durable_size)
        await channel.store.commit(lambda txn: None)  # so that the co-signatures are on disk
        await self._settled()
        return channel.provider_log.cosigned_size, channel.consumer_log.cosigned_size

    async def _settled(self) -> None:
        """Return when no closing is between what it bills and that it is closed."""
        async with self._completing:
            pass

    def _same_keys(self, sizes: tuple[int, int]) -> bool:
        """Whether both logs, up to these sizes, name the same log keys: they sign a checkpoint."""
        logs = (self.channel.provider_log, self.channel.consumer_log)
        rings = [log.keyring_at(size) for log, size in zip(logs, sizes, strict=True)]
        return all(rings[0].log_vkeys(role)[0] == rings[1].log_vkeys(role)[0] for role in ROLES)

    def _ring(self, checkpoint: Checkpoint) -> Keyring:
        """The keys as our log gives them up to its head in a checkpoint."""
        own = self.channel.own
        return own.keyring_at(checkpoint.heads[ROLES.index(own.role)].size)

    def _message(self, closing: Closing, early: bool) -> ProposeCheckpoint:
        blob, text = self._sign(closing.checkpoint).blob, closing.checkpoint.text()
        verdict = encode_verdict(closing.verdict)
        return ProposeCheckpoint(self.channel.id, text, blob, early, verdict)

    # Answer

    def arrived(self, message: Message) -> None:
        """Note where a proposal stands among the peer's words, before it waits to be handled."""
        if isinstance(message, ProposeCheckpoint):
            self._counted = self.channel.own.cosigned_ahead

    async def handle(self, message: Message, send: Send) -> None:
        """Answer the peer's message about a checkpoint."""
        match message:
            case ProposeCheckpoint():
                await self._answer(message, send)
            case SignCheckpoint():
                await self._signed(message)
            case RefuseCheckpoint():
                said = f"the peer did not sign: {message.reason}"
                self._fail(message.digest, InputError(said, "Nothing is closed"))
                self._news.refused(message.digest, message.reason, ours=False)
            case StatementPage():
                self._compare_page(message, send)
            case WantPage():
                self._send_page(message.digest, message.offset, send)
            case Difference():
                if message.digest == self._answering[0]:
                    self._answering = (b"", [])
                    said = first_line(message.proposer, message.other, "the peer", "we")
                    self.difference = said
                    self._news.differs(message.digest, said)
                    _log.warning(
                        "checkpoint not signed",
                        extra={"channel": self.channel.id.hex()[:8], "reason": said},
                    )
            case _:
                raise AssertionError(message)

    async def _answer(self, message: ProposeCheckpoint, send: Send) -> None:
        channel = self.channel
        try:
            theirs = parse_checkpoint(message.text)
        except FormatError as error:
            raise PeerBreach("bad-checkpoint", f"the peer's proposal: {error.message}") from None
        digest = theirs.digest()

        def refuse(reason: str) -> None:
            send(RefuseCheckpoint(channel.id, digest, reason))
            self._news.refused(digest, reason, ours=True)

        await channel.store.commit(lambda txn: None)  # so that the co-signatures are on disk
        await self._settled()
        for row in self.rows:
            if row.digest == digest:  # our signature got lost on the way
                send(SignCheckpoint(channel.id, digest, self._sign(theirs).blob))
                return
        # What is checked below must still be so when we sign: nothing is waited for from there on.
        lacking = ""
        if channel.live:
            lacking = await channel.news.closing(channel.id, *theirs.sizes)
            await self._settled()
        self._news.proposed(theirs, ours=False)
        if lacking:
            refuse(lacking)
            return
        if self._proposal is not None and channel.role == "provider":
            refuse("a proposal of the provider's is under way")
            return
        if not channel.live:
            refuse("this node is not confirmed yet; try again soon")
            return
        if channel.full:
            refuse("the quota of this channel is reached")
            return
        try:
            period = self._calendar.parse(theirs.period)
            if self._clock_us() < period.start_us:
                refuse(f"{period.label} has not begun by the clock here")
                return
            self._check_turn(period, force=True)
            if self._is_early(period) and not self._agree_early:
                refuse(f"the grace time of {period.label} is not over")
                return
            sizes = theirs.sizes
            logs = (channel.provider_log, channel.consumer_log)
            if any(size > log.durable_size for size, log in zip(sizes, logs, strict=True)):
                refuse("it counts records that are not here")
                return
            if not self._may_close_at(sizes):
                refuse("its heads are not co-signed here, or leave out what was counted before")
                return
            if not self._same_keys(sizes):
                refuse("the two logs name other keys at these heads")
                return
            signature = self._peer_signature(theirs, message.signature)
            ours = self._compute(period, sizes)
        except ProofError as error:
            raise PeerBreach("bad-checkpoint", f"the peer's proposal: {error.message}") from None
        except (InputError, FormatError) as error:
            refuse(error.message)
            return
        if ours.checkpoint.text() == message.text:
            blob = self._sign(ours.checkpoint)
            await self._complete(ours, [signature, blob])
            send(SignCheckpoint(channel.id, digest, blob.blob))
            await self.append_close()
        elif ours.checkpoint.statement_root != theirs.statement_root:
            self._answering = (digest, ours.lines)
            self._send_page(digest, 0, send)
        elif ours.checkpoint.verdict != theirs.verdict:
            refuse(other_verdict(ours.verdict, message.verdict, theirs.verdict))
        else:
            refuse("the statement is the same, but the rest of the text is not")

    def _may_close_at(self, sizes: tuple[int, int]) -> bool:
        """Whether a checkpoint may name heads of these sizes: a bundle needs both co-signed, what
        was billed stays billed, and what the peer has co-signed of ours it may not leave out.
        """
        channel, last = self.channel, self.last
        with channel.store.read() as txn:
            heads = [
                log.head_row(txn, size)
                for log, size in zip(
                    (channel.provider_log, channel.consumer_log), sizes, strict=True
                )
            ]
        before = last.sizes if last else (0, 0)
        if sizes[channel.role == "consumer"] < self._counted:
            return False
        return all(head and head.signature and head.cosignature for head in heads) and all(
            size >= least for size, least in zip(sizes, before, strict=True)
        )

    def _peer_signature(self, checkpoint: Checkpoint, blob: bytes) -> Signature:
        """The peer's signature line, by its log key in force at the checkpoint's heads."""
        vkey = self._ring(checkpoint).log_vkeys(self.channel.peer.role)[0]
        signature = Signature(vkey.name, vkey.id, blob)
        verify_note_signature(Note(checkpoint.text(), (signature,)), vkey)
        return signature

    def _sign(self, checkpoint: Checkpoint) -> Signature:
        """Our signature, by our log key in force at the checkpoint's heads."""
        channel = self.channel
        signer = channel.log_signer(self._ring(checkpoint))
        return sign_checkpoint(checkpoint, channel.identity.name, signer)

    async def _signed(self, message: SignCheckpoint) -> None:
        proposal = self._proposal
        if proposal is None or message.digest != proposal.closing.checkpoint.digest():
            return  # an answer to a proposal that timed out; the Close in the peer's log tells us
        checkpoint = proposal.closing.checkpoint
        try:
            signature = self._peer_signature(checkpoint, message.signature)
        except ProofError as error:
            raise PeerBreach("bad-checkpoint", f"the peer's answer: {error.message}") from None
        await self._complete(proposal.closing, [self._sign(checkpoint), signature])
        proposal.answered.set()
        await self.append_close()

    async def catch_up(self) -> None:
        """Complete what the logs say was closed and is not closed here yet.

        A checkpoint's last message may have been lost, or a part of this home.
        """
        async with self._catching_up:
            for log in (self.channel.own, self.channel.peer):
                said = log.state.facts.checkpoint
                if said and all(row.digest != said for row in self.rows):
                    for _, record in log.closes():
                        await self._take_close(log, record)
            if self.channel.live:
                await self.append_close()

    async def _take_close(self, log: ChannelLog, record: Close) -> None:
        checkpoint = verify_checkpoint(record.checkpoint, log.keyring)
        await self._settled()
        follows = checkpoint.previous == (self.last.digest if self.last else b"")
        logs = (self.channel.provider_log, self.channel.consumer_log)
        sizes = checkpoint.sizes
        held = all(size <= log.durable_size for size, log in zip(sizes, logs, strict=True))
        if follows and held:
            ours = self._compute(self._calendar.parse(checkpoint.period), sizes)
            if ours.like(checkpoint).text() != checkpoint.text():
                raise PeerBreach("bad-checkpoint", "a period was closed on other numbers")
            await self._store(checkpoint, ours, record.checkpoint)

    async def _complete(self, closing: Closing, signatures: Sequence[Signature]) -> None:
        note = checkpoint_note(closing.checkpoint, signatures)
        self._signing += 1
        try:
            await self._store(closing.checkpoint, closing, note)
        finally:
            self._signing -= 1

    async def _store(self, checkpoint: Checkpoint, closing: Closing, note: bytes) -> None:
        """Keep the checkpoint, and note what it billed, in one transaction."""
        async with self._completing:
            if any(row.digest == checkpoint.digest() for row in self.rows):
                return
            if checkpoint.previous != (self.last.digest if self.last else b""):
                raise InputError(
                    f"another checkpoint was closed while {checkpoint.period} was", "Try again"
                )
            channel = self.channel
            row = CheckpointRow(
                checkpoint.period,
                checkpoint.end_us,
                note,
                checkpoint.digest(),
                *checkpoint.sizes,
                [encode_line(line) for line in closing.lines],
                encode_verdict(closing.verdict) if checkpoint.verdict else b"",
            )
            key = index_key(channel.row.number, len(self.rows))
            logs = (channel.provider_log, channel.consumer_log)

            def bill() -> tuple[Callable[[Txn], None], Callable[[], None]]:
                for log, head in zip(logs, checkpoint.heads, strict=True):
                    at = log.tallies_at(head.size)
                    for line_key, tally in at.items():
                        if line_key.charge_start_us < checkpoint.end_us:
                            here = log.book.tally(line_key)
                            here.billed, here.billed_deltas = tally.total, tally.deltas
                return keep, closed

            def keep(txn: Txn) -> None:
                txn.put("checkpoints", key, encode_row(row))

            def closed() -> None:
                self.rows.append(row)
                self.difference = ""
                channel.closed_bytes += checkpoint_bytes(row)
                channel.news.changed(channel.id)
                channel.news.closed(channel.id)

            await flush(logs, bill)

    async def append_close(self) -> None:
        """Say in our log which periods are closed, where it does not say so already."""
        while self._next_close() is not None:
            await self.channel.append_made(self._next_close)

    def _next_close(self) -> Close | None:
        """What our log says next of closed periods."""
        digests = [row.digest for row in self.rows]
        said = self.channel.own.state.facts.checkpoint
        if said and said not in digests:
            return None  # our log has it and this home lost it; `catch_up` completes it first
        rows = self.rows[digests.index(said) + 1 if said else 0 :]
        return Close(rows[0].note, self.channel.now_recorded_at()) if rows else None

    # Differences

    def _send_page(self, digest: bytes, offset: int, send: Send) -> None:
        answering, ours = self._answering
        if digest != answering:
            return
        lines = ours[offset : offset + PAGE_LINES]
        last = offset + len(lines) >= len(ours)
        page = [encode_line(line) for line in lines]
        send(StatementPage(self.channel.id, digest, offset, page, last))

    def _compare_page(self, message: StatementPage, send: Send) -> None:
        proposal = self._proposal
        if proposal is None or message.digest != proposal.closing.checkpoint.digest():
            return
        try:
            theirs = [decode_line(data) for data in message.lines]
        except FormatError as error:
            raise PeerBreach("malformed", f"the peer's statement: {error.message}") from None
        stop = None if message.last else message.offset + len(theirs)
        ours = list(proposal.closing.lines[message.offset : stop])
        mine, other = first_difference(ours, theirs)
        if mine is None and other is None and not message.last and theirs:
            send(WantPage(self.channel.id, message.digest, message.offset + len(theirs)))
            return
        a = encode_line(mine) if mine else b""
        b = encode_line(other) if other else b""
        send(Difference(self.channel.id, message.digest, a, b))
        self.difference = first_line(a, b, "we", "the peer")
        self._news.differs(message.digest, self.difference)
        self._fail(
            message.digest,
            DiffersError(
                f"the peer computed something else, and nothing was signed; {self.difference}",
                "Compare both records: tally derive on both sides, and tally doctor",
            ),
        )

    def part(self) -> None:
        """The link ended: an answer to our proposal will not come on it."""
        if self._proposal is not None:
            gone = PeerUnreachable(
                f"the connection to {self.channel.peer_keys.name} ended before it answered",
                "Try again; if it signed, its log says so when it is back",
            )
            self._fail(self._proposal.closing.checkpoint.digest(), gone)

    def _fail(self, digest: bytes, error: DiffersError | InputError | PeerUnreachable) -> None:
        proposal = self._proposal
        if proposal is not None and digest == proposal.closing.checkpoint.digest():
            proposal.error = error
            proposal.answered.set()
