"""What a channel's balance lines say of a span of time, each taken apart for `compare_sides`.

Closed periods count as they were signed, open ones as they are derived now. Of a late line, what
corrections made of it is told from what came late by the records: only the log has both.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.corrected import corrections
from tallystick.protocol.passthrough import Amount
from tallystick.protocol.periods import Period
from tallystick.protocol.quantities import parse_total
from tallystick.protocol.spans import Span, span_of
from tallystick.protocol.statement import Line, line_scales

_LateKey = tuple[str, str, str, str]  # the period that it counts in, and of; meter, subject


@dataclass(frozen=True, slots=True)
class Gathered:
    """One channel's side of a span. `open` are its periods in the span that may still change."""

    channel: Channel
    closer: Closer
    span: Span
    open: tuple[Period, ...]
    amounts: list[Amount]
    lines: list[Line]  # that count in the span

    @property
    def id(self) -> str:
        """The channel's id, in hex."""
        return self.channel.id.hex()

    @property
    def peer(self) -> str:
        """Who is on the other side."""
        return self.channel.peer_keys.name


def gather(channel: Channel, closer: Closer, label: str) -> Gathered:
    """What there is of a span in a channel, and what there is elsewhere of the usage in it."""
    span = span_of(channel.terms, label)
    calendar = channel.own.folder.calendar
    closed_until = closer.last.end_us if closer.last else None

    @cache
    def part_of(period: str) -> str:
        return span.calendar.period_of(calendar.parse(period).start_us).label

    lines = [
        (line, part_of(line.late_for or line.period), part_of(line.period) == span.label)
        for line in closer.all_lines()
    ]
    late = any(line.late_for for line, _, _ in lines)
    taker = _Taker(channel, _corrections(channel, closer) if late else {})
    return Gathered(
        channel,
        closer,
        span,
        tuple(p for p in span.periods if closed_until is None or p.start_us >= closed_until),
        [taker.amount(*one) for one in lines],
        [line for line, _, here in lines if here],
    )


class _Taker:
    """Takes the lines of a channel apart."""

    def __init__(self, channel: Channel, by_corrections: dict[_LateKey, int]) -> None:
        self._id = channel.id.hex()
        self._by_corrections = by_corrections
        self._scales = line_scales(channel.terms)
        self._payable = {meter.name: meter.payable for meter in channel.terms.meters}

    def amount(self, line: Line, of: str, here: bool) -> Amount:
        """A line taken apart; what it belongs to, and whether it counts here, is known."""
        scale = self._scales[line.meter]
        payable = parse_total(line.payable, scale)
        corrected = 0
        if line.late_for is not None:
            key = (line.period, line.late_for, line.meter, line.subject)
            corrected = self._by_corrections.get(key, 0)
        recorded = self._recorded(line, scale)
        disputed = 0 if recorded is None else payable - recorded
        parts = (payable - disputed - corrected, corrected, disputed)
        return Amount(self._id, line.meter, line.subject, of, here, *parts, line.deltas, scale)

    def _recorded(self, line: Line, scale: int) -> int | None:
        """What was recorded by the side whose number is payable, before disputes; None if that is
        the lower of both and the line is late, where one cannot tell.
        """
        by = {"provider": line.provider, "consumer": line.consumer}
        if self._payable[line.meter] != "minimum":
            text = by[self._payable[line.meter]]
            return None if text is None else parse_total(text, scale)
        if line.late_for is not None:
            return None
        return min(parse_total(text, scale) for text in by.values() if text is not None)


def _corrections(channel: Channel, closer: Closer) -> dict[_LateKey, int]:
    """What corrections of deltas that were billed before did to late lines."""
    found: dict[_LateKey, int] = {}
    meters = {meter.name: meter for meter in channel.terms.meters}
    labels = [row.period for row in closer.rows] + [_next_label(channel, closer)]
    for log in (channel.provider_log, channel.consumer_log):
        sizes = [row.size_of(log.role) for row in closer.rows]
        now: dict[tuple[str, str], int] = {}
        for index, record in corrections(log):
            meter = meters[record.meter]
            if meter.payable != log.role or meter.aggregate == "max":
                continue
            hit = log.find(record.meter, record.id)
            assert hit is not None, "a valid correction corrects a delta"
            at, delta = hit
            old = now.get((record.meter, record.id), delta.quantity)
            new = now[record.meter, record.id] = record.quantity or 0
            closing = bisect_right(sizes, index)  # the first one that has this record
            if not closing or at >= sizes[closing - 1]:
                continue
            if meter.aggregate == "count":
                change = -1 if record.quantity is None else 0
            else:
                change = new - old
            of = log.folder.calendar.period_of(delta.occurred_at).label
            key = (labels[closing], of, delta.meter, delta.subject)
            found[key] = found.get(key, 0) + change
    return found


def _next_label(channel: Channel, closer: Closer) -> str:
    """The period in which what comes late counts now."""
    calendar = channel.own.folder.calendar
    return calendar.period_of(closer.last.end_us).label if closer.last else ""
