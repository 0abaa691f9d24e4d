"""HTTP/1.1 on one connection, and nothing else: no HTTP/2, no WebSocket.

Hypercorn's protocol, with what a hostile caller needs it to do: what a request still sends after
its answer holds up nobody, and a request whose end is said twice is refused.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from tallystick.node.api.limits import BODY_BYTES_PER_SECOND, BODY_SECONDS
from tallystick.node.api.plain import Answer, plain_answer, plain_request

RECEIVE_BYTES = 128 * 1024  # at once; a piece costs nearly the same, however large
PIECES_WAITING = 5  # of a body that the application has not taken yet
LINGER_SECONDS = 2  # in which a caller may read our last answer while it still sends
LINGER_BYTES = 64 * 1024 * 1024


class _Tasks(TaskGroup):
    """Hypercorn's tasks; it would wait for ever to hand a body to one that does not ask for it."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Any,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[None]]:
        sender, receiver = trio.open_memory_channel[Any](PIECES_WAITING)

        async def put(event: Any) -> None:
            if event["type"] == "http.disconnect":
                sender.close()  # whoever waits to hand over more gives up
            else:
                with suppress(trio.ClosedResourceError):
                    await sender.send(event)

        async def receive() -> Any:
            try:
                return await receiver.receive()
            except trio.EndOfChannel:
                return {"type": "http.disconnect"}

        threads = trio.to_thread.run_sync, trio.from_thread.run
        self.spawn(_handle, app, config, scope, receive, send, *threads)
        return put


class _Http1(H11Protocol):
    _head = b""  # of an answer whose body comes at once: both are sent together

    async def _send_h11_event(self, event: Any) -> None:
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        head, self._head = self._head, b""
        if isinstance(event, h11.Response) and (b"content-length" in dict(event.headers)):
            self._head = data
        else:
            await self.send(RawData(head + data))

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn would change to HTTP/2 here, where one connection has many requests at once."""

    async def _create_stream(self, request: h11.Request) -> None:
        names = [name for name, _ in request.headers]
        # Where a proxy goes by the other end of the two, its next request is not what it thinks.
        two_ends = b"transfer-encoding" in names and b"content-length" in names
        if two_ends or request.http_version not in (b"1.0", b"1.1"):
            await self._send_error_response(400 if two_ends else 505)
            await self.send(Closed())
            return
        plain = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=plain,
                http_version=request.http_version,
            )
        )


class Http1Server(TCPServer):
    """Serves one connection."""

    plain: Answer | None = None  # what answers requests of the plain form
    _ending = False  # by us

    async def run(self) -> None:
        """Serve until either side ends it."""
        try:
            socket = self.stream.socket
            async with _Tasks() as tasks:
                self._task_group = tasks
                self.protocol: Any = _Http1(
                    self.app,
                    self.config,
                    self.context,
                    tasks,
                    ConnectionState(self.state),
                    ssl=False,
                    client=parse_socket_addr(socket.family, socket.getpeername()),
                    server=parse_socket_addr(socket.family, socket.getsockname()),
                    send=self.protocol_send,
                )
                self._reading = trio.CancelScope()
                self._rest()
                await self._read_data()
        except OSError:
            pass
        finally:
            await self.stream.aclose()

    async def _read_data(self) -> None:
        dropped = 0
        with self._reading, suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while dropped < LINGER_BYTES:
                data = bytes(await self.stream.receive_some(RECEIVE_BYTES))
                if self._ending:
                    dropped += len(data)
                else:
                    left = await self._answer_plain(data)
                    if left or not data:
                        await self.protocol.handle(RawData(left))
                if not data:
                    break
        await self.protocol.handle(Closed())

    async def _answer_plain(self, data: bytes) -> bytes:
        """Answer the requests of the plain form that begin here; what follows them."""
        general = self.protocol.connection
        while (
            self.plain is not None
            and (request := plain_request(data)) is not None
            and general.our_state is general.their_state is h11.IDLE
            and not general.trailing_data[0]
        ):
            missing = request.stop - len(data)
            if missing > 0:
                pace = BODY_SECONDS + missing / BODY_BYTES_PER_SECOND
                self._reading.deadline = trio.current_time() + pace
                pieces = [data]
                while missing > 0:
                    pieces.append(bytes(await self.stream.receive_some(RECEIVE_BYTES)))
                    if not pieces[-1]:
                        return b""
                    missing -= len(pieces[-1])
                data = b"".join(pieces)
            self._reading.deadline = math.inf
            answer = await self.plain(request.method, data[request.start : request.stop])
            await self.stream.send_all(plain_answer(*answer))
            self._rest()
            data = data[request.stop :]
        return data

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Closed):
            await self._end()
        elif not isinstance(event, Updated):
            await super().protocol_send(event)
        elif not self._ending:
            if event.idle:
                self._rest()
            else:
                self._reading.deadline = math.inf

    def _rest(self) -> None:
        """Nothing is under way: wait for the next request, but not for ever."""
        # Hypercorn begins and ends a task for this with every request.
        self._reading.deadline = trio.current_time() + self.config.keep_alive_timeout

    async def _end(self) -> None:
        """End our side. A caller that still sends could not read our answer if we just closed."""
        self._ending = True
        self._reading.deadline = trio.current_time() + LINGER_SECONDS
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            await self.stream.send_eof()
        await self.protocol.handle(Closed())
