"""The webhooks of a running node: a line for each endpoint, a lane in it for each channel.

Lines share nothing but the store, so an endpoint that is slow or gone delays no other one, and none
delays the node.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

import msgspec
import trio

from tallystick.node.books import Books
from tallystick.node.errors import HomeError, StoreError
from tallystick.node.feed.feed import Feed
from tallystick.node.feed.rows import txn_keys
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import DeliveryRow, FeedRow
from tallystick.node.upkeep import RETRY_SECONDS
from tallystick.node.webhooks.deliveries import (
    DEAD,
    DELIVERED,
    REPLAYING,
    Deliveries,
)
from tallystick.node.webhooks.endpoints import load_endpoints
from tallystick.node.webhooks.lanes import Lane, Line, backoff, lane_channels

REPLAY_ATTEMPTS = 5

_log = logging.getLogger("tallystick.webhooks")


class Webhooks:
    """The sending of one node. `run` must be running."""

    def __init__(self, home: Path, books: Books, feed: Feed) -> None:
        self._home, self._books = home, books
        self._config = books.config.webhooks
        self.deliveries = Deliveries(books.store, self._config.keep_deliveries)
        self._lines: dict[str, Line] = {}
        self._changed = trio.Event()
        self._replays = trio.Event()
        self._dice = SystemRandom()
        feed.on_growth.append(self._grew)

    async def run(self) -> None:
        """Send, for as long as the node runs."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                try:
                    await self._reload(nursery)
                except (HomeError, StoreError) as error:
                    said = {"reason": error.message, "advice": error.advice}
                    _log.error("the endpoints cannot be taken up", extra=said)
                await changed.wait()

    def reload(self) -> None:
        """The file of endpoints changed."""
        self._changed.set()
        self._changed = trio.Event()

    async def replay(self, name: str | None) -> int:
        """Have deliveries sent again; how many (see `Deliveries.replay`)."""
        count = await self.deliveries.replay(name, set(self._lines))
        self._replays.set()
        self._replays = trio.Event()
        return count

    async def _reload(self, nursery: trio.Nursery) -> None:
        endpoints = {one.id: one for one in load_endpoints(self._home)}
        for id in set(self._lines) - set(endpoints):
            self._lines.pop(id).scope.cancel()
        for id, endpoint in endpoints.items():
            line = self._lines.get(id)
            if line is None:
                line = Line(endpoint, self._config, self._books, self.deliveries)
                self._lines[id] = line
                nursery.start_soon(self._run_line, line)
            else:
                line.sender.endpoint = endpoint
        await self._forget_others({one.key for one in endpoints.values()})

    async def _forget_others(self, keys: set[bytes]) -> None:
        """Drop what is kept of endpoints that are gone; their deliveries can be looked up."""
        ids = set(self._lines)
        with self._books.store.read() as txn:
            lanes = [key for key in txn_keys(txn, "lanes") if key[:8] not in keys]
        replays = [(n, row) for n, row in self.deliveries.replaying() if row.endpoint not in ids]
        for number, row in replays:
            await self.deliveries.tried(number, row, DEAD)
        if lanes:

            def job(txn: Txn) -> None:
                for key in lanes:
                    txn.delete("lanes", key)

            await self._books.store.commit(job)

    async def _run_line(self, line: Line) -> None:
        try:
            with line.scope:
                async with trio.open_nursery() as nursery:
                    line.nursery = nursery
                    nursery.start_soon(self._replay, line)
                    for channel in lane_channels(line):
                        self._start(nursery, line, channel)
                        await trio.lowlevel.checkpoint()
                    await trio.sleep_forever()
        finally:
            await line.sender.aclose()

    def _start(self, nursery: trio.Nursery, line: Line, channel: bytes) -> None:
        """Let a lane run, unless it does; it ends soon if there is nothing to send in it."""
        if channel in line.lanes:
            return
        lane = line.idle.pop(channel, None) or Lane(line, channel, self._dice)
        line.lanes[channel] = lane
        nursery.start_soon(self._run_lane, line, lane)

    async def _run_lane(self, line: Line, lane: Lane) -> None:
        while True:
            try:
                await lane.run()
                break
            except Exception:  # noqa: BLE001 - one lane must not take the node with it
                said = {"endpoint": line.endpoint.id}
                _log.exception("sending failed inside the node", extra=said)
                await trio.sleep(RETRY_SECONDS)
        # From its last look until here nothing else ran, so no event came unseen.
        del line.lanes[lane.channel]
        line.idle[lane.channel] = lane

    def _grew(self, rows: Sequence[FeedRow]) -> None:
        """There are new events: let the lanes run that they are in."""
        for line in self._lines.values():
            if line.nursery is None:
                continue
            for row in rows:
                for channel in {row.channel, *row.also}:
                    if line.takes(channel, row.channel) and line.has_lane(channel):
                        self._start(line.nursery, line, channel)

    # Replays

    async def _replay(self, line: Line) -> None:
        """Send again what somebody asked for, each on its own; in no order to anything else."""
        while True:
            asked = self._replays
            waiting = self._replaying(line)
            for number, row in waiting:
                try:
                    await self._try_again(line, number, row)
                except StoreError as error:
                    _log.warning("a replay waits for the disk", extra={"reason": error.message})
                    await trio.sleep(RETRY_SECONDS)
            if again := self._replaying(line):
                most = max(row.attempts for _, row in again) + 1
                await trio.sleep(backoff(self._config, most, 0.0, self._dice))
            else:
                await asked.wait()

    def _replaying(self, line: Line) -> list[tuple[int, DeliveryRow]]:
        found = self.deliveries.replaying()
        return [(number, row) for number, row in found if row.endpoint == line.endpoint.id]

    async def _try_again(self, line: Line, number: int, row: DeliveryRow) -> None:
        attempt = row.attempts + 1
        async with line.slots:
            outcome = await line.sender.send(row.body, row.event, row.event_id, attempt)
        now_us = self._books.clock_us()
        after = msgspec.structs.replace(row, attempts=attempt, ended_us=now_us, said=outcome.said)
        state = REPLAYING
        if outcome.ok:
            state = DELIVERED
        elif outcome.gone or attempt >= REPLAY_ATTEMPTS:
            state = DEAD
        await self.deliveries.tried(number, after, state)
