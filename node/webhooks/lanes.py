"""A lane: the events of one channel on their way to one endpoint, one after the other.

The next one is sent when this one arrived or is dead. How far a lane is lies in the store; what was
sent and not yet written down there is sent again after a crash, under the same name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any

import msgspec
import trio

from tallystick.node.api.pacspace.customers import Customers
from tallystick.node.books import Books
from tallystick.node.config import WebhooksConfig
from tallystick.node.errors import StoreError
from tallystick.node.feed.events import NO_CHANNEL, Event, event_of
from tallystick.node.feed.rows import LOOKED_AT_MAX, read_rows, read_state
from tallystick.node.store.disk import Ticket, Txn
from tallystick.node.store.keyspace import DeliveryRow, LaneRow, encode_row
from tallystick.node.upkeep import RETRY_SECONDS
from tallystick.node.webhooks.bodies import (
    COMMITTED,
    RECORDS_SHOWN_MAX,
    VERIFIED,
    Body,
    all_steps,
    body_of,
    committed_body,
    verified_bodies,
    wanted,
)
from tallystick.node.webhooks.deliveries import DEAD, DELIVERED, Deliveries
from tallystick.node.webhooks.endpoints import Endpoint
from tallystick.node.webhooks.sending import Outcome, Sender

RETRY_MAX_SECONDS = 3600.0
SKIPPED_MAX = 1000  # events that are not wanted, before it is written down that they were seen

_log = logging.getLogger("tallystick.webhooks")
_decode = msgspec.msgpack.Decoder(LaneRow).decode


class Line:
    """What the lanes of one endpoint share."""

    def __init__(
        self, endpoint: Endpoint, config: WebhooksConfig, books: Books, deliveries: Deliveries
    ) -> None:
        self.sender = Sender(endpoint, config)
        self.config = config
        self.books = books
        self.customers = Customers(books, books.config.pacspace)
        self.deliveries = deliveries
        self.kinds = endpoint.kinds
        self.slots = trio.CapacityLimiter(config.parallel)
        self.lanes: dict[bytes, Lane] = {}  # those that run
        self.idle: dict[bytes, Lane] = {}  # and those that had nothing to send any more
        self.nursery: trio.Nursery | None = None
        self.scope = trio.CancelScope()

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint as it is now: its secrets may change."""
        return self.sender.endpoint

    def has_lane(self, channel: bytes) -> bool:
        """Whether there is a lane for events that concern a channel."""
        return self.endpoint.channel in ("", channel.hex())

    def takes(self, channel: bytes, event_channel: bytes) -> bool:
        """Whether an event that concerns a channel is sent in the lane of that channel. One that
        concerns several has a lane of its own, unless only one channel's events are sent at all.
        """
        return bool(self.endpoint.channel) or event_channel == channel


def backoff(config: WebhooksConfig, attempts: int, asked_seconds: float, dice: Random) -> float:
    """How long to wait after so many attempts failed, if the receiver asked for this long."""
    doubled = config.first_retry_seconds * 2.0 ** min(attempts - 1, 40)
    own = min(doubled, RETRY_MAX_SECONDS) * dice.uniform(0.5, 1.0)
    return max(own, asked_seconds)


class Lane:
    """One lane. `run` ends when nothing is left to send."""

    def __init__(self, line: Line, channel: bytes, dice: Random) -> None:
        self._line, self._dice = line, dice
        self.channel = channel
        self._key = line.endpoint.key + channel
        self._store = line.books.store
        self._skipped = 0
        self._writing: Ticket | None = None
        with self._store.read() as txn:
            value = txn.get("lanes", self._key)
        self.row = _decode(value) if value else LaneRow(line.endpoint.after)

    def next_event(self) -> tuple[Event | None, bool]:
        """The next event that is to be sent, if there is one among the next few; and whether there
        are more to look at. Those before it are settled.
        """
        with self._store.read() as txn:
            state = read_state(txn)
            if state is None:
                return None, False
            if self.row.cursor < state.first - 1:
                self._lost(state.first - 1)
            rows = read_rows(txn, self.row.cursor, self.channel)
            for cursor, row in islice(rows, LOOKED_AT_MAX):
                event = event_of(cursor, row)
                if self._line.takes(self.channel, row.channel) and wanted(event, self._line.kinds):
                    return event, True
                self.row = LaneRow(cursor)
                self._skipped += 1
            return None, next(rows, None) is not None

    def _lost(self, cursor: int) -> None:
        """Events were dropped before they could be sent, or the feed began anew."""
        if self.row.attempts:
            said = {"endpoint": self._line.endpoint.id, "cursor": cursor}
            _log.warning("events are not kept any more and were not sent", extra=said)
        self.row = LaneRow(cursor)

    async def run(self) -> None:
        """Send what there is."""
        while True:
            try:
                event, more = self.next_event()
                if event is not None:
                    await self._send(event)
                elif self._skipped > SKIPPED_MAX:
                    await self._write()
                elif not more:
                    return
                await trio.lowlevel.checkpoint()
            except StoreError as error:
                said = {"endpoint": self._line.endpoint.id, "reason": error.message}
                _log.warning("sending waits for the disk", extra=said)
                await trio.sleep(RETRY_SECONDS)

    async def _send(self, event: Event) -> None:
        """Send all bodies of an event."""
        steps = all_steps(event)
        while self.row.step < len(steps):
            step = steps[self.row.step]
            if step not in self._line.kinds:
                pass
            elif step == VERIFIED:
                await self._send_verified(event)
            elif step == COMMITTED:
                await self._send_committed(event)
                continue
            else:
                line = self._line
                opened = line.books.channels.get(event.channel)
                channel = opened[0] if opened else None
                body = body_of(step, event, channel, line.customers, line.books.identity.name)
                await self._deliver(event, body, LaneRow(self.row.cursor, self.row.step + 1))
                continue
            self.row = LaneRow(self.row.cursor, self.row.step + 1)
        self.row = LaneRow(event.cursor)

    async def _send_verified(self, event: Event) -> None:
        opened = self._line.books.channels.get(event.channel)
        if opened is None:
            return
        channel, step = opened[0], self.row.step
        start = max(event.data["from"], self.row.item)
        batches = channel.own.records(start, event.data["to"])
        tenant = self._line.books.identity.name
        while (found := await trio.to_thread.run_sync(_next, batches)) is not None:
            first, records = found
            for index, body in verified_bodies(
                event, first, records, channel, self._line.customers, tenant
            ):
                await self._deliver(event, body, LaneRow(self.row.cursor, step, index + 1))

    async def _send_committed(self, event: Event) -> None:
        after = LaneRow(self.row.cursor, self.row.step + 1)
        opened = self._line.books.channels.get(event.channel)
        if opened is None:
            self.row = after
            return
        start = event.data["from"]
        stop = min(event.data["to"], start + RECORDS_SHOWN_MAX)
        batches = opened[0].own.records(start, stop)
        found = await trio.to_thread.run_sync(list, batches)
        records = [record for _, batch in found for record in batch]
        tenant = self._line.books.identity.name
        await self._deliver(event, committed_body(event, records, opened[0], tenant), after)

    async def _deliver(self, event: Event, body: Body, after: LaneRow) -> None:
        """Send a body until it arrived or is dead; the lane is at `after` then."""
        config = self._line.config
        while True:
            wait_us = self.row.next_us - self._line.books.clock_us()
            if self.row.attempts and wait_us > 0:
                # The machine's clock may have been set back meanwhile.
                await trio.sleep(min(wait_us / 1e6, RETRY_MAX_SECONDS))
            async with self._line.slots:
                attempt = self.row.attempts + 1
                sender = self._line.sender
                outcome = await sender.send(body.data, body.event, body.id, attempt)
            now_us = self._line.books.clock_us()
            since_us = self.row.since_us or now_us
            old = now_us - event.at_us >= config.give_up_hours * 3.6e9
            if outcome.ok or outcome.gone or attempt >= config.attempts or old:
                state = DELIVERED if outcome.ok else DEAD
                ended = self._ended(event, body, attempt, since_us, now_us, outcome)
                kept = self._line.deliveries.ended(state, ended)
                await self._write(kept, after, durable=not outcome.ok)
                if not outcome.ok:
                    said = {
                        "endpoint": self._line.endpoint.id,
                        "kind": body.event,
                        "id": body.id,
                        "attempts": attempt,
                        "reason": outcome.said,
                    }
                    _log.warning("an event is given up", extra=said)
                return
            seconds = backoff(config, attempt, outcome.retry_after_seconds, self._dice)
            failed = msgspec.structs.replace(
                self.row,
                attempts=attempt,
                since_us=since_us,
                next_us=now_us + int(seconds * 1e6),
                said=outcome.said,
            )
            await self._write(row=failed)

    def _ended(
        self, event: Event, body: Body, attempts: int, since_us: int, now_us: int, outcome: Outcome
    ) -> DeliveryRow:
        return DeliveryRow(
            self._line.endpoint.id,
            body.id,
            body.event,
            event.channel,
            event.cursor,
            body.data,
            attempts,
            since_us,
            now_us,
            outcome.said,
        )

    async def _write(
        self,
        also: Callable[[Txn], None] | None = None,
        row: LaneRow | None = None,
        *,
        durable: bool = False,
    ) -> None:
        """Keep where the lane is. Unless it must be `durable` on return, one write may be under way
        while the next body is sent: if it is lost, what arrived is sent again.
        """
        value, key = encode_row(row or self.row), self._key

        def job(txn: Txn) -> None:
            txn.put("lanes", key, value)
            if also is not None:
                also(txn)

        if durable:
            await self._store.commit(job)
        self._skipped = 0
        self.row = row or self.row
        if durable:
            return
        before, self._writing = self._writing, self._store.submit(job)
        if before is not None:
            await before.wait()


def _next(batches: Iterator[Any]) -> Any:
    return next(batches, None)


def lane_channels(line: Line) -> list[bytes]:
    """The channels that an endpoint has lanes for: its own, or all, and what is in none."""
    if line.endpoint.channel:
        return [bytes.fromhex(line.endpoint.channel)]
    return [*line.books.founding.rows, NO_CHANNEL]
