"""When the totals of a line changed: whoever adds to an accepted line opens it again.

At each closing a line has what was billed of it before, and what both logs' totals are by then;
where they differ, it *moved*. The acceptance of an older checkpoint says nothing about what came
later, so what bars a dispute of a line is the newest closing at which it moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from tallystick.protocol.derive import LineKey, Sides


class Move(NamedTuple):
    """By how much the totals of a line in both logs differ from what was billed of it before.

    `closing` is the place of the checkpoint at which they did, from 0 on; for what came after the
    newest of n checkpoints it is n. A move before the line's charge period is closed says nothing.
    """

    closing: int
    provider: int
    consumer: int


Moves = Mapping[LineKey, Sequence[Move]]  # a line's are in the order of the closings
NEVER = -1


def unbilled(lines: Set[LineKey], side: Sides) -> dict[LineKey, int]:
    """By how much one log's totals of some lines differ from what is billed, where they do."""
    found = {line: side[line].total - side[line].billed for line in lines & side.keys()}
    return {line: quantity for line, quantity in found.items() if quantity}


def find_moves(
    closings: Iterable[tuple[Mapping[LineKey, int], Mapping[LineKey, int]]],
) -> dict[LineKey, list[Move]]:
    """The moves of lines, from what of both logs was not billed just before each closing did, in
    order, and from what is not billed now, as the last one.
    """
    found: dict[LineKey, list[Move]] = {}
    for closing, (provider, consumer) in enumerate(closings):
        for line in provider.keys() | consumer.keys():
            move = Move(closing, provider.get(line, 0), consumer.get(line, 0))
            found.setdefault(line, []).append(move)
    return found


def moves_until(moves: Moves, closing: int) -> Moves:
    """The moves as they were at the heads of a checkpoint: at that closing and those before it."""
    return {
        line: [move for move in found if move.closing <= closing] for line, found in moves.items()
    }


def last_moved(moves: Sequence[Move], closings: int) -> int | None:
    """The newest of the first `closings` closings at which a line moved, `NEVER` if none; None if
    it is not now what it was then: what later closings billed may have been taken back since.
    """
    later = [move for move in moves if move.closing >= closings]
    if sum(move.provider for move in later) or sum(move.consumer for move in later):
        return None
    return max((move.closing for move in moves if move.closing < closings), default=NEVER)
