"""Sending in the background, from a task: what `batcher` does for threads, for asyncio and trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal

import anyio

from tallystick.client.answers import Emitted, Refusal
from tallystick.client.deltas import Delta
from tallystick.client.errors import Undelivered
from tallystick.client.queue import BatcherStats, Queue

Send = Callable[[Sequence[Delta]], Awaitable[Emitted]]


class AsyncBatcher:
    """A queue and the task that empties it. Made by `AsyncClient.batcher`, in an `async with`."""

    def __init__(self, send: Send, queue: Queue) -> None:
        self._send = send
        self._queue = queue
        self._changed = anyio.Event()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def emit(
        self,
        meter: str,
        quantity: int | Decimal | str,
        subject: str,
        *,
        id: str | None = None,
        occurred_at: datetime | str | None = None,
        timeout: float | None = None,
    ) -> Delta:
        """Queue a delta and return it, with its id; waits while the queue is full.

        With a `timeout`, `Full` if it is full for that long; 0 does not wait.
        """
        delta = Delta.of(meter, quantity, subject, id=id, occurred_at=occurred_at)
        await self.put(delta, timeout=timeout)
        return delta

    async def put(self, delta: Delta, *, timeout: float | None = None) -> None:
        """Queue a delta that was made before."""
        with anyio.move_on_after(timeout):
            while self._queue.holds_up:
                await self._changed.wait()
        if self._queue.put(delta):
            self._wake()

    async def flush(self, timeout: float | None = None) -> BatcherStats:
        """Return when all that was put before is on the node's disk, or was refused;
        `Undelivered` if it is not in time.
        """
        queue = self._queue
        wanted = queue.hurry()
        self._wake()
        with anyio.move_on_after(timeout):
            while not (queue.is_done(wanted) or queue.closed):
                await self._changed.wait()
        return queue.flushed(wanted)

    @property
    def stats(self) -> BatcherStats:
        """The counts so far."""
        return self._queue.stats()

    @property
    def refusals(self) -> Sequence[Refusal]:
        """The last deltas that were refused."""
        return self._queue.refusals()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            batch = await self._next_batch()
            try:
                emitted = await self._send(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be lost
                await anyio.sleep(self._queue.failed(error))
                continue
            refusals = self._queue.done(batch, emitted)
            self._wake()
            self._queue.tell(refusals)
            self._queue.settle(batch)
            self._wake()

    async def _next_batch(self) -> list[Delta]:
        queue = self._queue
        while not len(queue):
            await self._changed.wait()
        with anyio.move_on_after(queue.linger_seconds):
            while not queue.due:
                await self._changed.wait()
        return queue.batch()

    def end(self) -> None:
        """Take no more, and let nobody wait any longer."""
        self._queue.closed = True
        self._wake()


@asynccontextmanager
async def batching(batcher: AsyncBatcher, drain_seconds: float) -> AsyncIterator[AsyncBatcher]:
    """A batcher at work. An error of the block is raised as it is, after what waits was sent."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(batcher.run)
        ended = False
        try:
            yield batcher
            await batcher.flush()
            ended = True
        except Exception as error:  # noqa: BLE001 - raised below, out of the task group
            failure = error
        finally:
            if not ended:
                with anyio.CancelScope(shield=True):
                    try:
                        await batcher.flush(drain_seconds)
                    except Undelivered as error:
                        failure = failure or error
            batcher.end()
            group.cancel_scope.cancel()
    if failure is not None:
        raise failure
