"""The command line's requests to the running node: HTTP over the Unix socket in its home.

`POST /rpc/METHOD` with the parameters as a MessagePack map; 200 answers with the result, any other
status with the error as `[kind, message, advice]`. Errors arrive as what they are, so a person
reads the same sentence wherever it arose.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpcore
import msgspec

from tallystick.node import errors as node_errors
from tallystick.node.errors import NodeUnreachable
from tallystick.node.home import Home
from tallystick.protocol import errors as protocol_errors
from tallystick.protocol.errors import FormatError, InputError, TallyError

BODY_BYTES_MAX = 16 * 1024 * 1024
MEDIA_TYPE = "application/msgpack"
PATH = "/rpc/"
# what the decoder raises for garbage: text that is no UTF-8, and arrays nested without end, too
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_encode = msgspec.msgpack.Encoder().encode
_parameters = msgspec.msgpack.Decoder(dict[str, Any])
_errors = msgspec.msgpack.Decoder(tuple[str, str, str])


def encode_arguments(value: object) -> bytes:
    """MessagePack of what a command line said; `InputError` if a text of it is not UTF-8."""
    try:
        return _encode(value)
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r} is not UTF-8") from None


def decode_parameters(body: bytes) -> dict[str, Any]:
    """A request's parameters by name; `FormatError` if they are none."""
    try:
        return _parameters.decode(body)
    except _UNDECODABLE as error:
        raise FormatError(f"not a request: {error}") from None


def decode_answer(status: int, body: bytes) -> Any:
    """The result in a body; the error in it is raised, or `FormatError` if it holds neither."""
    try:
        if status == 200:
            return msgspec.msgpack.decode(body)
        kind, message, advice = _errors.decode(body)
    except _UNDECODABLE as error:
        raise FormatError(
            f"not an answer (status {status}): {error}",
            "Is the running node of the same version as this tally?",
        ) from None
    raise _error(kind, message, advice)


class _Body:
    """A request's body in one piece. httpcore's own is an async generator, which a call that is
    given up leaves for the garbage collector.
    """

    def __init__(self, data: bytes) -> None:
        self._left = [data]

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class RpcClient:
    """The way to the running node; several calls may be under way."""

    def __init__(self, home: Home, pool: httpcore.AsyncConnectionPool) -> None:
        self._home = home
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def connect(cls, home: Home) -> AsyncIterator[RpcClient]:
        """The way to the node of a home; whether one is running shows at the first call."""
        async with httpcore.AsyncConnectionPool(uds=str(home.socket_path)) as pool:
            yield cls(home, pool)

    async def call(self, method: str, **params: object) -> Any:
        """The method's result; its error is raised here as what it was, and `NodeUnreachable` if
        no node is running or it stopped.
        """
        body = encode_arguments(params)
        try:
            answer = await self._pool.request(
                "POST",
                f"http://node{PATH}{method}",
                headers={"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body))},
                content=_Body(body),
            )
        except httpcore.ConnectError:
            home = self._home.path
            raise NodeUnreachable(
                f"no node is running in {home}", f"Start it: tally --home {home} run"
            ) from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise NodeUnreachable(
                "the node stopped before it answered",
                "Start it again and repeat the command: nothing is recorded twice",
            ) from None
        return decode_answer(answer.status, answer.content)


def _error(kind: str, message: str, advice: str) -> TallyError:
    """The error that the node raised, as an object of its own class."""
    if kind == "PeerBreach":
        return protocol_errors.PeerBreach("peer", message, advice)
    found = getattr(protocol_errors, kind, None) or getattr(node_errors, kind, None)
    if isinstance(found, type) and issubclass(found, TallyError):
        return found(message, advice)
    return TallyError(message, advice)
