"""Which connection of a peer counts: one at a time, and one process of each party.

A newer connection of the same process takes the older one's place. Two processes of one party are
another matter: it crashed and was started again, or there are two copies of it. So the older one is
asked first whether it is still there. If it answers, the newer one is refused.
"""

from __future__ import annotations

import logging

import trio

from tallystick.node.fencing import Outdated
from tallystick.node.link import Link
from tallystick.node.store.keyspace import FenceRow
from tallystick.protocol.errors import PeerBreach
from tallystick.protocol.items import Carried
from tallystick.protocol.messages import Hearsay, Presence

ANSWER_SECONDS = 5  # in which a process that lives says so

_log = logging.getLogger("tallystick.admitting")


class Admission:
    """Decides about the links of one node; `links` has those that count, by peer."""

    def __init__(self, party: str) -> None:
        self.links: dict[str, Link] = {}
        self._party = party
        self._arriving: dict[str, Link] = {}  # beside one that still counts

    def enter(self, link: Link) -> bool:
        """Whether a new connection may introduce itself."""
        existing = self.links.get(link.peer)
        if link.peer in self._arriving:
            return False
        if existing is None:
            self.links[link.peer] = link
        else:
            self._arriving[link.peer] = link
        return True

    def leave(self, link: Link) -> bool:
        """A connection ended; whether it was the one that counted."""
        if self._arriving.get(link.peer) is link:
            del self._arriving[link.peer]
        counted = self.links.get(link.peer) is link
        if counted:
            del self.links[link.peer]
        return counted

    async def admit(self, link: Link, presence: Presence) -> None:
        """Return once the link counts; `PeerBreach` if another process of its party is there."""
        existing = self.links.get(link.peer)
        if existing is link:
            return
        if existing is not None and existing.live:
            assert existing.presence is not None
            other = existing.presence.incarnation != presence.incarnation
            if not other and self._prefers(existing, link):
                link.close("the other connection is kept")
                await trio.sleep_forever()
            if other and await _answers(existing):
                _tell_both(existing, link, presence)
                raise PeerBreach(
                    "twins",
                    f"another process of {link.peer} is connected, and answers",
                    "Is this a copy of a home that is in use? Only one may run: see tally status",
                )
        if existing is not None:
            existing.close("replaced by a newer connection")
            await existing.ended.wait()
        self._arriving.pop(link.peer, None)
        self.links[link.peer] = link

    async def dismiss(self, link: Link, fence: FenceRow) -> None:
        """End all other connections of a peer, whose node another one took over from."""
        others = [self.links.get(link.peer), self._arriving.get(link.peer)]
        for other in others:
            if other is not None and other is not link:
                await other.part(Outdated(link.peer, fence))
                await other.ended.wait()

    def _prefers(self, existing: Link, new: Link) -> bool:
        """When both dial at once both keep the connection that the first name dialled."""
        if existing.dialled == new.dialled:
            return False  # the same side dialled again: the older one is dead
        first_dials = self._party < existing.peer
        return existing.dialled == first_dials


def _tell_both(existing: Link, link: Link, presence: Presence) -> None:
    """Hand each of two copies what the other one signed: that alone convinces them."""
    assert existing.presence is not None
    for to, item in ((link, existing.presence.item), (existing, presence.item)):
        if item is not None:
            to.send(Hearsay([Carried(0, item)], []))


async def _answers(link: Link) -> bool:
    """Whether the process at the other end is still there."""
    link.ask_presence()
    heard = link.presence_heard
    with trio.move_on_after(ANSWER_SECONDS):
        await heard.wait()
    return heard.is_set() and link.live
