"""Connections of the HTTP interface: how many there may be, and none that holds up the node.

Hypercorn speaks HTTP on each. A caller that stops reading or sending in the middle of something
is given up after a while, and all are when the node stops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import Scope

from tallystick.node.api.http1 import Http1Server
from tallystick.node.api.plain import Answer

KEEP_ALIVE_SECONDS = 75
HEADER_BYTES_MAX = 64 * 1024
STILL_SECONDS = 30  # in which a caller must read something of an answer

_log = logging.getLogger("tallystick.api")
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: 76\r\n\r\n"
    b'{"type":"about:blank","status":503,"detail":"too many connections at once."}'
)


class _Stream:
    """A socket's stream whose reader may not keep us for ever."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket

    async def receive_some(self, bytes_max: int) -> bytes:
        return bytes(await self._stream.receive_some(bytes_max))

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            # The stream's own `send_all` cannot tell a slow reader from one that stopped.
            with trio.move_on_after(STILL_SECONDS) as waiting:
                try:
                    sent = await self.socket.send(view[:65536])
                except OSError:
                    raise trio.BrokenResourceError from None
            if waiting.cancelled_caught:
                await trio.aclose_forcefully(self._stream)
                raise trio.BrokenResourceError("the caller does not read")
            view = view[sent:]

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Place:
    """One connection's place: whose it is, and whether it has something to do.

    Who has not shown a key is a stranger, as everybody is at first.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.known = False
        self.requests = 0  # of a known caller, under way
        self.rests_since = trio.current_time()

    @contextmanager
    def work(self, *, known: bool) -> Iterator[None]:
        """Work on a request, of a caller that is known or not."""
        self.known = known
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1
            self.rests_since = trio.current_time()

    def clear(self) -> None:
        """End the connection, whatever it does."""
        self._stream.socket.close()


def working(place: Place, answer: Answer) -> Answer:
    """The same, working on it at a place, of whom its socket lets in."""

    async def work(method: str, body: bytes) -> tuple[int, bytes]:
        with place.work(known=True):
            return await answer(method, body)

    return work


def place_of(scope: Scope) -> Place:
    """The place of the connection that a request came on."""
    found: Place = scope["state"]["place"]
    return found


class Connections:
    """Serves an application on the connections of some listeners."""

    def __init__(
        self, app: Callable[..., Any], connections_max: int, plain: Answer | None = None
    ) -> None:
        config = Config()
        config.errorlog = logging.getLogger("tallystick.hypercorn")
        config.include_server_header = False
        config.keep_alive_timeout = KEEP_ALIVE_SECONDS
        config.keep_alive_max_requests = 2**31
        config.h11_max_incomplete_size = HEADER_BYTES_MAX
        self._config = config
        self._app = ASGIWrapper(app)
        self._plain = plain  # what answers requests of the plain form
        self._context = WorkerContext(None)
        self._max = connections_max
        self._open: dict[Place, None] = {}  # in the order in which they came

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_when_cancelled)
            await trio.serve_listeners(self._serve, listeners)

    async def _close_when_cancelled(self) -> None:
        """Hypercorn finishes what it sends; who does not read must not keep us from stopping."""
        try:
            await trio.sleep_forever()
        finally:
            for place in self._open:
                place.clear()

    def _make_room(self) -> bool:
        """Whether there is a place. If all are taken, the stranger who came first gives up his, or
        else the known caller who asked nothing for longest: so those without a key keep out nobody.
        """
        if len(self._open) < self._max:
            return True
        stranger = next((place for place in self._open if not place.known), None)
        resting = (place for place in self._open if not place.requests)
        left = stranger or min(resting, key=lambda place: place.rests_since, default=None)
        if left is None:
            return False
        del self._open[left]
        left.clear()
        return True

    async def _serve(self, stream: trio.SocketStream) -> None:
        if not self._make_room():
            with suppress(trio.BrokenResourceError, OSError):
                stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
                await stream.socket.send(_BUSY)
            await trio.aclose_forcefully(stream)
            return
        place = Place(stream)
        self._open[place] = None
        state = ConnectionState({"place": place})
        try:
            guarded: Any = _Stream(stream)
            server = Http1Server(self._app, self._config, self._context, state, guarded)
            server.plain = self._plain and working(place, self._plain)
            await server
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass
        except* Exception:  # noqa: BLE001 - one connection must not take the node with it
            _log.exception("a connection failed inside the node")
        finally:
            self._open.pop(place, None)
            await trio.aclose_forcefully(stream)
