"""Runs: events of two lists that only time can pair, because all else about them is equal.

A run is a stretch of such events with no gap wider than the window. It is paired one to one so
that as few events as possible are left over; in a short run, of all such ways, the one whose pairs
are closest in time. A long run is paired earliest first, which leaves over no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

CELLS_MAX = 4096  # a run with more combinations than this is a long one

Times = Sequence[int]
Places = list[tuple[int, int]]


def pair_run(ours_us: Times, theirs_us: Times, window_us: int) -> Places:
    """Pairs of indexes into both lists, each sorted by time, not further apart than the window."""
    if len(ours_us) * len(theirs_us) > CELLS_MAX:
        return list(_earliest_first(ours_us, theirs_us, window_us))
    return _closest(ours_us, theirs_us, window_us)


def _earliest_first(ours_us: Times, theirs_us: Times, window_us: int) -> Iterator[tuple[int, int]]:
    waiting = deque(enumerate(ours_us))
    for their_index, their_us in enumerate(theirs_us):
        while waiting and their_us - waiting[0][1] > window_us:
            waiting.popleft()
        if waiting and waiting[0][1] - their_us <= window_us:
            yield waiting.popleft()[0], their_index


def _closest(ours_us: Times, theirs_us: Times, window_us: int) -> Places:
    """Most pairs, then least time between them; pairs that cross never do better."""
    # best[i][j]: pairs, and minus their distance, among the first i of ours and j of theirs
    best = [[(0, 0)] * (len(theirs_us) + 1) for _ in range(len(ours_us) + 1)]
    for i, our_us in enumerate(ours_us, 1):
        for j, their_us in enumerate(theirs_us, 1):
            best[i][j] = max(best[i - 1][j], best[i][j - 1])
            distance_us = abs(our_us - their_us)
            if distance_us <= window_us:
                count, cost = best[i - 1][j - 1]
                best[i][j] = max(best[i][j], (count + 1, cost - distance_us))
    pairs: Places = []
    i, j = len(ours_us), len(theirs_us)
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
