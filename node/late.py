"""When the disputed lines of a channel moved, out of its checkpoints and its balances.

The late lines of a checkpoint are by how much totals differed from what had been billed before.
They are decoded once, and not before a line is disputed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache, cached_property

from tallystick.node.store.keyspace import CheckpointRow
from tallystick.protocol.derive import LineKey
from tallystick.protocol.moves import Move, find_moves
from tallystick.protocol.periods import Calendar, Period
from tallystick.protocol.quantities import parse_total
from tallystick.protocol.records import Terms
from tallystick.protocol.statement import Line, decode_line, line_scales


class LateLines:
    """The moves of a channel's lines at its closings."""

    def __init__(self, terms: Terms, calendar: Calendar) -> None:
        self._terms, self._calendar = terms, calendar
        self.follow([])

    @cached_property
    def _scales(self) -> Mapping[str, int]:
        return line_scales(self._terms)

    @cached_property
    def _period(self) -> Callable[[str], Period]:
        return cache(self._calendar.parse)  # many lines are late for few periods

    def follow(self, rows: Sequence[CheckpointRow]) -> None:
        """Go by these checkpoints, all of the channel's in order, and by what is put behind."""
        self._rows = rows
        self._read = 0
        self._moves: dict[LineKey, list[Move]] = {}

    def moves(
        self, lines: Set[LineKey], now: tuple[Mapping[LineKey, int], Mapping[LineKey, int]]
    ) -> dict[LineKey, list[Move]]:
        """The moves of some lines; `now` is what of both logs' totals of them is not billed."""
        if not lines:
            return {}
        for closing in range(self._read, len(self._rows)):
            for data in self._rows[closing].lines:
                self._take(closing, decode_line(data))
            self._read = closing + 1
        found = {line: list(self._moves.get(line, ())) for line in lines}
        for line, (move,) in find_moves([now]).items():
            found[line].append(move._replace(closing=self._read))
        return found

    def _take(self, closing: int, line: Line) -> None:
        if line.late_for is None:
            return
        provider, consumer = (
            0 if text is None else parse_total(text, self._scales[line.meter])
            for text in (line.provider, line.consumer)
        )
        if provider or consumer:
            key = LineKey(self._period(line.late_for).start_us, line.meter, line.subject)
            self._moves.setdefault(key, []).append(Move(closing, provider, consumer))
