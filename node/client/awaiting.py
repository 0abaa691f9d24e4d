"""The client for asyncio and trio. Any number of tasks of one event loop may use one."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar

import anyio
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
from tallystick.client.asyncbatcher import AsyncBatcher, batching
from tallystick.client.connecting import Target, answer_of
from tallystick.client.deltas import Delta
from tallystick.client.errors import Answered, Unreachable
from tallystick.client.queue import Queue
from tallystick.client.sse import EventLines

T = TypeVar("T")


class AsyncClient:
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
        target = self._target
        transport = httpx.AsyncHTTPTransport(uds=target.socket, verify=target.verify)
        self._http = httpx.AsyncClient(
            base_url=target.url, headers=target.headers, timeout=target.timeout, transport=transport
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _carry_out(self, steps: Asking[T]) -> T:
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
                await anyio.sleep(step.seconds)
            else:
                given = await self._request(step)

    async def _request(self, request: Request) -> Answer | Unreachable:
        try:
            return answer_of(await self._http.send(self._target.request(self._http, request)))
        except httpx.TransportError as error:
            return self._target.unreachable(error)

    # Emitting

    async def emit(
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
        return await self.emit_delta(delta, channel=channel, wait_seconds=wait_seconds)

    async def emit_delta(
        self, delta: Delta, *, channel: str | None = None, wait_seconds: float = 0.0
    ) -> Receipt:
        """Record a delta that was made before: kept, perhaps, to be sent again."""
        chosen = self._target.channel_of(channel)
        return await self._carry_out(asking.emit(chosen, delta, wait_seconds, self._retry))

    async def emit_many(self, deltas: Iterable[Delta], *, channel: str | None = None) -> Emitted:
        """Record any number of deltas, each for itself; what is refused is in the answer."""
        chosen = self._target.channel_of(channel)
        return await self._carry_out(asking.emit_many(chosen, deltas, self._retry))

    def batcher(
        self,
        *,
        channel: str | None = None,
        queue_max: int = 10_000,
        batch_max: int = asking.DELTAS_A_REQUEST,
        linger_seconds: float = 0.1,
        drain_seconds: float = 10.0,
        on_refused: Callable[[Refusal], None] | None = None,
    ) -> AbstractAsyncContextManager[AsyncBatcher]:
        """A batcher that sends from a task of its own, for the length of an `async with`.

        The block's end waits until all is acknowledged. When it ends with an error or is
        cancelled, it waits for at most `drain_seconds`.
        """
        chosen = self._target.channel_of(channel)

        async def send(batch: Sequence[Delta]) -> Emitted:
            return await self._carry_out(asking.emit_group(chosen, batch, self._retry))

        queue = Queue(self._retry, queue_max, batch_max, linger_seconds, on_refused)
        return batching(AsyncBatcher(send, queue), drain_seconds)

    async def wait_cosigned(
        self, *receipts: Receipt, seconds: float = 30.0, channel: str | None = None
    ) -> None:
        """Return when the peer has co-signed these deltas; `NotCosigned` if not in time."""
        chosen = self._target.channel_of(channel)
        await self._carry_out(asking.wait_cosigned(chosen, receipts, seconds, self._retry))

    # Reading: these need a key with the scope read

    async def status(self) -> Status:
        """How the node and its channels stand."""
        return await self._carry_out(asking.status(self._retry))

    async def balance(
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
        return await self._carry_out(asking.balance(where, chosen, self._retry))

    async def checkpoints(self, *, channel: str | None = None) -> tuple[ClosedPeriod, ...]:
        """The closed periods, the oldest first."""
        where = self._target.channel_of(channel)
        return await self._carry_out(asking.checkpoints(where, self._retry))

    async def checkpoint(self, period: str, *, channel: str | None = None) -> Checkpoint:
        """A closed period's checkpoint; `NotFound` if it is not closed."""
        where = self._target.channel_of(channel)
        return await self._carry_out(asking.checkpoint(where, period, self._retry))

    async def events(
        self, after: int | None = None, *, channel: str | None = None, kinds: Sequence[str] = ()
    ) -> AsyncGenerator[Event, None]:
        """What happens, for ever: from behind a cursor on, or from now on.

        When the node goes away the iterator waits, connects again, and goes on behind the last
        event that it gave. `Gap` if the node does not keep what comes next. Who leaves the loop
        early closes it: `async with contextlib.aclosing(client.events()) as events`.
        """
        cursor = await self._carry_out(asking.newest(self._retry)) if after is None else after
        lines = EventLines(cursor, self._retry)
        while True:
            trouble: Exception | None = None
            try:
                async with aclosing(self._events(lines, channel, kinds)) as events:
                    async for event in events:
                        yield event
            except (httpx.TransportError, Unreachable, Answered) as error:
                trouble = error
            await anyio.sleep(lines.broken_off(trouble))

    async def _events(
        self, lines: EventLines, channel: str | None, kinds: Sequence[str]
    ) -> AsyncGenerator[Event, None]:
        request = self._target.events_request(self._http, lines.cursor, channel, kinds)
        async with aclosing(await self._http.send(request, stream=True)) as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise asking.problem_of(answer_of(answer))
            async for piece in answer.aiter_raw():
                for event in lines.feed(piece):
                    yield event
