"""Peers that fall silent: who was not connected for a while, and when it is back.

That a peer is silent was told is kept in the store, so a node that starts again neither says it
twice nor forgets to say that the peer is back.
"""

from __future__ import annotations

import trio

from tallystick.node.feed.events import iso_s
from tallystick.node.feed.feed import Feed
from tallystick.node.peering import Peering
from tallystick.node.waiting import any_of

LOOK_SECONDS = 1.0
PAUSES_A_LOOK = 50  # so many times as long as a look took: with many peers looks are rarer


class Silence:
    """Watches the links of one node; after `after_seconds` without one a peer is silent."""

    def __init__(self, feed: Feed, peering: Peering, after_seconds: float) -> None:
        self._feed, self._peering = feed, peering
        self._after_seconds = after_seconds
        with peering.books.store.read() as txn:
            scan = list(txn.scan("silent", b"", b"\xff" * 254))
        self._silent = {key.decode(): value.decode() for key, value in scan}
        self._heard: dict[str, tuple[float, int]] = {}  # by trio's clock, and the world's (µs)

    async def run(self) -> None:
        """Watch, for as long as the node runs."""
        while True:
            began = trio.current_time()
            self._look()
            pause = max(LOOK_SECONDS / 10, PAUSES_A_LOOK * (trio.current_time() - began))
            await any_of([self._peering.changed], LOOK_SECONDS)
            await trio.sleep(pause)

    def _look(self) -> None:
        now, now_us = trio.current_time(), self._peering.books.clock_us()
        for name in self._peering.books.peers:
            link = self._peering.links.get(name)
            heard, heard_us = self._heard.setdefault(name, (now, now_us))
            if link is not None and link.live:
                self._heard[name] = (now, now_us)
                since = self._silent.pop(name, None)
                if since is not None:
                    self._feed.tell_of_peer("peer.back", name, {"since": since}, silent=False)
            elif name not in self._silent and now - heard >= self._after_seconds:
                since = self._silent[name] = iso_s(heard_us // 1_000_000)
                self._feed.tell_of_peer("peer.silent", name, {"since": since}, silent=True)
