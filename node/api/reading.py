"""Questions that take long, answered beside the node's work: on threads, at a moment of its store.

So nobody who records waits for one who reads, and nobody who reads for one who records. A caller
has one thread at a time: many long questions of one are not in the way of the others'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer

AT_ONCE = 2
LINES_FEW = 5_000  # so many are derived in less time than a moment takes to open

T = TypeVar("T")

ASKER: ContextVar[str] = ContextVar("asker", default="owner")  # whose request a task works on


class Reader:
    """Asks the books of a running node."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._threads = trio.CapacityLimiter(AT_ONCE)
        self._turns: dict[str, trio.Lock] = {}

    async def ask_lines(self, channel: bytes, question: Callable[[Channel, Closer], T]) -> T:
        """The answer to a question that takes as long as there are balance lines: at once, from
        memory, if they are few.
        """
        with self._books.store.read() as txn:
            few = txn.entries("lines") <= LINES_FEW
        return (
            question(*self._books.channels[channel]) if few else await self.ask(channel, question)
        )

    async def ask(self, channel: bytes, question: Callable[[Channel, Closer], T]) -> T:
        """The answer to any question about one channel."""

        def work() -> T:
            with self._books.at_a_moment(channel) as opened:
                return question(*opened)

        return await self.in_turn(lambda: trio.to_thread.run_sync(work, limiter=self._threads))

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do some work when the caller's work before it is done."""
        asker = ASKER.get()
        turn = self._turns.setdefault(asker, trio.Lock())
        try:
            async with turn:
                return await work()
        finally:
            if not turn.locked():
                self._turns.pop(asker, None)
