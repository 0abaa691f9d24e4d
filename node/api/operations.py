"""What an operation of the HTTP interface is: its path, who may, what it takes and gives.

Routes, checks of keys and the OpenAPI document are all made of these, so none can be forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node.api import problems
from tallystick.node.api.keys import ApiKey, Scope
from tallystick.node.api.problems import Refused
from tallystick.protocol.errors import InputError

JSON = "application/json"
_encode = msgspec.json.Encoder().encode

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query, which may always be left out."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `takes` and `gives` are media types with the type of what is in them, a tuple
    of types for one of these.
    """

    method: str
    path: str
    scope: Scope | None  # None: open to all
    summary: str
    handler: Handler
    query: Sequence[Parameter] = ()
    takes: Mapping[str, Any] = field(default_factory=dict)
    gives: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


def caller_of(request: Request) -> ApiKey:
    """Whose key a request came with."""
    found: ApiKey = request.scope["state"]["caller"]
    return found


def guarded(operation: Operation) -> Handler:
    """The operation's handler, for those alone who may."""

    async def handle(request: Request) -> Response:
        try:
            if operation.scope is not None:
                _check_scope(request, operation.scope)
                _check_query(request, operation)
            return await operation.handler(request)
        except Exception as error:  # noqa: BLE001 - one request must not take the node with it
            return await problems.answer(request, error)

    return handle


def _check_scope(request: Request, scope: Scope) -> None:
    caller = caller_of(request)
    if not caller.may(scope):
        raise Refused(
            403,
            f"the key {caller.name} lacks the scope {scope}",
            f"Make one: tally keys add NAME --scope {scope}",
        )


def _check_query(request: Request, operation: Operation) -> None:
    known = [parameter.name for parameter in operation.query]
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InputError(f"there is no parameter {name!r} here", f"Known: {listed}")


def answer_json(document: object, status: int = 200) -> Response:
    """A JSON document as an answer."""
    return Response(_encode(document), status, media_type=JSON)


def flag(request: Request, name: str) -> bool:
    """A parameter that is `true` or `false`; absent is false."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise InputError(f"{name}={text!r} is neither true nor false")
    return text == "true"


def whole_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A parameter that is a whole number within bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise InputError(f"{name}={text[:40]!r} is no whole number from {least} to {most}")
    return int(text)
