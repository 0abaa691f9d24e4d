"""Sending in the background, from a thread: many deltas a request, none lost, never too many.

`emit` puts a delta into a queue and returns. A thread sends what waits, some at a time and in
order, until the node says that it is on its disk. While the node cannot be reached the queue grows;
when it is full, `emit` blocks. That is the back-pressure: a service that cannot be billed slows
down, and does not lose usage.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self

from tallystick.client.answers import Emitted, Refusal
from tallystick.client.deltas import Delta
from tallystick.client.errors import Forked, Undelivered
from tallystick.client.queue import BatcherStats, Queue

EXIT_SECONDS = 5.0  # that an interpreter which ends without `close` waits for the node

Send = Callable[[Sequence[Delta], Callable[[float], object]], Emitted]


class _Closed(Exception):
    """The batcher was closed while it waited to try again."""


class Batcher:
    """A queue and the thread that empties it. Made by `Client.batcher`; close it, or use `with`.

    Threads may share one. In a forked process it does nothing but raise `Forked`: what is in it is
    the parent's to send.
    """

    def __init__(self, send: Send, queue: Queue) -> None:
        self._send = send
        self._queue = queue
        self._changed = threading.Condition()
        self._ending = False  # send no more
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="tallystick-batcher", daemon=True)
        self._thread.start()
        _at_exit(self)

    def emit(
        self,
        meter: str,
        quantity: int | Decimal | str,
        subject: str,
        *,
        id: str | None = None,
        occurred_at: datetime | str | None = None,
        timeout: float | None = None,
    ) -> Delta:
        """Queue a delta and return it, with its id; blocks while the queue is full.

        With a `timeout`, `Full` if it is full for that long; 0 does not wait.
        """
        delta = Delta.of(meter, quantity, subject, id=id, occurred_at=occurred_at)
        self.put(delta, timeout=timeout)
        return delta

    def put(self, delta: Delta, *, timeout: float | None = None) -> None:
        """Queue a delta that was made before."""
        self._check_process()
        with self._changed:
            self._changed.wait_for(lambda: not self._queue.holds_up, timeout=timeout)
            if self._queue.put(delta):
                self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> BatcherStats:
        """Return when all that was put before is on the node's disk, or was refused;
        `Undelivered` if it is not in time.
        """
        self._check_process()
        with self._changed:
            wanted = self._queue.hurry()
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._queue.is_done(wanted) or self._ending, timeout=timeout
            )
            return self._queue.flushed(wanted)

    def close(self, timeout: float | None = None) -> BatcherStats:
        """Take no more, and end when all is acknowledged; `Undelivered` holds what is not in time.

        A batch that is on its way then may be recorded or not: send it again all the same.
        """
        self._check_process()
        with self._changed:
            self._queue.closed = True
            self._changed.notify_all()
        try:
            return self.flush(timeout)
        finally:
            with self._changed:
                self._ending = True
                self._changed.notify_all()

    @property
    def stats(self) -> BatcherStats:
        """The counts so far."""
        self._check_process()
        with self._changed:
            return self._queue.stats()

    @property
    def refusals(self) -> Sequence[Refusal]:
        """The last deltas that were refused."""
        self._check_process()
        with self._changed:
            return self._queue.refusals()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise Forked("this batcher is the parent process's; make one in this process")

    # The thread

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                emitted = self._send(batch, self._pause)
            except _Closed:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be lost
                with self._changed:
                    seconds = self._queue.failed(error)
                try:
                    self._pause(seconds)
                except _Closed:
                    return
                continue
            with self._changed:
                refusals = self._queue.done(batch, emitted)
                self._changed.notify_all()
            self._queue.tell(refusals)
            with self._changed:
                self._queue.settle(batch)
                self._changed.notify_all()

    def _next_batch(self) -> list[Delta]:
        """What to send next; empty when the batcher has ended."""
        queue = self._queue
        with self._changed:
            self._changed.wait_for(lambda: len(queue) or queue.closed)
            self._changed.wait_for(lambda: queue.due or queue.closed, timeout=queue.linger_seconds)
            return [] if self._ending else queue.batch()

    def _pause(self, seconds: float) -> None:
        """Wait, unless the batcher ends meanwhile."""
        with self._changed:
            if self._changed.wait_for(lambda: self._ending, timeout=seconds):
                raise _Closed


def _at_exit(batcher: Batcher) -> None:
    """Send what is left when the interpreter ends and nobody closed the batcher."""
    found = weakref.ref(batcher)

    def drain() -> None:
        left = found()
        if left is not None and not left._ending and left._process == os.getpid():
            began = time.monotonic()
            try:
                left.close(EXIT_SECONDS)
            except Undelivered as error:
                seconds = time.monotonic() - began
                message = f"tallystick: after {seconds:.0f} s at the end, {error}\n"
                os.write(2, message.encode())

    atexit.register(drain)
