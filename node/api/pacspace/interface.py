"""The door of this interface: paths, keys and errors in the form that the client reads.

A key is checked before anything else is looked at, so that nobody without one learns what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Mounted
from starlette.types import Receive, Scope, Send

from tallystick.node.api.app import world_of
from tallystick.node.api.keys import ApiKey
from tallystick.node.api.limits import read_body
from tallystick.node.api.pacspace import (
    checkpoints,
    deliveries,
    deriving,
    elsewhere,
    emitting,
    overview,
    proving,
    verifying,
)
from tallystick.node.api.pacspace.calls import NOBODY, Call, Route, Template
from tallystick.node.api.pacspace.closed import Closed
from tallystick.node.api.pacspace.customers import Customers
from tallystick.node.api.pacspace.idempotency import Answers, key_hash
from tallystick.node.api.pacspace.wire import Refusal, bad, missing, refusal_of, refused, succeeded
from tallystick.node.books import Books

PREFIXES = ("/api/v1/", "/dashboard/")
_QUERY_MAX = 100

_BALANCE = ("api", "v1", "balance")

ROUTES: tuple[Route, ...] = (
    Route("GET", ("api", "v1", "verify", "*"), (), verifying.verify),
    Route("POST", (*_BALANCE, "delta"), ("emit",), emitting.emit, once=True),
    Route("POST", (*_BALANCE, "delta", "batch"), ("emit",), emitting.batch, once=True),
    # Whoever emits may see what became of it.
    Route("GET", (*_BALANCE, "delta", "*"), ("emit", "read"), emitting.show),
    Route("GET", (*_BALANCE, "derive", "*"), ("read",), deriving.derive),
    Route("POST", (*_BALANCE, "compare"), ("read",), deriving.compare),
    Route("POST", (*_BALANCE, "checkpoint"), ("admin",), checkpoints.make, once=True),
    Route("GET", (*_BALANCE, "checkpoints"), ("read",), checkpoints.show_list),
    Route("GET", (*_BALANCE, "receipt", "*"), ("read",), proving.receipt),
    Route("GET", (*_BALANCE, "invoice-proof", "*"), ("read",), proving.invoice),
    Route("GET", (*_BALANCE, "customers"), ("read",), overview.show_list),
    Route("GET", (*_BALANCE, "customers", "*"), ("read",), overview.show),
    Route("GET", (*_BALANCE, "usage"), ("emit", "read"), overview.usage),
    Route("GET", (*_BALANCE, "gaps", "*"), ("read",), overview.gaps),
    Route("GET", (*_BALANCE, "webhooks"), ("read",), deliveries.show_list),
    Route("POST", (*_BALANCE, "webhooks", "*", "retry"), ("admin",), deliveries.retry),
    Route("POST", ("dashboard", "customers"), ("admin",), elsewhere.make_customer),
)


class Interface:
    """Serves the interface to the node's application, over both of its doors."""

    def __init__(self, books: Books) -> None:
        self._customers = Customers(books, books.config.pacspace)
        self._closed = Closed()
        self._answers = Answers(books.store, books.clock_us)
        self.routes: Sequence[BaseRoute] = [
            Mounted(f"{prefix}{{rest:path}}", self) for prefix in PREFIXES
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - one request must not take the node with it
            response = refused(refusal_of(error))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        segments = _segments(request)
        public = [route for route in ROUTES if not route.scopes]
        caller: ApiKey | None = request.scope.get("state", {}).get("caller")
        if segments[:3] == ["api", "v1", "c"]:
            raise elsewhere.no_records()
        for route in public:
            if request.method == route.method and route.fits(segments):
                return await self._run(request, route, segments, caller or NOBODY)
        if caller is None:
            raise Refusal(
                401,
                "this needs a key, and the request has none that is known here."
                " Make one: tally keys add NAME",
            )
        if segments[:3] == ["api", "v1", "records"]:
            raise elsewhere.no_records()
        fitting = [route for route in ROUTES if route.scopes and route.fits(segments)]
        for route in fitting:
            if request.method == route.method:
                if not any(caller.may(scope) for scope in route.scopes):
                    wanted = " or ".join(route.scopes)
                    raise Refusal(
                        403,
                        f"the key {caller.name} lacks the scope {wanted}",
                        "INSUFFICIENT_SCOPE",
                    )
                return await self._run(request, route, segments, caller)
        if fitting:
            raise Refusal(405, f"{request.method} is not taken here", "METHOD_NOT_ALLOWED")
        raise missing(f"there is nothing at {request.url.path[:200]}")

    async def _run(
        self, request: Request, route: Route, segments: Sequence[str], caller: ApiKey
    ) -> Response:
        request.scope["route"] = Template(route.template)
        ids = route.ids(segments)
        if "" in ids:
            raise bad("the id in the path is empty")
        body = await read_body(request) if request.method == "POST" else b""
        named = request.headers.get("idempotency-key")
        once = key_hash(caller, named) if route.once and named is not None else b""
        call = Call(
            world_of(request),
            self._customers,
            self._closed,
            request,
            caller,
            ids,
            _query(request),
            body,
            once,
        )

        async def run() -> Response:
            return succeeded(await route.handler(call))

        if not once:
            return await run()
        asked = sha256(f"{request.method} {request.url.path}\n".encode() + body).digest()
        return await self._answers.once(once, asked, run)


def _segments(request: Request) -> list[str]:
    """The path's segments, each decoded once: an id may hold what looks like a slash."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    try:
        return [unquote_to_bytes(part).decode() for part in raw.split(b"?")[0].split(b"/")[1:]]
    except UnicodeDecodeError:
        raise bad("the path is not UTF-8") from None


def _query(request: Request) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_QUERY_MAX,
        )
    except ValueError:
        raise bad("the query cannot be read") from None
    return dict(pairs)
