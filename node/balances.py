"""The balances of a channel: closed periods as both signed them, and open ones as they are derived.

Lines, verdict and text are computed at any pair of heads of the two logs, from our own records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.node.quotas import checkpoint_bytes
from tallystick.node.store.keyspace import CheckpointRow, log_key
from tallystick.node.verdicts import verdict_on
from tallystick.protocol.checkpoint import Checkpoint, LogHead, build_checkpoint, like_signed
from tallystick.protocol.derive import Adjustments, Deriver, Sides, period_lines
from tallystick.protocol.disputes import adjustments_at, disputed_lines
from tallystick.protocol.moves import moves_until, unbilled
from tallystick.protocol.periods import Period
from tallystick.protocol.statement import Line, decode_line
from tallystick.protocol.verdict import Verdict, verdict_digest

_decode = msgspec.msgpack.Decoder(CheckpointRow).decode


@dataclass(frozen=True, slots=True)
class Closing:
    """What a period is closed with: the checkpoint that is signed, and what it is of."""

    checkpoint: Checkpoint
    lines: Sequence[Line]
    verdict: Verdict

    def like(self, signed: Checkpoint) -> Checkpoint:
        """Our checkpoint as it would have been made when `signed` was."""
        return like_signed(self.checkpoint, signed)


class Balances:
    """What a channel's periods come to."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._calendar = channel.own.folder.calendar
        self.load()

    def load(self) -> None:
        """Bring memory to what is on disk."""
        number = self.channel.row.number
        with self.channel.store.read() as txn:
            scan = txn.scan("checkpoints", log_key(number), log_key(number + 1))
            self.rows = [_decode(value) for _, value in scan]
        self.channel.closed_bytes = sum(map(checkpoint_bytes, self.rows))
        self.channel.late_lines.follow(self.rows)

    @cached_property
    def _deriver(self) -> Deriver:
        return Deriver(self.channel.terms, self.channel.own.folder)

    @property
    def last(self) -> CheckpointRow | None:
        """The newest checkpoint."""
        return self.rows[-1] if self.rows else None

    def row_of(self, period: Period) -> CheckpointRow | None:
        """The checkpoint that closed a period."""
        return next((row for row in self.rows if row.period == period.label), None)

    def next_head(self, log: ChannelLog, start: int) -> int:
        """Where a batch from index `start` should end at the latest: at a head that a checkpoint
        names, so that it is signed and co-signed by itself; else at the log's end.
        """
        sizes = (row.size_of(log.role) for row in self.rows)
        return min((size for size in sizes if size > start), default=log.durable_size)

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
        billed = last.sizes if last else (0, 0)
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
