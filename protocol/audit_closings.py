"""Audit of closed periods: each is signed, follows the one before, and is what the records give.

Where a bundle proves one period from the records up to it, an audit has all records at hand and
all periods with them: one walk through both logs gives what each closing found open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tallystick.protocol.checkpoint import (
    Checkpoint,
    meter_totals,
    parse_checkpoint,
    verify_closing,
)
from tallystick.protocol.declarations import declared, sides_of
from tallystick.protocol.derive import (
    Adjustments,
    Deriver,
    Folder,
    LineKey,
    Sides,
    Tally,
    period_lines,
)
from tallystick.protocol.disputes import adjustments_at, disputed_lines
from tallystick.protocol.errors import ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.moves import Moves, moves_until
from tallystick.protocol.notes import parse_note
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import Terms, encode_record
from tallystick.protocol.replay import AtStop, LogSummary, Stops, Tallies, Walk, find_sides
from tallystick.protocol.statement import (
    Line,
    decode_line,
    encode_line,
    raise_difference,
    statement_root,
)
from tallystick.protocol.verdict import encode_verdict, make_verdict, verdict_digest


@dataclass(frozen=True, slots=True)
class KeptClosing:
    """A closed period as it is kept: the note that both signed, the statement's lines and the
    verdict, each in its canonical bytes; `keys` are rotations that are in none of the records that
    are kept, as a bundle has them. Verdict and keys may be empty.
    """

    note: bytes
    lines: Sequence[bytes]
    verdict: bytes
    keys: bytes = b""

    def checkpoint(self) -> Checkpoint:
        """The checkpoint in it, whoever signed."""
        return parse_checkpoint(parse_note(self.note).text)


def check_kept(
    terms: Terms, ring: Keyring, kept: KeptClosing, before: Checkpoint | None
) -> Checkpoint:
    """The checkpoint of a closed period, which both signed by the keys in force at its heads and
    which follows `before`; its lines are those that were signed. `ProofError` if not so.
    """
    signed = verify_closing(kept.note, ring)
    period = Calendar(terms.calendar, terms.time_zone).parse(signed.period)
    if signed.terms_digest != hashlib.sha256(encode_record(terms)).digest():
        raise ProofError("it was signed under other terms")
    stated = (signed.time_zone, signed.start_us, signed.end_us)
    if stated != (terms.time_zone, period.start_us, period.end_us):
        raise ProofError(f"it does not begin and end in {terms.time_zone} as it says")
    if signed.previous != (b"" if before is None else before.digest()):
        said = "the first" if before is None else f"{before.period}, {before.digest().hex()}"
        raise ProofError(f"it says that it follows {signed.previous.hex() or 'none'}, not {said}")
    if before is not None and signed.start_us < before.end_us:
        raise ProofError(f"it was closed before, with {before.period}")
    lines = [decode_line(data) for data in kept.lines]
    if len(lines) != signed.lines or statement_root(lines) != signed.statement_root:
        raise ProofError(
            f"the {len(lines)} lines that are kept do not have the statement's root that both"
            f" signed over {signed.lines} lines"
        )
    if meter_totals(terms, lines) != signed.totals:
        raise ProofError("the lines do not add up to the totals that both signed")
    return signed


class Closings:
    """What the records of both logs give at each of some checkpoints, and what they leave open.

    The logs are valid up to `sizes` and have been examined; `walk` goes through one of them.
    """

    def __init__(
        self,
        terms: Terms,
        closes: Sequence[Checkpoint],
        found: tuple[LogSummary, LogSummary],
        walk: Walk,
    ) -> None:
        self._terms, self._closes, self._found = terms, closes, found
        self._folder = Folder(terms)
        self._deriver = Deriver(terms, self._folder)
        self._open: tuple[list[Sides], list[Sides]] = ([], [])
        self._matters = (found[0].matters, found[1].matters)
        disputed = {
            line for half in self._matters for line in disputed_lines(self._folder.calendar, half)
        }

        def keeping(side: int, stops: Stops, at_stop: AtStop) -> Tallies:
            def note(tallies: Mapping[LineKey, Tally]) -> None:
                end_us = stops[len(self._open[side])][1]
                self._open[side].append(
                    {
                        key: Tally(t.total, t.deltas, t.billed, t.billed_deltas)
                        for key, t in tallies.items()
                        if key.charge_start_us < end_us and (not t.settled or key in disputed)
                    }
                )
                at_stop(tallies)

            return walk(side, stops, note)

        self.sides: tuple[Sides, Sides]
        self.moves: Moves
        self.sides, self.moves = find_sides(self._folder, closes, found, keeping)

    def lines(self, place: int) -> list[Line]:
        """The statement of the checkpoint at a place; `ProofError` if the records leave a line
        open in a period before it.
        """
        close = self._closes[place]
        before = self._closes[place - 1] if place else None
        lines = self._deriver.lines(
            self._open[0][place],
            self._open[1][place],
            None if before is None else before.end_us,
            self._disputed(place),
            self._disputed(place - 1) if place else {},
        )
        for line in lines:
            if self._folder.calendar.parse(line.period).end_us <= close.start_us:
                raise ProofError(
                    f"the records give a line of {line.meter} in {line.period}, which was never"
                    " closed"
                )
        return period_lines(lines, close.period)

    def _disputed(self, place: int) -> Adjustments:
        return adjustments_at(
            self._terms,
            self._folder.calendar,
            self._matters,
            self._closes[place].sizes,
            moves_until(self.moves, place),
        )

    def check(self, place: int, kept: KeptClosing) -> None:
        """`ProofError` unless a closed period is what the records give, verdict included."""
        close, lines = self._closes[place], self.lines(place)
        if [encode_line(line) for line in lines] != list(kept.lines):
            raise_difference(lines, [decode_line(data) for data in kept.lines])
        if not close.verdict:
            return
        said = [
            [one for one in half if one[0] < head.size]
            for half, head in zip(self._matters, close.heads, strict=True)
        ]
        provider, consumer = declared(*sides_of(self._terms, close.period, said[0], said[1]))
        verdict = make_verdict(self._terms, close.period, lines, provider.totals, consumer.totals)
        if verdict_digest(verdict) != close.verdict:
            raise ProofError("the records give another verdict than the one that both signed")
        if encode_verdict(verdict) != kept.verdict:
            raise ProofError("the verdict that is kept is not the one that both signed")
