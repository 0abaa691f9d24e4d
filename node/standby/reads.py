"""The HTTP interface of a standby: what only reads, answered from the store as it was mirrored.

Each answer comes from a view: the books as they were at a moment. A newer one is opened, on a
thread, when somebody asks and commits came since. What would record is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.node.api import problems
from tallystick.node.api.app import World, build, open_paths
from tallystick.node.api.connections import Connections
from tallystick.node.api.doors import KeyedDoor
from tallystick.node.api.keys import ApiKeys
from tallystick.node.api.limits import Limits
from tallystick.node.api.listening import hosts_of, listen
from tallystick.node.api.operations import JSON, Operation, answer_json
from tallystick.node.api.reading import Reader
from tallystick.node.api.routes import balances, channels, closing, deltas, disputes, statements
from tallystick.node.api.routes.observing import Health
from tallystick.node.books import Books, clock_us
from tallystick.node.config import load_config
from tallystick.node.home import Home
from tallystick.node.standby.applying import Mirrored
from tallystick.protocol.keys import Identity

FRESH_SECONDS = 0.5  # a view may be so old
PAUSES_A_VIEW = 10  # or so many times as old as it took to open it

_log = logging.getLogger("tallystick.api")


@dataclass(slots=True)
class _Shown:
    """What the routes that read need of a node and its service."""

    books: Books
    said: Callable[[], dict[str, Any]]

    async def live(self) -> dict[str, Any]:
        """See `Service.live`."""
        return self.said()


class View:
    """The books at a moment, and the application that reads them."""

    def __init__(self, books: Books, number: int, app: ASGIApp) -> None:
        self.books, self.number, self.app = books, number, app
        self.made_at = trio.current_time()
        self.users = 0
        self.stale = False

    def release(self) -> None:
        """Close it once nobody needs it."""
        if self.stale and not self.users:
            self.books.close()


class Reads:
    """Serves what reads of one standby. `said` is how it stands, as `tally status` shows it;
    `problems` what is wrong with it.
    """

    def __init__(
        self,
        home: Home,
        identity: Identity,
        mirrored: Mirrored,
        said: Callable[[], dict[str, Any]],
        ills: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self.address = ""
        self._home, self._identity, self._mirrored = home, identity, mirrored
        self._said, self._ills = said, ills
        self._config = load_config(home.config_path)
        self._keys = ApiKeys(home)
        health = Operation(
            "GET", "/healthz", None, "Whether the primary is followed.", self._health,
            gives={JSON: Health},
        )  # fmt: skip
        modules = (channels, deltas, balances, closing, statements, disputes)
        native = [one for module in modules for one in module.OPERATIONS if one.method == "GET"]
        self._offered = [*native, health]
        self._view: View | None = None
        self._opening = trio.Lock()
        self._pause = FRESH_SECONDS

    async def serve(self) -> None:
        """Serve until cancelled, if the configuration says where."""
        config = self._config.http
        if not config.listen:
            return
        listeners, self.address = await listen("http", config.listen, remote=config.remote)
        _log.info("HTTP for programs that read", extra={"address": self.address})
        door = KeyedDoor(
            self._answer,
            self._keys,
            Limits(config),
            hosts_of(config),
            open_paths(self._offered),
            (),
        )
        try:
            await Connections(door, config.connections).serve(listeners)
        finally:
            if self._view is not None:
                self._view.stale, self._view.users = True, 0
                self._view.release()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            refused = problems.problem(
                409, "InputError", "this is a standby, which only reads", "Ask the primary"
            )
            await refused(scope, receive, send)
            return
        view = await self._newest()
        view.users += 1
        try:
            await view.app(scope, receive, send)
        finally:
            view.users -= 1
            view.release()

    async def _newest(self) -> View:
        """A view that is new enough."""
        async with self._opening:
            view, number = self._view, self._mirrored.number
            if view is not None and (
                view.number == number or trio.current_time() < view.made_at + self._pause
            ):
                return view
            began = trio.current_time()
            books = await trio.to_thread.run_sync(self._open)
            self._pause = max(FRESH_SECONDS, PAUSES_A_VIEW * (trio.current_time() - began))
            shown = _Shown(books, self._said)
            world = World(
                cast(Any, shown), cast(Any, shown), Reader(books), self._keys,
                cast(Any, None), cast(Any, None), cast(Any, None),
            )  # fmt: skip
            made = View(books, number, build(world, self._offered, []))
            self._view = made
            if view is not None:
                view.stale = True
                view.release()
            return made

    def _open(self) -> Books:
        store = self._mirrored.store.moment()
        return Books(self._config, self._identity, store, self._mirrored.folder, clock_us)

    async def _health(self, request: Request) -> Response:
        found = await self._ills()
        document = {"healthy": found["healthy"], "problems": found["problems"]}
        return answer_json(document, 200 if found["healthy"] else 503)
