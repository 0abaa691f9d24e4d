"""Requests counted by the template of their route, never by their path, so that nobody outside can
make series without end.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.node.telemetry.counts import SECONDS, Histogram

if TYPE_CHECKING:
    from tallystick.node.api.plain import Answer
    from tallystick.node.telemetry.collector import Samples

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
ROUTES_MAX = 300
NO_ROUTE, OTHER = "none", "other"


class HttpCounts:
    """What was asked over HTTP, and how long it took."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._seconds: dict[str, Histogram] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        if route not in self._seconds and len(self._seconds) >= ROUTES_MAX:
            route = OTHER
        method = method if method in METHODS else OTHER
        self._requests[method, route, str(status)] += 1
        self._seconds.setdefault(route, Histogram(SECONDS)).observe(seconds)

    def put(self, samples: Samples) -> None:
        """Hand everything to a scrape."""
        for labels, count in list(self._requests.items()):
            samples.put("http_requests_total", count, *labels)
        for route, seconds in list(self._seconds.items()):
            samples.histogram("http_request_seconds", seconds, (route,))

    def counting(self, answer: Answer, route: str) -> Answer:
        """The same, with its requests counted as those of a route."""

        async def counted(method: str, body: bytes) -> tuple[int, bytes]:
            began = time.perf_counter()
            found = await answer(method, body)
            self.count("POST", route, found[0], time.perf_counter() - began)
            return found

        return counted

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The app, with its requests counted. An answer's time ends with its last byte."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began = time.perf_counter()
            status = 500  # of an app that fails before it answers

            async def noting(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noting)
            finally:
                taken = time.perf_counter() - began
                self.count(scope["method"], template_of(scope), status, taken)

        return counted


def template_of(scope: Scope) -> str:
    """The template of the route that a request took, as in /v1/channels/{channel}."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else NO_ROUTE
