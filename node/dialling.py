"""Staying connected: who is dialled again and when, without a task for each peer that is away.

A peer is dialled a moment after its link ended, then ever more seldom, with jitter. However many
are away, only some are dialled at once and only so many a second: the others wait their turn.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random

import trio

from tallystick.node.streams import Stream
from tallystick.protocol.errors import TallyError

FIRST_SECONDS = 0.2
MAX_SECONDS = 30.0
STEADY_SECONDS = 5.0
LATER_SECONDS = 0.5  # for the party whose name sorts last, when both start
AT_ONCE = 64
A_SECOND = 100

_log = logging.getLogger("tallystick.peering")


class Dialler:
    """Dials the peers of one node. `connect` makes a stream to a peer, `serve` speaks on it until
    it ends, `may_dial` says whether a peer can be dialled now.
    """

    def __init__(
        self,
        connect: Callable[[str], Awaitable[Stream]],
        serve: Callable[[Stream, str], Awaitable[None]],
        may_dial: Callable[[str], bool],
        dice: Random,
    ) -> None:
        self._connect, self._serve, self._may_dial = connect, serve, may_dial
        self._dice = dice
        self._due: list[tuple[float, int, str]] = []
        self._numbers = count()
        self._delays: dict[str, float] = {}  # what each peer was last kept waiting
        self._waiting: set[str] = set()  # peers in `_due`
        self._sooner = trio.Event()
        self._connecting = trio.Semaphore(AT_ONCE)
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Dial from now on."""
        self._nursery = nursery
        nursery.start_soon(self._keep_dialling)

    def add(self, name: str, seconds: float = 0.0) -> None:
        """Dial a peer in so many seconds, unless it is to be dialled sooner or later anyway."""
        if name not in self._waiting:
            self._waiting.add(name)
            heapq.heappush(self._due, (trio.current_time() + seconds, next(self._numbers), name))
            self._sooner.set()

    def ended(self, name: str, held_seconds: float) -> None:
        """A link ended, or did not come about: dial again soon. One that held for a while was a
        good one; others are tried ever more patiently.
        """
        delay = FIRST_SECONDS
        if held_seconds <= STEADY_SECONDS:
            delay = min(self._delays.get(name, FIRST_SECONDS) * 2, MAX_SECONDS)
        self._delays[name] = delay
        self.add(name, delay * self._dice.uniform(0.5, 1.0))

    async def _keep_dialling(self) -> None:
        assert self._nursery is not None
        while True:
            while self._due and self._due[0][0] <= trio.current_time():
                _, _, name = heapq.heappop(self._due)
                self._waiting.discard(name)
                if self._may_dial(name):
                    await self._connecting.acquire()
                    self._nursery.start_soon(self._dial_one, name)
                    if self._due:
                        await trio.sleep(1 / A_SECOND)
            with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                await self._sooner.wait()
                self._sooner = trio.Event()

    async def _dial_one(self, name: str) -> None:
        began = trio.current_time()
        try:
            try:
                stream = await self._connect(name)
            finally:
                self._connecting.release()
            await self._serve(stream, name)
        except TallyError as error:
            _log.info("dialling failed", extra={"peer": name, "reason": error})
        except Exception:  # noqa: BLE001 - one peer must not take the node with it
            _log.exception("dialling failed inside the node", extra={"peer": name})
        self.ended(name, trio.current_time() - began)
