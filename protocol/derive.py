"""Derive: from the records of both logs to balance lines, in integers only.

A `Book` holds one log's running aggregates, one `Tally` for each (charge period, meter, subject),
and is told only of changes, so that asking costs the lines and not the deltas. When a period is
closed, what its lines held then is noted as *billed* and never changes; whatever arrives later for
it shows up as total minus billed, in the first open period, as a line marked late. That is FOCUS'
rule of corrections in the next billing period, and it serves late deltas and corrections alike.

What disputes do to a line comes as an `Adjustment`; where disputes stand is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tallystick.protocol.periods import Calendar
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Delta, Record, Terms
from tallystick.protocol.statement import Line, meter_units


class LineKey(NamedTuple):
    """What an aggregate is of: the charge period's start (µs), the meter, the subject."""

    charge_start_us: int
    meter: str
    subject: str


@dataclass(slots=True)
class Tally:
    """One log's aggregate of one line, and how much of it closed periods have billed."""

    total: int = 0
    deltas: int = 0
    billed: int = 0
    billed_deltas: int = 0

    def settle(self) -> None:
        """Note what is there now as billed."""
        self.billed, self.billed_deltas = self.total, self.deltas

    @property
    def settled(self) -> bool:
        """Whether nothing came since it was billed."""
        return self.total == self.billed and self.deltas == self.billed_deltas


class Change(NamedTuple):
    """What records add to one line: to its total (for `max`: the highest quantity) and count."""

    quantity: int
    deltas: int


Changes = dict[LineKey, Change]


class Folder:
    """The terms laid out to fold deltas into changes."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.calendar = Calendar(terms.calendar, terms.time_zone)
        self.aggregates = {meter.name: meter.aggregate for meter in terms.meters}

    def fold(self, records: Iterable[Record]) -> Changes:
        """The changes that these records' deltas make; other kinds make none here."""
        sums: dict[tuple[int, str, str], list[int]] = {}
        aggregates = self.aggregates
        start = end = 0
        for record in records:
            if type(record) is not Delta:
                continue
            instant = record.occurred_at
            if not start <= instant < end:
                period = self.calendar.period_of(instant)
                start, end = period.start_us, period.end_us
            key = (start, record.meter, record.subject)
            entry = sums.get(key)
            aggregate = aggregates[record.meter]
            amount = 1 if aggregate == "count" else record.quantity
            if entry is None:
                sums[key] = [amount, 1]
                continue
            entry[1] += 1
            if aggregate != "max":
                entry[0] += amount
            elif amount > entry[0]:
                entry[0] = amount
        return {LineKey(*key): Change(*entry) for key, entry in sums.items()}

    def key_of(self, delta: Delta) -> LineKey:
        """The line that a delta belongs to."""
        start = self.calendar.period_of(delta.occurred_at).start_us
        return LineKey(start, delta.meter, delta.subject)


class Book:
    """One log's tallies. `load` fetches a tally that is not in memory; `dirty` holds the rest."""

    def __init__(self, folder: Folder, load: Callable[[LineKey], Tally | None]) -> None:
        self._aggregates = folder.aggregates
        self._load = load
        self.dirty: dict[LineKey, Tally] = {}

    def tally(self, key: LineKey) -> Tally:
        """The line's tally, to be changed in place."""
        found = self.dirty.get(key)
        if found is None:
            found = self.dirty[key] = self._load(key) or Tally()
        return found

    def apply(self, changes: Mapping[LineKey, Change]) -> None:
        """Add what new records change."""
        for key, change in changes.items():
            tally = self.tally(key)
            if self._aggregates[key.meter] != "max":
                tally.total += change.quantity
            elif not tally.deltas or change.quantity > tally.total:
                tally.total = change.quantity
            tally.deltas += change.deltas

    def correct(
        self, key: LineKey, old: int, new: int | None, highest: Callable[[], tuple[int, int]]
    ) -> None:
        """Replace a delta's quantity, or void it (None).

        `highest` finds a `max` line's highest quantity and count anew, correction included; it is
        asked only if the highest one became less.
        """
        tally = self.tally(key)
        match self._aggregates[key.meter]:
            case "sum":
                tally.total += (new or 0) - old
                tally.deltas -= new is None
            case "count":
                tally.total -= new is None
                tally.deltas -= new is None
            case _ if old < tally.total and new is None:
                tally.deltas -= 1
            case _ if new is not None and (old < tally.total or new >= old):
                tally.total = max(tally.total, new)
            case _:
                tally.total, tally.deltas = highest()


class Adjustment(NamedTuple):
    """What disputes do to one line: `upheld` is off its payable for good, `withheld` as long as it
    is disputed; `claimed` is what a party says is payable beyond what was counted.
    """

    upheld: int
    withheld: int
    claimed: int


NO_ADJUSTMENT = Adjustment(0, 0, 0)
Adjustments = Mapping[LineKey, Adjustment]
NO_ADJUSTMENTS: Adjustments = {}


def apply_disputes(counted: int, by: Adjustment) -> tuple[int, int]:
    """What is payable and what is disputed of what was counted.

    Nothing is taken off but what was counted: what is upheld first, then what is withheld.
    """
    payable = counted - min(by.upheld, max(counted, 0))
    withheld = min(by.withheld, max(payable, 0))
    return payable - withheld, withheld + by.claimed


@dataclass(frozen=True, slots=True)
class _Side:
    """One log's total and count of deltas on a line."""

    total: int = 0
    deltas: int = 0

    def __sub__(self, other: _Side) -> _Side:
        return _Side(self.total - other.total, self.deltas - other.deltas)


_NOTHING = _Side()
Sides = Mapping[LineKey, Tally]


def _now(tally: Tally | None) -> _Side:
    return _NOTHING if tally is None else _Side(tally.total, tally.deltas)


def _billed(tally: Tally | None) -> _Side:
    return _NOTHING if tally is None else _Side(tally.billed, tally.billed_deltas)


class Deriver:
    """Builds balance lines out of the tallies of both logs."""

    def __init__(self, terms: Terms, folder: Folder) -> None:
        self._calendar = folder.calendar
        self._meters = {meter.name: meter for meter in terms.meters}
        self._units = meter_units(terms)

    def lines(
        self,
        provider: Sides,
        consumer: Sides,
        closed_until_us: int | None,
        disputed: Adjustments = NO_ADJUSTMENTS,
        disputed_then: Adjustments = NO_ADJUSTMENTS,
    ) -> list[Line]:
        """All lines of open periods, sorted; what closed periods got since is marked late.

        `closed_until_us` is the end of the newest closed period, None before the first.
        `disputed` is what disputes do to lines now, `disputed_then` what they did at the newest
        checkpoint's heads.
        """
        lines = []
        for key in {**provider, **consumer, **disputed, **disputed_then}:
            late = closed_until_us is not None and key.charge_start_us < closed_until_us
            now = _now(provider.get(key)), _now(consumer.get(key))
            then = (_NOTHING, _NOTHING)
            if late:
                then = _billed(provider.get(key)), _billed(consumer.get(key))
            payable, open_ = self._payable(key, now, disputed)
            if late:
                payable -= self._payable(key, then, disputed_then)[0]
            sides = now[0] - then[0], now[1] - then[1]
            if sides != (_NOTHING, _NOTHING) or payable.total or open_:
                after_us = closed_until_us if late else None
                lines.append(self._line(key, after_us, sides, payable, open_))
        lines.sort(key=lambda line: line.sort_key)
        return lines

    def _payable(
        self, key: LineKey, sides: tuple[_Side, _Side], disputed: Adjustments
    ) -> tuple[_Side, int]:
        """What is payable of both sides' totals, after disputes; and what is disputed of it."""
        provider, consumer = sides
        match self._meters[key.meter].payable:
            case "provider":
                counted = provider
            case "consumer":
                counted = consumer
            case _:
                counted = min(provider, consumer, key=lambda side: side.total)
        by = disputed.get(key)
        if by is None:
            return counted, 0
        payable, open_ = apply_disputes(counted.total, by)
        return _Side(payable, counted.deltas), open_

    def _line(
        self,
        key: LineKey,
        late_after_us: int | None,
        sides: tuple[_Side, _Side],
        payable: _Side,
        disputed: int,
    ) -> Line:
        meter = self._meters[key.meter]
        charge = self._calendar.period_of(key.charge_start_us).label
        late = late_after_us is not None
        provider, consumer = sides
        pending = abs(provider.total - consumer.total) if meter.source == "both" else 0
        scale = 0 if meter.aggregate == "count" else meter.scale
        return Line(
            charge if late_after_us is None else self._calendar.period_of(late_after_us).label,
            charge if late else None,
            meter.name,
            key.subject,
            self._units[meter.name],
            format_quantity(provider.total, scale) if meter.source != "consumer" else None,
            format_quantity(consumer.total, scale) if meter.source != "provider" else None,
            format_quantity(payable.total, scale),
            format_quantity(disputed, scale),
            format_quantity(pending, scale),
            max(payable.deltas, 0),
        )


def period_lines(lines: Sequence[Line], label: str) -> list[Line]:
    """The lines that count in one period."""
    return [line for line in lines if line.period == label]
