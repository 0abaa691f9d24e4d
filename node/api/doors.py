"""The doors of the HTTP interface: who comes in, and as whom.

The home's Unix socket lets its owner in. TCP asks for a key before it looks at anything else, but
where a path is open to all or checks its callers itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.node.api import problems
from tallystick.node.api.keys import OWNER, ApiKey, ApiKeys
from tallystick.node.api.limits import Limits
from tallystick.node.api.problems import Refused


class OwnersDoor:
    """The home's Unix socket: whoever reaches it can read the home itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = OWNER
            await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class KeyedDoor:
    """TCP. `open_paths` need no key; what begins with one of `own_rules` checks its callers itself.
    `refusals` say what is refused here in the form of what begins with a prefix.

    `hosts` are the names in the header Host that are ours: a page elsewhere whose name leads here
    must not reach us through a person's browser.
    """

    app: ASGIApp
    keys: ApiKeys
    limits: Limits
    hosts: frozenset[str]
    open_paths: frozenset[str]
    own_rules: tuple[str, ...]
    refusals: Mapping[str, Callable[[Refused], Response]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        try:
            headers = Headers(scope=scope)
            self._check_host(headers.get("host", ""))
            caller = key_of(headers, self.keys)
            if caller is None and not self._lets_strangers(scope["path"]):
                raise Refused(
                    401,
                    "this needs a key, and the request has none that is known here",
                    "Make one (tally keys add NAME) and send it as: Authorization: Bearer KEY",
                    {"WWW-Authenticate": 'Bearer realm="tallystick"'},
                )
            scope.setdefault("state", {})["caller"] = caller
            async with self.limits.hold(caller.id if caller else "strangers"):
                await self.app(scope, receive, send)
        except Refused as refused:
            # Only what was refused before the application began to answer arrives here.
            await self._say(scope["path"], refused)(scope, receive, send)

    def _say(self, path: str, refused: Refused) -> Response:
        for prefix, say in self.refusals.items():
            if path.startswith(prefix):
                return say(refused)
        return problems.problem(refused.status, "", refused.detail, refused.advice, refused.headers)

    def _check_host(self, host: str) -> None:
        before, _, port = host.rpartition(":")
        name = before if port.isdigit() else host
        if name.lower() not in self.hosts:
            raise Refused(
                421, f"this node is not called {name[:100]!r}", "See http.hosts in config.toml"
            )

    def _lets_strangers(self, path: str) -> bool:
        return path in self.open_paths or path.startswith(self.own_rules)


def key_of(headers: Headers, keys: ApiKeys) -> ApiKey | None:
    """The key that a request brings, in either header; None if it brings none that is ours."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found = keys.find(token.strip())
        if found is not None:
            return found
    presented = headers.get("x-api-key", "")
    return keys.find(presented) if presented else None
