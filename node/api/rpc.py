"""The command line's door: the node's methods by name, on the home's Unix socket alone.

A method that began ends, whether its caller still waits or not: nothing takes half an effect.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.node.api.limits import read_body
from tallystick.node.rpc import BODY_BYTES_MAX, MEDIA_TYPE, PATH, decode_parameters
from tallystick.protocol.errors import FormatError, InputError, TallyError

_log = logging.getLogger("tallystick.rpc")
_encode = msgspec.msgpack.Encoder().encode

Methods = Mapping[str, Callable[..., Awaitable[object]]]
ROUTE = PATH + "{method}"


class Rpc:
    """Serves methods by name; each takes its parameters by keyword."""

    def __init__(self, methods: Methods, nursery: trio.Nursery) -> None:
        self._methods = methods
        self._nursery = nursery
        self.routes = [Route(ROUTE, self._answer, methods=["POST"])]

    async def _answer(self, request: Request) -> Response:
        method = request.path_params["method"]
        body = await read_body(request, BODY_BYTES_MAX)
        answers: list[tuple[int, bytes]] = []
        done = trio.Event()

        async def work() -> None:
            answers.append(await self.call(method, body))
            done.set()

        self._nursery.start_soon(work)
        await done.wait()
        status, answer = answers[0]
        return Response(answer, status, media_type=MEDIA_TYPE)

    async def call(self, method: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer to a request."""
        try:
            called = self._methods.get(method)
            if called is None:
                raise FormatError(
                    f"the running node does not know {method!r}",
                    "Restart it: it is of another version than this tally",
                )
            answer = _encode(await called(**decode_parameters(body)))
            if len(answer) > BODY_BYTES_MAX:
                raise InputError(
                    f"the answer to {method} has {len(answer)} bytes, {BODY_BYTES_MAX} are allowed",
                    "Ask for less at once",
                )
        except TallyError as error:
            return _failed(type(error).__name__, error.message, error.advice)
        except Exception:  # noqa: BLE001 - one request must not take the node with it
            _log.exception("a request failed inside the node", extra={"method": method})
            message = f"{method} failed inside the node; its log says why"
            return _failed("TallyError", message, "Please report it")
        return 200, answer


def _failed(kind: str, message: str, advice: str) -> tuple[int, bytes]:
    return 500, _encode((kind, message, advice))
