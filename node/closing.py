"""Closing a period: propose, recompute, sign on both sides, or name the first line that differs.

A `Closer` belongs to one channel. It keeps the checkpoints that both signed, derives the statement
at any pair of heads, and answers the peer's messages about checkpoints. What is signed is computed
here from our own records; the peer's text is only compared with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import trio

from tallystick.node.channel import Channel
from tallystick.node.closing_news import ClosingNews
from tallystick.node.differing import first_line, other_verdict
from tallystick.node.errors import PeerUnreachable
from tallystick.node.logs import ChannelLog
from tallystick.node.quotas import checkpoint_bytes
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import CheckpointRow, encode_row, index_key, log_key
from tallystick.node.upkeep import flush
from tallystick.node.verdicts import verdict_on
from tallystick.protocol.checkpoint import (
    Checkpoint,
    LogHead,
    build_checkpoint,
    checkpoint_note,
    like_signed,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from tallystick.protocol.derive import Adjustments, Deriver, Sides, period_lines
from tallystick.protocol.disputes import adjustments_at, disputed_lines
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
from tallystick.protocol.moves import moves_until, unbilled
from tallystick.protocol.notes import Note, Signature, verify_note_signature
from tallystick.protocol.periods import Period
from tallystick.protocol.records import ROLES, Close
from tallystick.protocol.statement import (
    Line,
    decode_line,
    encode_line,
    first_difference,
)
from tallystick.protocol.verdict import Verdict, encode_verdict, verdict_digest

ANSWER_SECONDS = 60
POLL_SECONDS = 0.05
_log = logging.getLogger("tallystick.closing")
_decode = msgspec.msgpack.Decoder(CheckpointRow).decode

Send = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class Closing:
    """What a period is closed with: the checkpoint that is signed, and what it is of."""

    checkpoint: Checkpoint
    lines: Sequence[Line]
    verdict: Verdict

    def like(self, signed: Checkpoint) -> Checkpoint:
        """Our checkpoint as it would have been made when `signed` was."""
        return like_signed(self.checkpoint, signed)


@dataclass(slots=True)
class _Proposal:
    """Our proposal while the peer looks at it."""

    closing: Closing
    answered: trio.Event
    error: DiffersError | InputError | PeerUnreachable | None = None


class Closer:
    """The closing of a channel's periods."""

    def __init__(self, channel: Channel, *, agree_early: bool, clock_us: Callable[[], int]) -> None:
        self.channel = channel
        self._agree_early = agree_early
        self._clock_us = clock_us
        self._deriver = Deriver(channel.terms, channel.own.folder)
        self._calendar = channel.own.folder.calendar
        self._proposal: _Proposal | None = None
        # Our lines, while we page them to the proposer, and the digest of what it proposed.
        self._answering: tuple[bytes, Sequence[Line]] = (b"", [])
        self._counted = 0  # what the peer had co-signed of our log before its last proposal
        self._completing = trio.Lock()
        self._signing = 0  # checkpoints that both signed and that are not kept yet
        self._catching_up = trio.Lock()
        self._news = ClosingNews(channel)
        self.difference: str = ""  # the first differing line of the last failed proposal
        self.load()

    def load(self) -> None:
        """Bring memory to what is on disk."""
        number = self.channel.row.number
        with self.channel.store.read() as txn:
            scan = txn.scan("checkpoints", log_key(number), log_key(number + 1))
            self.rows = [_decode(value) for _, value in scan]
        self.channel.closed_bytes = sum(map(checkpoint_bytes, self.rows))
        self.channel.late_lines.follow(self.rows)

    @property
    def last(self) -> CheckpointRow | None:
        """The newest checkpoint."""
        return self.rows[-1] if self.rows else None

    def row_of(self, period: Period) -> CheckpointRow | None:
        """The checkpoint that closed a period."""
        return next((row for row in self.rows if row.period == period.label), None)

    # Derive

    def open_lines(self, sizes: tuple[int, int] | None = None) -> list[Line]:
        """Lines of open periods, at the durable heads or at earlier (provider's, consumer's)."""
        provider, consumer = self.channel.provider_log, self.channel.consumer_log
        if sizes is None:
            sides = provider.tallies(), consumer.tallies()
            sizes = provider.durable_size, consumer.durable_size
        else:
            sides = provider.tallies_at(sizes[0]), consumer.tallies_at(sizes[1])
        now, then = self._disputed(sizes, sides)
        return self._deriver.lines(*sides, self.last.end_us if self.last else None, now, then)

    def _disputed(
        self, sizes: tuple[int, int], sides: tuple[Sides, Sides]
    ) -> tuple[Adjustments, Adjustments]:
        """What disputes do to balance lines at these sizes, at which the tallies are `sides`, and
        what they did at the newest checkpoint's heads.
        """
        channel, last = self.channel, self.last
        billed = (last.provider_size, last.consumer_size) if last else (0, 0)
        provider = channel.provider_log.matters(max(sizes[0], billed[0]))
        consumer = channel.consumer_log.matters(max(sizes[1], billed[1]))
        lines = disputed_lines(self._calendar, provider + consumer)
        moves = channel.late_lines.moves(
            lines, (unbilled(lines, sides[0]), unbilled(lines, sides[1]))
        )
        before = moves_until(moves, len(self.rows) - 1)
        now, then = (
            adjustments_at(channel.terms, self._calendar, (provider, consumer), at, moved)
            for at, moved in ((sizes, moves), (billed, before))
        )
        return now, then

    def all_lines(self) -> list[Line]:
        """Every line: closed periods' as they were signed, then those of open periods."""
        closed = [decode_line(data) for row in self.rows for data in row.lines]
        return sorted(closed + self.open_lines(), key=lambda line: line.sort_key)

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

    def _compute(self, period: Period, sizes: tuple[int, int]) -> Closing:
        channel = self.channel
        lines = period_lines(self.open_lines(sizes), period.label)
        verdict = verdict_on(channel, period.label, lines, sizes)
        heads = (
            self._head(channel.provider_log, sizes[0]),
            self._head(channel.consumer_log, sizes[1]),
        )
        previous = self.last.digest if self.last else b""
        checkpoint = build_checkpoint(
            channel.terms, channel.id, period, previous, heads, lines, verdict_digest(verdict)
        )
        return Closing(checkpoint, lines, verdict)

    def drafted(self, period: Period) -> Checkpoint:
        """The checkpoint of a period as it would be now, at the co-signed heads."""
        sizes = self.channel.provider_log.cosigned_size, self.channel.consumer_log.cosigned_size
        return self._compute(period, sizes).checkpoint

    def _head(self, log: ChannelLog, size: int) -> LogHead:
        return LogHead(log.party.name, size, log.root_at(size))

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
        self._news.proposed(theirs, ours=False)
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
            sizes = (theirs.heads[0].size, theirs.heads[1].size)
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
        before = (last.provider_size, last.consumer_size) if last else (0, 0)
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
        sizes = (checkpoint.heads[0].size, checkpoint.heads[1].size)
        held = all(size <= log.durable_size for size, log in zip(sizes, logs, strict=True))
        if follows and held:
            ours = self._compute(self._calendar.parse(checkpoint.period), sizes)
            if ours.like(checkpoint).text() != checkpoint.text():
                raise PeerBreach("bad-checkpoint", "a period was closed on other numbers")
            await self._store(checkpoint, ours, record.checkpoint)

    def next_head(self, log: ChannelLog, start: int) -> int:
        """Where a batch from index `start` should end at the latest: at a head that a checkpoint
        names, so that it is signed and co-signed by itself; else at the log's end.
        """
        sizes = (
            row.provider_size if log.role == "provider" else row.consumer_size for row in self.rows
        )
        return min((size for size in sizes if size > start), default=log.durable_size)

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
                checkpoint.heads[0].size,
                checkpoint.heads[1].size,
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
