"""How it goes with one witness: which logs wait to be shown to it, and when it is asked again.

A log waits once, however often it grew. While the witness cannot be reached everything waits for
one attempt; what it refuses of one log holds up no other.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random

import trio

from tallystick.node.witnessing.asked import Asked

RETRY_SECONDS_MAX = 300.0
REFUSED_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Which:
    """A log: our own or the peer's of a channel."""

    channel: bytes
    ours: bool


@dataclass(slots=True)
class Standing:
    """What is known of the witness since the node started. Times are POSIX seconds."""

    answered_s: float = 0.0
    failing: str = ""  # why it cannot be reached now
    refused: dict[Which, str] = field(default_factory=dict)  # what it says to a log, if not a line
    counts: Counter[str] = field(default_factory=Counter)  # of answers: cosigned, behind, …


class Contact:
    """The queue of one witness."""

    def __init__(self, asked: Asked, every_seconds: float, dice: Random) -> None:
        self.asked = asked
        self.standing = Standing()
        self.probed_at = -math.inf  # when it was last asked what it must refuse
        self._every = every_seconds
        self._dice = dice
        self._due: dict[Which, float] = {}
        self._heap: list[tuple[float, int, Which]] = []
        self._numbers = count()
        self._busy: dict[Which, float] = {}  # under way, and when to go on with it
        self._asked_at: dict[Which, float] = {}
        self._failures = 0
        self._refusals: Counter[Which] = Counter()
        self._open_at = 0.0
        self._wake = trio.Event()

    @property
    def waiting(self) -> int:
        """How many logs wait to be shown to it."""
        return len(self._due) + len(self._busy)

    def want(self, which: Which, now: float, *, at_once: bool = False) -> None:
        """A log has something new; `at_once` for what somebody waits for."""
        due = now if at_once else max(now, self._asked_at.get(which, -math.inf) + self._every)
        if which in self._busy:
            self._busy[which] = min(self._busy[which], due)
            return
        if which in self._refusals and not at_once:
            return  # it is tried again by itself
        if at_once:
            self._open_at = min(self._open_at, now)
        self._queue(which, due)

    def _queue(self, which: Which, due: float) -> None:
        if due < self._due.get(which, math.inf):
            self._due[which] = due
            heapq.heappush(self._heap, (due, next(self._numbers), which))
            self._wake.set()

    async def take(self) -> Which:
        """The next log whose turn it is; `done` or `failed` must follow."""
        while True:
            now = trio.current_time()
            while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
                heapq.heappop(self._heap)  # it was asked for sooner, or is under way
            if self._heap and max(self._heap[0][0], self._open_at) <= now:
                which = heapq.heappop(self._heap)[2]
                del self._due[which]
                self._busy[which] = math.inf
                self._asked_at[which] = now
                if self._failures:
                    self._open_at = now + RETRY_SECONDS_MAX  # nobody else, until this one is back
                return which
            deadline = max(self._heap[0][0], self._open_at) if self._heap else math.inf
            self._wake = trio.Event()
            with trio.CancelScope(deadline=deadline):
                await self._wake.wait()

    def done(self, which: Which, now_s: float) -> None:
        """The witness answered, and there is nothing to ask about the log for now."""
        self._answered(now_s)
        self.standing.refused.pop(which, None)
        self._refusals.pop(which, None)
        self._again(which, math.inf)

    def refused(self, which: Which, said: str, now_s: float) -> None:
        """The witness answered, and not with a line: ask again later, and less and less."""
        self._answered(now_s)
        self.standing.refused[which] = said
        self._refusals[which] += 1
        self._again(which, self._later(self._refusals[which] + 3, REFUSED_SECONDS_MAX))

    def failed(self, which: Which, said: str) -> None:
        """The witness cannot be reached: everything waits."""
        self.standing.failing = said
        self._failures += 1
        self._open_at = self._later(self._failures, RETRY_SECONDS_MAX)
        self._again(which, self._open_at)

    def _answered(self, now_s: float) -> None:
        self.standing.answered_s = now_s
        self.standing.failing = ""
        if self._failures:
            self._failures, self._open_at = 0, 0.0
            self._wake.set()

    def _later(self, times: int, most: float) -> float:
        seconds = min(2.0 ** min(times, 20), most)
        return trio.current_time() + seconds * (0.5 + self._dice.random() / 2)

    def _again(self, which: Which, due: float) -> None:
        due = min(due, self._busy.pop(which))
        if due < math.inf:
            self._queue(which, due)
