"""The process of a standby: it follows its primary, answers who asks, and can be promoted.

It signs nothing and speaks with no peer. Queries of the command line read its store as they read
that of any node; what only a running node can do is refused, with where the primary is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

import trio
from starlette.applications import Starlette

from tallystick.node.api.connections import Connections
from tallystick.node.api.doors import OwnersDoor
from tallystick.node.api.rpc import Rpc
from tallystick.node.api.server import OWNERS_CONNECTIONS_MAX, serve_socket
from tallystick.node.books import clock_us
from tallystick.node.config import load_config
from tallystick.node.home import Home
from tallystick.node.process import on_signal
from tallystick.node.settings import flat
from tallystick.node.standby.applying import Mirrored
from tallystick.node.standby.following import Following
from tallystick.node.standby.mode import primary_of
from tallystick.node.standby.promoting import promote
from tallystick.node.standby.reads import Reads
from tallystick.node.store.disk import Store
from tallystick.node.telemetry.supervisor import Supervisor
from tallystick.node.transport import tls
from tallystick.protocol.errors import InputError
from tallystick.protocol.keys import Identity

DIAL_SECONDS = 10.0
ANSWER_SECONDS = 0.5  # for the answer to a promotion to get out

_log = logging.getLogger("tallystick.standby")

Method = Callable[..., Awaitable[object]]


async def serve_standby(home: Home, identity: Identity) -> bool:
    """Serve a standby's home until told to stop; whether it was promoted."""
    store = Store(home.store_path)
    try:
        standby = Standby(home, identity, store)
        await standby.run()
        return standby.promoted.is_set()
    finally:
        store.close()


class Standby:
    """One standby. `run` serves until it is told to stop, or promoted."""

    def __init__(self, home: Home, identity: Identity, store: Store) -> None:
        primary = primary_of(home)
        assert primary is not None
        self.home = home
        self.identity = identity
        self.store = store
        self.promoted = trio.Event()
        self.following = Following(home, Mirrored(store, home.path / "ids"), primary, self._dial)
        self.reads = Reads(home, identity, self.following.mirrored, self._live, self.health)
        self._promoting = False
        self._supervisor = Supervisor()
        self.methods = _Methods(
            {
                "live": self.live,
                "promote": self.promote,
                "health": self.health,
                "settings": self.settings,
            },
            primary,
        )

    async def run(self) -> None:
        """Serve."""

        async def stop() -> None:
            self._supervisor.stopping()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            await nursery.start(on_signal, stop)
            rpc = Rpc(self.methods, nursery)
            door = OwnersDoor(Starlette(routes=rpc.routes))
            owners = Connections(door, OWNERS_CONNECTIONS_MAX, rpc.call)
            await nursery.start(serve_socket, owners, self.home.socket_path)
            nursery.start_soon(self.following.run)
            nursery.start_soon(self.reads.serve)
            if self._supervisor.ping_seconds:
                nursery.start_soon(self._ping)
            primary = self.following.primary
            print(f"standby {self.identity.name} {primary}", flush=True)  # noqa: T201
            self._supervisor.ready(f"standby of {self.identity.name} at {primary}")
            await self.promoted.wait()
            await trio.sleep(ANSWER_SECONDS)
            nursery.cancel_scope.cancel()

    async def _dial(self) -> tls.PeerStream:
        """Connect to the primary: both sides show the party's own key."""
        own = tls.certificate_der(self.identity.name, self.identity.transport)
        context = tls.session_context(
            self.identity, own, own, self.home.path, alpn=tls.ALPN_STANDBY
        )
        key = self.identity.transport_key
        return await tls.dial(self.following.primary, context, key, DIAL_SECONDS)

    async def _ping(self) -> None:
        while True:
            self._supervisor.alive()
            await trio.sleep(self._supervisor.ping_seconds)

    # What may be asked

    async def live(self) -> dict[str, Any]:
        """What only the running process knows; there are no links, for it has none."""
        return self._live()

    def _live(self) -> dict[str, Any]:
        return {
            "address": None,
            "http": self.reads.address or None,
            "channels": {},
            "peers": {},
            "standby": self.document(),
            "timestamps": None,
        }

    def document(self) -> dict[str, Any]:
        """How it stands, for people and programs."""
        following = self.following
        heard = following.heard_at
        return {
            "role": "standby",
            "primary": following.primary,
            "connected": following.connected,
            "in_step": following.connected and not following.catching_up,
            "complete": bool(following.mirrored.line),
            "lag_commits": None,
            "wait": following.waited_for,
            "alone": False,
            "heard_seconds": None if heard is None else round(trio.current_time() - heard, 1),
            "problem": following.said,
        }

    async def health(self) -> dict[str, Any]:
        """Whether it does what a standby is for."""
        following = self.following
        problems = []
        if not following.connected:
            problems.append(f"the primary is not followed: {following.said or 'not yet'}")
        unready = [] if following.mirrored.line else ["nothing is mirrored yet"]
        return {
            "healthy": not problems,
            "problems": problems,
            "ready": not unready,
            "unready": unready,
            "degraded": [],
        }

    async def settings(self) -> dict[str, Any]:
        """The settings that would be in force."""
        return {"settings": flat(load_config(self.home.config_path)), "flags": {}}

    async def promote(self) -> dict[str, Any]:
        """Take over from the primary: from now on this home is a node's own."""
        if self._promoting:
            raise InputError("it is being promoted already")
        self._promoting = True
        try:
            generation, told = await promote(self.identity, self.following, clock_us())
        finally:
            self._promoting = False
        _log.warning("this standby takes over", extra={"generation": generation})
        self.promoted.set()
        return {"generation": generation, "primary_stopped": told}


class _Methods(dict[str, Method]):
    """The methods by name; any other is refused as what a standby does not do."""

    def __init__(self, methods: dict[str, Method], primary: str) -> None:
        super().__init__(methods)
        self._primary = primary

    def get(self, name: str, default: Any = None) -> Any:
        """The method, or one that refuses."""
        return super().get(name, self._refuse)

    async def _refuse(self, **parameters: object) -> NoReturn:
        with suppress(KeyError):
            parameters.pop("channel")
        raise InputError(
            f"this is the home of a standby, which only reads; its primary is at {self._primary}",
            "Ask the primary; or, if it is gone for good: tally promote",
        )
