"""The feed of a running node: one task that writes down what happened, and wakes who waits.

Other parts point at a channel (`poke`) or tell what leaves no trace (`happened`). The task looks at
the channels that were pointed at, at most a few times a second, so that many co-signed heads become
one event, and a commit of the feed costs the log's own commits nothing that can be measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.errors import NodeStops, StoreError
from tallystick.node.feed.events import NO_CHANNEL, make_row
from tallystick.node.feed.following import Follower, Found, evidence_told, snapshot
from tallystick.node.feed.rows import FeedReader, append, begin, prune, read_state
from tallystick.node.founding import decode_channel
from tallystick.node.quotas import Bucket
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import FeedRow, FeedState, encode_row
from tallystick.node.upkeep import RETRY_SECONDS

PAUSE_SECONDS = 0.25  # between two looks, however often something changes
PAUSES_A_LOOK = 10  # so many times as long as a look took: with many channels looks are rarer
PRUNE_SECONDS = 3600.0
TOLD_PER_SECOND, TOLD_BURST = 1, 60  # of what a peer can make us tell, in each channel
DAY_US = 86_400_000_000

_log = logging.getLogger("tallystick.feed")


@dataclass(frozen=True, slots=True)
class Told:
    """An event that leaves no other trace, and what is written with it."""

    row: FeedRow
    put: tuple[str, bytes, bytes] | None = None
    delete: tuple[str, bytes] | None = None


class Feed(FeedReader):
    """The feed of one node. `run` must be running for anything to be told."""

    def __init__(self, books: Books, caught_up: Callable[[Channel], bool]) -> None:
        super().__init__(books.store)
        self._books = books
        self._config = books.config.feed
        self._state = self._begun()
        ahead = self._config.due_hours * 3600
        self._follower = Follower(books, caught_up, ahead, self._state.first / 1000)
        self._pointed_at: set[bytes] = set(books.founding.rows)
        self._told: list[Told] = []
        self._again: dict[bytes, float] = {}  # channels to look at without news, by when
        self._buckets: dict[bytes, Bucket] = {}
        self._wake = trio.Event()
        self._grown = trio.Event()
        self.on_growth: list[Callable[[Sequence[FeedRow]], None]] = []
        books.news.on_changed.append(self.poke)
        books.news.on_happened.append(self.happened)

    def _begun(self) -> FeedState:
        """The state on disk; a feed that begins (anew) tells nothing of what was before."""
        with self._books.store.read() as txn:
            state = read_state(txn)
        if state is not None:
            return state
        made: list[FeedState] = []

        def job(txn: Txn) -> None:
            made.append(begin(txn, self._books.clock_us()))
            for key, value in list(txn.scan("channels", b"", b"\xff" * 33)):
                row = decode_channel(value)
                txn.put("followed", key, encode_row(snapshot(txn, row)))
                for told in evidence_told(txn, key, row.number):
                    txn.put("told", told, b"")

        self._books.store.commit_now(job)
        return made[0]

    @property
    def last(self) -> int:
        """The cursor of the newest event."""
        return self._state.next - 1

    async def wait_beyond(self, cursor: int) -> None:
        """Return when there is an event behind a cursor."""
        while self.last <= cursor:
            await self._grown.wait()

    # What others call

    def poke(self, channel: bytes) -> None:
        """Something may have changed in a channel."""
        self._pointed_at.add(channel)
        self._wake.set()

    def happened(self, kind: str, channel: bytes, data: dict[str, Any]) -> None:
        """Something happened in a channel that leaves no trace in the store.

        A peer can make this happen as often as it likes, so not all of it is told then.
        """
        now_s = trio.current_time()
        bucket = self._buckets.setdefault(channel, Bucket(TOLD_PER_SECOND, TOLD_BURST, now_s))
        if not bucket.try_take(1, now_s):
            said = {"channel": channel.hex()[:8], "kind": kind}
            _log.info("an event is not told, there are too many", extra=said)
            return
        row = self._books.founding.rows.get(channel)
        peer = row.peer if row is not None else ""
        self.tell(Told(make_row(kind, channel, peer, data, self._books.clock_us(), once=False)))

    def tell(self, told: Told) -> None:
        """Write an event down soon."""
        self._told.append(told)
        self._wake.set()

    def tell_of_peer(self, kind: str, name: str, data: dict[str, Any], *, silent: bool) -> None:
        """Tell of a peer, which concerns all channels with it; and keep whether it is silent."""
        now_us = self._books.clock_us()
        row = make_row(kind, NO_CHANNEL, name, data, now_us, once=False)
        row.also = [
            key
            for key, one in self._books.founding.of_peer(name)
            if one.state in ("open", "halted")
        ]
        key = name.encode()
        if silent:
            self.tell(Told(row, put=("silent", key, str(data["since"]).encode())))
        else:
            self.tell(Told(row, delete=("silent", key)))

    # The task

    async def run(self) -> None:
        """Write down what happens, for as long as the node runs."""
        self._wake.set()
        pruned_at = trio.current_time()
        while True:
            with trio.move_on_at(min([*self._again.values(), pruned_at + PRUNE_SECONDS])):
                await self._wake.wait()
            self._wake = trio.Event()
            began = trio.current_time()
            keys, told = self._take(began)
            looked_seconds = 0.0
            try:
                found = await self._look_at(keys)
                looked_seconds = trio.current_time() - began
                grown = await self._write(found, told)
            except NodeStops:
                return  # what was not told is told after the next start
            except StoreError as error:
                _log.warning("the feed waits for the disk", extra={"reason": error.message})
                self._pointed_at |= keys
                self._told[:0] = told
                self._wake.set()
                await trio.sleep(RETRY_SECONDS)
                continue
            pruned_at = began
            if grown:
                self._grown.set()
                self._grown = trio.Event()
                for call in self.on_growth:
                    call(grown)
            await trio.sleep(max(PAUSE_SECONDS, PAUSES_A_LOOK * looked_seconds))

    def _take(self, now: float) -> tuple[set[bytes], list[Told]]:
        """What is to be looked at and written now."""
        keys, self._pointed_at = self._pointed_at, set()
        told, self._told = self._told, []
        keys |= {key for key, at in self._again.items() if at <= now}
        for key in keys:
            self._again.pop(key, None)
        return keys, told

    async def _look_at(self, keys: set[bytes]) -> dict[bytes, Found]:
        """What is to be told of these channels."""
        found = {}
        for key in sorted(keys):
            found[key] = self._look(key)
            await trio.lowlevel.checkpoint()
        return found

    async def _write(self, found: dict[bytes, Found], told: Sequence[Told]) -> list[FeedRow]:
        """Write all in one transaction; the events."""
        rows = [one.row for one in told] + [row for one in found.values() for row in one.rows]
        states: list[FeedState] = []

        def job(txn: Txn) -> None:
            state = append(txn, self._state, rows)
            for one in told:
                if one.put:
                    txn.put(*one.put)
                if one.delete:
                    txn.delete(*one.delete)
            for look in found.values():
                for table, key, value in look.puts:
                    txn.put(table, key, value)
                for table, key in look.deletes:
                    txn.delete(table, key)
            before_us = self._books.clock_us() - self._config.keep_days * DAY_US
            states.append(prune(txn, state, before_us, self._config.keep_events))

        await self._books.store.commit(job)
        self._state = states[-1]
        now = trio.current_time()
        for key, look in found.items():
            if look.again_seconds is not None:
                self._again[key] = now + max(look.again_seconds, 0.05)
        return rows

    def _look(self, key: bytes) -> Found:
        try:
            return self._follower.look(key)
        except StoreError as error:
            said = {"channel": key.hex()[:8], "reason": error.message}
            _log.warning("a channel cannot be followed", extra=said)
            return Found(again_seconds=RETRY_SECONDS)
        except Exception:  # noqa: BLE001 - what cannot be told must not take the node with it
            _log.exception("a channel cannot be followed", extra={"channel": key.hex()[:8]})
            return Found()
