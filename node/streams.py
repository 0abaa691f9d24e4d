"""What a link needs of the world around it: a stream to the peer, and whoever owns the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tallystick.node.channel import Channel
    from tallystick.node.link import Link
    from tallystick.protocol.messages import (
        Accusation,
        Fenced,
        Hearsay,
        Hello,
        InFounding,
        InReconciliation,
        Message,
        Presence,
    )


class Stream(Protocol):
    """An authenticated connection."""

    async def send(self, data: bytes) -> None:
        """Send all; `PeerUnreachable` if the peer is gone."""

    async def receive(self) -> bytes:
        """What arrived; empty at the end."""

    async def aclose(self) -> None:
        """Close it."""


class Owner(Protocol):
    """What a link needs of the node: decisions about whole channels."""

    def presence(self, *, asks: bool = False) -> Presence:
        """Which process of ours this is, said now."""

    def introduction(self, hello: Hello) -> list[Message]:
        """What is said first: the hello, and which process of ours this is."""

    def fenced(self, link: Link, message: Fenced) -> None:
        """The peer says that another node of our party took over."""

    async def admit(self, link: Link, presence: Presence) -> None:
        """The peer said which process speaks: returns once this link is the one that counts;
        `PeerBreach` if it may not.
        """

    async def greeted(self, link: Link, hello: Hello) -> None:
        """The peer is admitted: say what it may have missed, and which channels are open."""

    async def channels_open(self, link: Link, listed: list[bytes]) -> None:
        """The peer said which channels are open there."""

    async def handle_terms(self, link: Link, message: InFounding) -> None:
        """Founding of channels."""

    def hearsay(self, link: Link, message: Hearsay) -> None:
        """The peer passes gossip on; never waits."""

    async def accused(self, link: Link, message: Accusation) -> None:
        """The peer sends evidence."""

    def reconcile(self, link: Link, channel: Channel, message: InReconciliation) -> None:
        """The peer says something in a reconciliation session; never waits."""

    async def halt(self, channel: Channel, reason: str) -> None:
        """Stop a channel durably."""

    async def set_doubt(self, channel: Channel, doubt: int) -> None:
        """Keep durably how certain it is what we signed last."""
