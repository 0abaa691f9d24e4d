"""Runs: events of two lists that only time can pair, because all else about them is equal.

A run is paired one to one so that as few events as possible are left over; in a short run, of all
such ways, the one whose pairs are closest in time. A long run is paired earliest first, which
leaves over no more. A pair is likely if no way that is as good leaves one of its two events over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

CELLS_MAX = 4096  # a run with more combinations than this is a long one
AS_GOOD = 10  # ways whose distances in all differ by less than the window over this are as good

Times = Sequence[int]
Ways = list[tuple[int, int, bool]]


def pair_run(ours_us: Times, theirs_us: Times, window_us: int) -> Ways:
    """Pairs of indexes into both lists, each sorted by time, not further apart than the window, and
    whether each is likely.
    """
    if len(ours_us) * len(theirs_us) <= CELLS_MAX:
        return _closest(ours_us, theirs_us, window_us)
    pairs = list(_earliest_first(ours_us, theirs_us, window_us))
    likely = len(pairs) == len(ours_us) == len(theirs_us)
    return [(i, j, likely) for i, j in pairs]


def _earliest_first(ours_us: Times, theirs_us: Times, window_us: int) -> Iterator[tuple[int, int]]:
    waiting = deque(enumerate(ours_us))
    for their_index, their_us in enumerate(theirs_us):
        while waiting and their_us - waiting[0][1] > window_us:
            waiting.popleft()
        if waiting and waiting[0][1] - their_us <= window_us:
            yield waiting.popleft()[0], their_index


def _closest(ours_us: Times, theirs_us: Times, window_us: int) -> Ways:
    """Most pairs, then least time between them; pairs that cross never do better."""
    pair = (window_us + 1) * (min(len(ours_us), len(theirs_us)) + 1)  # more than any distance
    before = _best(ours_us, theirs_us, window_us, pair)
    after = _best(_mirrored(ours_us), _mirrored(theirs_us), window_us, pair)
    after = [row[::-1] for row in after[::-1]]  # [i][j]: the best from the i-th and j-th on
    good = before[-1][-1] - window_us // AS_GOOD
    spared_ours = [
        max(b + a for b, a in zip(before[i], after[i + 1], strict=True)) >= good
        for i in range(len(ours_us))
    ]
    spared_theirs = [
        max(b[j] + a[j + 1] for b, a in zip(before, after, strict=True)) >= good
        for j in range(len(theirs_us))
    ]
    return [(i, j, not (spared_ours[i] or spared_theirs[j])) for i, j in _path(before)]


def _mirrored(times_us: Times) -> Times:
    return [-at for at in reversed(times_us)]


def _best(ours_us: Times, theirs_us: Times, window_us: int, pair: int) -> list[list[int]]:
    """[i][j]: how good the best way for the first i of ours and j of theirs is."""
    rows = [[0] * (len(theirs_us) + 1)]
    for our_us in ours_us:
        above = rows[-1]
        row = [0]
        for j, their_us in enumerate(theirs_us, 1):
            value = max(above[j], row[-1])
            distance_us = abs(our_us - their_us)
            if distance_us <= window_us:
                value = max(value, above[j - 1] + pair - distance_us)
            row.append(value)
        rows.append(row)
    return rows


def _path(best: list[list[int]]) -> list[tuple[int, int]]:
    """The pairs of the best way, read from its end."""
    pairs: list[tuple[int, int]] = []
    i, j = len(best) - 1, len(best[0]) - 1
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    pairs.reverse()
    return pairs
