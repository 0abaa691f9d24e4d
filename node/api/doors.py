"""The doors of the HTTP interface: who comes in, and as whom.

The home's Unix socket lets its owner in. TCP asks for a key before it looks at anything else, but
where a path is open to all or checks its callers itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.node.api import problems
from tallystick.node.api.connections import place_of
from tallystick.node.api.keys import OWNER, ApiKey, ApiKeys
from tallystick.node.api.limits import Limits
from tallystick.node.api.problems import Refused
from tallystick.node.api.reading import ASKER
from tallystick.node.errors import HomeError

STRANGERS = "strangers"  # who share what one caller may ask

_log = logging.getLogger("tallystick.api")


class OwnersDoor:
    """The home's Unix socket: whoever reaches it can read the home itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["caller"] = OWNER
        with place_of(scope).work(known=True):
            await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class KeyedDoor:
    """TCP. `open_paths` need no key; what begins with one of `own_rules` checks its callers itself.
    `refusals` say what is refused here in the form of what begins with a prefix; `visitor` names
    whoever is known without a key.

    `hosts` are the names in the header Host that are ours: a page elsewhere whose name leads here
    must not reach us through a person's browser.
    """

    app: ASGIApp
    keys: ApiKeys
    limits: Limits
    hosts: frozenset[str]
    open_paths: frozenset[str]
    own_rules: tuple[str, ...]
    refusals: Mapping[str, Callable[[Refused], Response]] = field(default_factory=dict)
    visitor: Callable[[Scope], str | None] = lambda scope: None
    said: list[str] = field(default_factory=lambda: [""])  # what is wrong with the keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            self._check_host(headers.get("host", ""))
            caller = self._caller(headers)
            place = place_of(scope)
            if caller is None and not self._lets_strangers(scope["path"]):
                place.known = False
                raise Refused(
                    401,
                    "this needs a key, and the request has none that is known here",
                    "Make one (tally keys add NAME) and send it as: Authorization: Bearer KEY",
                    {"WWW-Authenticate": 'Bearer realm="tallystick"'},
                )
            scope["state"]["caller"] = caller
            name = caller.id if caller else self.visitor(scope)
            ASKER.set(name or STRANGERS)
            async with self.limits.hold(name or STRANGERS):
                with place.work(known=name is not None):
                    await self.app(scope, receive, send)
        except Refused as refused:
            # Only what was refused before the application began to answer arrives here.
            await self._say(scope["path"], refused)(scope, receive, send)

    def _say(self, path: str, refused: Refused) -> Response:
        for prefix, say in self.refusals.items():
            if path.startswith(prefix):
                return say(refused)
        return problems.problem(refused.status, "", refused.detail, refused.advice, refused.headers)

    def _caller(self, headers: Headers) -> ApiKey | None:
        try:
            return key_of(headers, self.keys)
        except HomeError as error:
            # Anybody can ask: what is wrong is said to the log, and only when it changes.
            if error.message != self.said[0]:
                self.said[0] = error.message
                _log.error("no key opens anything: %s", error)
            raise Refused(
                503,
                "the keys of this node cannot be read; its log says why",
                "On the machine of the node, tally keys says what is wrong with them",
                {"Retry-After": str(problems.RETRY_SECONDS)},
            ) from None

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
