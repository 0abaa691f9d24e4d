"""The application behind the doors: the operations, the document of them, and other routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from tallystick.node.api import openapi, problems
from tallystick.node.api.keys import ApiKeys
from tallystick.node.api.operations import Handler, Operation, answer_json, guarded
from tallystick.node.api.reading import Reader
from tallystick.node.intake.sink import EventSink
from tallystick.node.node import Node
from tallystick.node.service import Service
from tallystick.node.telemetry.monitor import Monitor
from tallystick.node.verifier.page import verifier_page, verifier_policy

# No page of ours needs anything from elsewhere, and none may be shown inside another.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class World:
    """What the routes work with. `nursery` is for what must end though its caller went away."""

    node: Node
    service: Service
    reader: Reader
    keys: ApiKeys
    monitor: Monitor
    events: EventSink
    nursery: trio.Nursery


def world_of(request: Request) -> World:
    """What a route works with."""
    found: World = request.app.state.world
    return found


def build(world: World, operations: Sequence[Operation], others: Sequence[BaseRoute]) -> Starlette:
    """The application of some operations and other routes."""
    described = cache(lambda: openapi.document(operations))  # not made until somebody asks

    async def show_document(request: Request) -> Response:
        return answer_json(described())

    async def show_page(request: Request) -> Response:
        return HTMLResponse(openapi.page(described()), headers=PAGE_HEADERS)

    async def show_verifier(request: Request) -> Response:
        policy = {"Content-Security-Policy": f"{verifier_policy()}; frame-ancestors 'none'"}
        return HTMLResponse(verifier_page(), headers=PAGE_HEADERS | policy)

    routes: list[BaseRoute] = [
        Route("/openapi.json", show_document),
        Route("/docs", show_page),
        Route("/verify", show_verifier),
        *others,
        *_routes(operations),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: problems.answer})
    app.router.default = _nothing_here
    app.router.redirect_slashes = False
    app.state.world = world
    app.state.config = world.node.books.config.http
    return app


def _routes(operations: Sequence[Operation]) -> list[Route]:
    """One route a path, so that a method which it does not take is told all that it takes."""
    by_path: dict[str, dict[str, Handler]] = {}
    for one in operations:
        by_path.setdefault(one.path, {})[one.method] = guarded(one)

    def chosen(handlers: dict[str, Handler]) -> Handler:
        async def handle(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            return await handlers[method](request)

        return handle

    return [Route(path, chosen(by), methods=list(by)) for path, by in by_path.items()]


def open_paths(operations: Sequence[Operation]) -> frozenset[str]:
    """The paths that need no key."""
    return frozenset({"/openapi.json", "/docs", "/verify"}) | {
        one.path for one in operations if one.scope is None
    }


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    answer = problems.problem(404, "", f"there is nothing at {scope['path'][:200]}", "See /docs")
    await answer(scope, receive, send)
