"""What is to be done for channels and logs now and then, without a task that waits for it.

An errand is one kind of work for one subject: batches of what was emitted in a channel, a flush of
a log. It runs when something calls for it, or once the time is over that it gave when it ended;
never twice at once. What is called for while it runs, runs again afterwards. So what is idle costs
no task, and ten thousand idle channels cost next to nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import trio

WHEN_CALLED = math.inf

# Does the work for a subject; in how many seconds to do it again without being called.
Work = Callable[[Any], Awaitable[float]]
_Errand = tuple[Work, Any]


class Errands:
    """The errands of one node. What is called for before `start` is done then."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._waiting: dict[_Errand, None] = {}  # for the start
        self._called: dict[_Errand, bool] = {}  # those under way: whether to run again
        self._times: dict[_Errand, float] = {}  # of those that run again by themselves
        self._due: list[tuple[float, int, _Errand]] = []  # the same, the next first, and stale ones
        self._numbers = count()
        self._sooner = trio.Event()

    def start(self, nursery: trio.Nursery) -> None:
        """Run errands in a nursery from now on."""
        self._nursery = nursery
        nursery.start_soon(self._keep_time)
        waiting, self._waiting = self._waiting, {}
        for errand in waiting:
            self.call(*errand)

    def call(self, work: Work, subject: Any) -> None:
        """Have work done for a subject soon."""
        errand = (work, subject)
        if errand in self._called:
            self._called[errand] = True
        elif self._nursery is None:
            self._waiting[errand] = None
        else:
            self._times.pop(errand, None)
            self._called[errand] = False
            self._nursery.start_soon(self._run, errand)

    async def _run(self, errand: _Errand) -> None:
        work, subject = errand
        seconds = 0.0
        while True:
            seconds = await work(subject)
            if not self._called[errand]:
                break
            self._called[errand] = False
            await trio.lowlevel.checkpoint()
        del self._called[errand]
        if seconds < math.inf:
            at = self._times[errand] = trio.current_time() + seconds
            heapq.heappush(self._due, (at, next(self._numbers), errand))
            if self._due[0][0] == at:
                self._sooner.set()

    async def _keep_time(self) -> None:
        """Call for what comes due, for as long as the node runs."""
        try:
            while True:
                now = trio.current_time()
                while self._due and self._due[0][0] <= now:
                    at, _, errand = heapq.heappop(self._due)
                    if self._times.get(errand) == at:
                        self.call(*errand)
                with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                    await self._sooner.wait()
                    self._sooner = trio.Event()
        finally:
            self._nursery = None  # it may be closed before the last who calls is gone
