"""What the command line may ask of a running node about reconciliation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tallystick.node.errors import PeerUnreachable
from tallystick.node.node import Node
from tallystick.node.reconciling.sets import PreparedSet


class Reconciling:
    """The methods, by name in `methods`."""

    def __init__(self, node: Node) -> None:
        self._books = node.books
        self._links = node.peering.links
        self._home = node.home.path
        self._reconciler = node.peering.reconciler
        self.methods: Mapping[str, Callable[..., Awaitable[object]]] = {
            "reconcile": self.reconcile,
            "reconcile_state": self.state,
            "reconcile_offer": self.offer,
            "reconcile_offers": self.offers,
            "reconcile_session_of": self.session_of,
            "reconcile_withdraw": self.withdraw,
        }

    async def reconcile(self, channel: str | None, name: str) -> dict[str, Any]:
        """Begin a session with the prepared set of that name."""
        found, _ = self._books.channels[self._books.select(channel, ("open",))]
        peer = found.peer_keys.name
        link = self._links.get(peer)
        if link is None or not link.live or not found.live:
            raise PeerUnreachable(
                f"{peer} is not connected", "A session needs both nodes: see tally status"
            )
        run = self._reconciler.ask(found, link, name)
        return {"session": run.session.hex()}

    async def state(self, session: str) -> dict[str, Any]:
        """How a session stands, or how it ended."""
        run = self._reconciler.run_of(bytes.fromhex(session))
        stopped = run.stopped
        return {
            **asdict(run.look()),
            "ended": run.ended.is_set(),
            "stopped": stopped.message if stopped else "",
            "advice": stopped.advice if stopped else "",
        }

    async def offer(self, name: str) -> dict[str, Any]:
        """Let a prepared set stand as an offer."""
        offer = PreparedSet(self._home / "reconciling" / name)
        self._reconciler.consents.add(offer)
        return _offer(offer)

    async def offers(self) -> list[dict[str, Any]]:
        """The offers that stand."""
        return [_offer(offer) for offer in self._reconciler.consents.offers()]

    async def session_of(self, name: str) -> dict[str, Any]:
        """The session that used an offer, once there is one."""
        return {"session": self._reconciler.session_with(name)}

    async def withdraw(self, name: str) -> dict[str, Any]:
        """End an offer."""
        return _offer(self._reconciler.consents.withdraw(name))


def _offer(offer: PreparedSet) -> dict[str, Any]:
    about = offer.about
    expires_at = datetime.fromtimestamp(about.expires_at_s, UTC)
    return {
        "offer": offer.name,
        "peer": about.peer,
        "period": about.period,
        "rows": about.rows,
        "opens_max": about.opens_max,
        "expires_at": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
