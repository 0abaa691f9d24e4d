"""The client that blocks. Any number of threads may use one; a forked process gets connections of
its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar

import httpx

from tallystick.client import asking
from tallystick.client.answers import (
    Balance,
    Checkpoint,
    ClosedPeriod,
    Emitted,
    Event,
    Receipt,
    Refusal,
    Status,
)
from tallystick.client.asking import Answer, Asking, Pause, Request, Retry
from tallystick.client.batcher import Batcher
from tallystick.client.connecting import Target, answer_of
from tallystick.client.deltas import Delta
from tallystick.client.errors import Answered, Unreachable
from tallystick.client.queue import Queue
from tallystick.client.sse import EventLines

T = TypeVar("T")


class Client:
    """A node, reached at a URL with a key, or through the Unix socket in its home.

    `channel` is the peer's name or the beginning of the channel's id.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        socket: str | os.PathLike[str] | None = None,
        channel: str | None = None,
        timeout: float = 30.0,
        retry: Retry = Retry(),  # noqa: B008 - it is frozen
    ) -> None:
        self._target = Target(url, key, socket, channel, timeout)
        self._retry = retry
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._http = self._connect()

    def _connect(self) -> httpx.Client:
        target = self._target
        transport = httpx.HTTPTransport(uds=target.socket, verify=target.verify)
        return httpx.Client(
            base_url=target.url, headers=target.headers, timeout=target.timeout, transport=transport
        )

    def _client(self) -> httpx.Client:
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    # The connections are the parent's too: leave them, not even closed.
                    self._http, self._process = self._connect(), os.getpid()
        return self._http

    def close(self) -> None:
        """Close the connections."""
        self._client().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _carry_out(self, steps: Asking[T], sleep: Callable[[float], object] = time.sleep) -> T:
        """What a question ends with."""
        given: Answer | Unreachable | None = None
        while True:
            try:
                step = steps.send(given)
            except StopIteration as stop:
                value: T = stop.value
                return value
            given = None
            if isinstance(step, Pause):
                sleep(step.seconds)
            else:
                given = self._request(step)

    def _request(self, request: Request) -> Answer | Unreachable:
        http = self._client()
        try:
            return answer_of(http.send(self._target.request(http, request)))
        except httpx.TransportError as error:
            return self._target.unreachable(error)

    # Emitting

    def emit(
        self,
        meter: str,
        quantity: int | Decimal | str,
        subject: str,
        *,
        id: str | None = None,
        occurred_at: datetime | str | None = None,
        channel: str | None = None,
        wait_seconds: float = 0.0,
    ) -> Receipt:
        """Record a delta; returned when it is on the node's disk.

        With `wait_seconds`, when the peer has co-signed it too; `NotCosigned` if it has not by
        then. Without an id it gets one, which all attempts share.
        """
        delta = Delta.of(meter, quantity, subject, id=id, occurred_at=occurred_at)
        return self.emit_delta(delta, channel=channel, wait_seconds=wait_seconds)

    def emit_delta(
        self, delta: Delta, *, channel: str | None = None, wait_seconds: float = 0.0
    ) -> Receipt:
        """Record a delta that was made before: kept, perhaps, to be sent again."""
        chosen = self._target.channel_of(channel)
        return self._carry_out(asking.emit(chosen, delta, wait_seconds, self._retry))

    def emit_many(self, deltas: Iterable[Delta], *, channel: str | None = None) -> Emitted:
        """Record any number of deltas, each for itself; what is refused is in the answer."""
        chosen = self._target.channel_of(channel)
        return self._carry_out(asking.emit_many(chosen, deltas, self._retry))

    def batcher(
        self,
        *,
        channel: str | None = None,
        queue_max: int = 10_000,
        batch_max: int = asking.DELTAS_A_REQUEST,
        linger_seconds: float = 0.1,
        on_refused: Callable[[Refusal], None] | None = None,
    ) -> Batcher:
        """A batcher that sends from a thread of its own."""
        chosen = self._target.channel_of(channel)

        def send(batch: Sequence[Delta], sleep: Callable[[float], object]) -> Emitted:
            return self._carry_out(asking.emit_group(chosen, batch, self._retry), sleep)

        queue = Queue(self._retry, queue_max, batch_max, linger_seconds, on_refused)
        return Batcher(send, queue)

    def wait_cosigned(
        self, *receipts: Receipt, seconds: float = 30.0, channel: str | None = None
    ) -> None:
        """Return when the peer has co-signed these deltas; `NotCosigned` if not in time."""
        chosen = self._target.channel_of(channel)
        self._carry_out(asking.wait_cosigned(chosen, receipts, seconds, self._retry))

    # Reading: these need a key with the scope read

    def status(self) -> Status:
        """How the node and its channels stand."""
        return self._carry_out(asking.status(self._retry))

    def balance(
        self,
        period: str | None = None,
        *,
        meter: str | None = None,
        subject: str | None = None,
        channel: str | None = None,
    ) -> Balance:
        """The balance, or some lines of it."""
        chosen = {"period": period, "meter": meter, "subject": subject}
        where = self._target.channel_of(channel)
        return self._carry_out(asking.balance(where, chosen, self._retry))

    def checkpoints(self, *, channel: str | None = None) -> tuple[ClosedPeriod, ...]:
        """The closed periods, the oldest first."""
        where = self._target.channel_of(channel)
        return self._carry_out(asking.checkpoints(where, self._retry))

    def checkpoint(self, period: str, *, channel: str | None = None) -> Checkpoint:
        """A closed period's checkpoint; `NotFound` if it is not closed."""
        where = self._target.channel_of(channel)
        return self._carry_out(asking.checkpoint(where, period, self._retry))

    def events(
        self, after: int | None = None, *, channel: str | None = None, kinds: Sequence[str] = ()
    ) -> Iterator[Event]:
        """What happens, for ever: from behind a cursor on, or from now on.

        When the node goes away the iterator waits, connects again, and goes on behind the last
        event that it gave. `Gap` if the node does not keep what comes next.
        """
        cursor = self._carry_out(asking.newest(self._retry)) if after is None else after
        lines = EventLines(cursor, self._retry)
        while True:
            trouble: Exception | None = None
            try:
                yield from self._events(lines, channel, kinds)
            except (httpx.TransportError, Unreachable, Answered) as error:
                trouble = error
            time.sleep(lines.broken_off(trouble))

    def _events(
        self, lines: EventLines, channel: str | None, kinds: Sequence[str]
    ) -> Iterator[Event]:
        http = self._client()
        request = self._target.events_request(http, lines.cursor, channel, kinds)
        with closing(http.send(request, stream=True)) as answer:
            if answer.status_code != 200:
                answer.read()
                raise asking.problem_of(answer_of(answer))
            for piece in answer.iter_raw():
                yield from lines.feed(piece)
