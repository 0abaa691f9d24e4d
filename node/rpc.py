"""Requests from the command line to the running node, over a Unix socket in its home.

A request is `[id, method, params]`, an answer `[id, true, result]` or `[id, false, error]`, in
MessagePack frames. Several requests may be in flight on a connection. Errors cross the socket as
what they are, so a person reads the same sentence wherever it arose.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.node import errors as node_errors
from tallystick.node.errors import NodeUnreachable
from tallystick.node.home import Home
from tallystick.protocol import errors as protocol_errors
from tallystick.protocol.errors import FormatError, InputError, TallyError
from tallystick.protocol.framing import FrameReader, frame

FRAME_BYTES_MAX = 16 * 1024 * 1024
IN_FLIGHT_MAX = 16  # requests of one connection that are worked on at once
# what the decoder raises for garbage: text that is no UTF-8, and arrays nested without end, too
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_log = logging.getLogger("tallystick.rpc")
_encode = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(tuple[int, str, dict[str, Any]])
_answers = msgspec.msgpack.Decoder(tuple[int, bool, Any])


def encode_arguments(value: object) -> bytes:
    """MessagePack of what a command line said; `InputError` if a text of it is not UTF-8."""
    try:
        return _encode(value)
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r} is not UTF-8") from None


def decode_request(body: bytes) -> tuple[int, str, dict[str, Any]]:
    """A request's number, method and parameters; `FormatError` if it is none."""
    try:
        return _requests.decode(body)
    except _UNDECODABLE as error:
        raise FormatError(f"not a request: {error}") from None


def decode_answer(body: bytes) -> tuple[int, bool, Any]:
    """An answer's number, whether it is a result, and that or the error; or `FormatError`."""
    try:
        return _answers.decode(body)
    except _UNDECODABLE as error:
        raise FormatError(f"not an answer: {error}") from None


class RpcServer:
    """Serves methods by name; each takes its parameters by keyword."""

    def __init__(self, methods: Mapping[str, Callable[..., Awaitable[object]]]) -> None:
        self._methods = methods

    async def serve(
        self, path: Path, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; the caller holds the home's lock."""
        path.unlink(missing_ok=True)
        listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(64)
            await trio.serve_listeners(
                self._connection, [trio.SocketListener(listener)], task_status=task_status
            )
        finally:
            listener.close()
            path.unlink(missing_ok=True)

    async def _connection(self, stream: trio.SocketStream) -> None:
        reader = FrameReader(FRAME_BYTES_MAX)
        sending = trio.Lock()
        working = trio.Semaphore(IN_FLIGHT_MAX)
        try:
            async with stream, trio.open_nursery() as nursery:
                with suppress(trio.BrokenResourceError):
                    async for data in stream:
                        reader.feed(bytes(data))
                        while (body := reader.next_body()) is not None:
                            request = decode_request(body)
                            await working.acquire()
                            nursery.start_soon(self._answer, stream, sending, working, request)
                # A caller that went away still gets its work done, not its answer.
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except* FormatError as group:
            _log.warning("a bad request on the node's socket: %s", group.exceptions[0])

    async def _answer(
        self,
        stream: trio.SocketStream,
        sending: trio.Lock,
        working: trio.Semaphore,
        request: tuple[int, str, dict[str, Any]],
    ) -> None:
        number, method, params = request
        try:
            called = self._methods.get(method)
            if called is None:
                raise FormatError(
                    f"the running node does not know {method!r}",
                    "Restart it: it is of another version than this tally",
                )
            body = _encode((number, True, await called(**params)))
            if len(body) > FRAME_BYTES_MAX:
                raise InputError(
                    f"the answer to {method} has {len(body)} bytes, {FRAME_BYTES_MAX} are allowed",
                    "Ask for less at once",
                )
        except TallyError as error:
            body = _encode((number, False, [type(error).__name__, error.message, error.advice]))
        except Exception:  # noqa: BLE001 - one request must not take the node with it
            _log.exception("%s failed inside the node", method)
            message = f"{method} failed inside the node; its log says why"
            body = _encode((number, False, ["TallyError", message, "Please report it"]))
        finally:
            working.release()
        # Without a caller there is nobody to answer; what else it asked for goes on.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with sending:
                await stream.send_all(frame(body))


class RpcClient:
    """A connection to the running node."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending = trio.Lock()
        self._waiting: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._number = 0
        self._gone = False

    @classmethod
    @asynccontextmanager
    async def connect(cls, home: Home) -> AsyncIterator[RpcClient]:
        """Connect to the node of a home; `NodeUnreachable` if none is running."""
        try:
            stream = await trio.open_unix_socket(str(home.socket_path))
        except OSError:
            raise NodeUnreachable(
                f"no node is running in {home.path}", f"Start it: tally --home {home.path} run"
            ) from None
        async with stream, trio.open_nursery() as nursery:
            client = cls(stream)
            nursery.start_soon(client._receive)
            try:
                yield client
            finally:
                nursery.cancel_scope.cancel()

    async def call(self, method: str, **params: object) -> Any:
        """The method's result; its error is raised here as what it was."""
        self._number += 1
        number = self._number
        request = encode_arguments((number, method, params))
        event = trio.Event()
        answer: list[Any] = []
        self._waiting[number] = (event, answer)
        try:
            async with self._sending:
                await self._stream.send_all(frame(request))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose()
        if not self._gone:
            await event.wait()
        if not answer:
            raise NodeUnreachable(
                "the node stopped before it answered",
                "Start it again and repeat the command: nothing is recorded twice",
            )
        ok, result = answer
        if not ok:
            raise _error(*result)
        return result

    async def _receive(self) -> None:
        reader = FrameReader(FRAME_BYTES_MAX)
        try:
            async for data in self._stream:
                reader.feed(bytes(data))
                while (body := reader.next_body()) is not None:
                    number, ok, result = decode_answer(body)
                    event, answer = self._waiting.pop(number)
                    answer += [ok, result]
                    event.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._lose()

    def _lose(self) -> None:
        self._gone = True
        for event, _ in self._waiting.values():
            event.set()


def _error(kind: str, message: str, advice: str) -> TallyError:
    """The error that the node raised, as an object of its own class."""
    if kind == "PeerBreach":
        return protocol_errors.PeerBreach("peer", message, advice)
    found = getattr(protocol_errors, kind, None) or getattr(node_errors, kind, None)
    error: TallyError = (found or TallyError)(message, advice)
    return error
