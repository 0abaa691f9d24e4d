"""The gossip of a running node: one task that speaks and hears for all its channels.

Every two seconds the newest co-signed heads of our own logs that changed are published, and
neighbours are sent what the engine (`protocol.gossip`) has for them. What is heard of our own
channels is opened and judged; what is of others is only passed on. Nothing here holds up a record,
and nothing of it has a task or a timer for a channel.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import count
from random import Random

import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.errands import WHEN_CALLED
from tallystick.node.gossiping.judging import Judge
from tallystick.node.gossiping.presences import Presences
from tallystick.node.gossiping.pseudonyms import Behind, Pseudonyms
from tallystick.node.link import Link
from tallystick.node.quotas import Bucket
from tallystick.protocol.blinding import OpenedHead, OpenedPresence
from tallystick.protocol.errors import FormatError, ProofError, TallyError
from tallystick.protocol.gossip import Gossip
from tallystick.protocol.gossip_words import (
    ROUND_SECONDS,
    Conflicted,
    Event,
    Heard,
    Limits,
    Refused,
)
from tallystick.protocol.items import Carried, Conflict, Item, verify_item
from tallystick.protocol.messages import CONFLICTS_MAX, ITEMS_MAX, Hearsay

ITEMS_A_PEER = 4  # that are kept, if that is more than the settings say
PRESENCE_SECONDS = 60  # how often our own is published, half of it more or less
HEAD_SECONDS = 4.0  # between two heads of one log
WORK_SECONDS = 0.4  # of a round, in which pseudonyms and items are made
WORK_LEAST = 50  # of either in a round, however long it takes on a busy machine
TURN = 8  # neighbours that are sent something before others may run
JUDGE_A_ROUND = 200
WAITING_MAX = 10_000  # heads to be judged
UNKNOWN_A_MINUTE = 10  # heads of a peer's that nobody signed, before it is not listened to

_log = logging.getLogger("tallystick.gossip")


class Talker:
    """Speaks and hears. `copied` is told of another copy of our home."""

    def __init__(
        self,
        books: Books,
        presences: Presences,
        judge: Judge,
        links: Mapping[str, Link],
        copied: Callable[[OpenedPresence], Awaitable[None]],
        dice: Random,
    ) -> None:
        settings = books.config.gossip
        limits = Limits(
            items=settings.keep_items,
            items_a_neighbour=ITEMS_A_PEER if settings.keep_items else 0,
            items_a_minute=settings.items_per_minute,
        )
        self.enabled = settings.enabled
        self.engine = Gossip(dice.randbytes(32), limits)
        self.judged: Counter[str] = Counter()  # what became of heads that were shown
        self.sent: Counter[str] = Counter()
        self._books = books
        self._presences = presences
        self._judge = judge
        self._links = links
        self._copied = copied
        self._pseudonyms = Pseudonyms(books)
        self._unlearnt: dict[bytes, None] = {}  # channels
        self._grown: dict[bytes, None] = {}  # whose newest head is to be published
        self._idle: dict[bytes, None] = {}  # the same, of those in which nothing happens
        self._published: dict[bytes, tuple[int, int, float]] = {}  # size, epoch, when
        self._blamed: dict[str, float] = {}  # who passed on lies, and when that was written down
        self._shown: deque[tuple[Behind, OpenedHead]] = deque()
        self._copies: list[OpenedPresence] = []
        self._unknown: dict[str, Bucket] = {}
        self._dice = dice
        self._speaks_at = float("-inf")
        self._learnt_at = float("-inf")

    # What the node tells

    def hears(self, channel: Channel) -> bool:
        """Whether our log has a newer head than was published of it."""
        return self.enabled and channel.own.cosigned_ahead != self._size_published(channel.id)

    async def follow(self, channel: Channel) -> float:
        """Have our log's newest head published, and look at what gossip showed before."""
        waiting = self._grown if channel.id in self._published else self._idle
        waiting[channel.id] = None
        await self._judge.look_again(channel)
        return WHEN_CALLED

    def attend(self, channel: bytes) -> None:
        """Learn the pseudonyms of a channel, and publish what there is of it, soon."""
        self._unlearnt[channel] = None

    def connected(self, link: Link) -> None:
        """A session with a peer is live."""
        if self.enabled:
            self.engine.connected(link.peer, self._now_s())

    def disconnected(self, peer: str) -> None:
        """It ended."""
        self.engine.disconnected(peer)

    def heard(self, link: Link, message: Hearsay) -> None:
        """A peer passed something on. With gossip off, what is of our channels, or of another copy
        of us, counts all the same.
        """
        items, conflicts = message.items, message.conflicts
        if not self.enabled:
            ours = set(self._presences.pseudonyms())
            items = [one for one in items if self._concerns(one.item.pseudonym, ours)]
            conflicts = [one for one in conflicts if self._concerns(one.first.pseudonym, ours)]
        self._take(self.engine.receive(link.peer, items, conflicts, self._now_s()))

    def _concerns(self, pseudonym: bytes, presences: set[bytes]) -> bool:
        return pseudonym in presences or self._pseudonyms.behind(pseudonym) is not None

    # The task

    async def run(self) -> None:
        """Speak and hear for as long as the node runs."""
        while True:
            await trio.sleep(ROUND_SECONDS)
            try:
                await self._act()
                if not self._presences.stopped:
                    now = trio.current_time()
                    await self._learn(now + WORK_SECONDS / 2)
                    if self.enabled:
                        await self._publish(now + WORK_SECONDS)
                    await self._send()
            except TallyError as error:
                _log.warning("gossip waits", extra={"reason": error.message})

    def _now_s(self) -> float:
        return self._books.clock_us() / 1e6

    async def _learn(self, until: float) -> None:
        """Know the pseudonyms of more channels, and again of all once an hour: each week has its
        own.
        """
        now = trio.current_time()
        if now - self._learnt_at > 3600:
            self._learnt_at = now
            self._unlearnt |= dict.fromkeys(self._books.channels)
            self._watch(*self._presences.learn())
        for done in count():
            if not self._unlearnt or (done >= WORK_LEAST and trio.current_time() >= until):
                break
            channel, _ = self._unlearnt.popitem()
            fresh, past = self._pseudonyms.learn(channel)
            self._watch(fresh, past)
            if fresh:
                self._idle[channel] = None
            await trio.lowlevel.checkpoint()  # each takes a millisecond, and others wait

    def _watch(self, fresh: Iterable[bytes], past: Iterable[bytes]) -> None:
        self.engine.unwatch(past)
        self._take(self.engine.watch(fresh))

    async def _publish(self, until: float) -> None:
        """Publish what is new, and that we are there."""
        now = trio.current_time()
        if now >= self._speaks_at:
            # Never in step with another copy of us: on its way each would hide the other's word.
            self._speaks_at = now + PRESENCE_SECONDS * self._dice.uniform(0.5, 1.5)
            self._take(self.engine.publish(self._presences.item(), self._now_s()))
        done = 0
        for waiting in (self._grown, self._idle):
            for channel in list(waiting):
                if done >= WORK_LEAST and trio.current_time() >= until:
                    return
                if self._is_due(channel, now):
                    done += 1
                    del waiting[channel]
                    self._publish_head(channel, now)
                    await trio.lowlevel.checkpoint()

    def _is_due(self, channel: bytes, now: float) -> bool:
        last = self._published.get(channel)
        return last is None or now - last[2] >= HEAD_SECONDS

    def _size_published(self, channel: bytes) -> int:
        return self._published.get(channel, (0,))[0]

    def _publish_head(self, channel: bytes, now: float) -> None:
        """Publish the newest co-signed head of our log, unless it was."""
        own = self._books.channels[channel][0].own
        size = own.cosigned_size
        if size < own.cosigned_ahead:  # which is on its way to the disk
            self._grown[channel] = None
        behind = self._pseudonyms.publishing(channel)
        if not size or behind is None:
            return
        if self._published.get(channel, (0, 0))[:2] == (size, behind.epoch):
            return
        with self._books.store.read() as txn:
            row = own.head_row(txn, size)
        if row is None or not row.signature or not row.cosignature:
            return
        signer = self._books.identity.transport
        veil = self._pseudonyms.veil(behind)
        item = veil.make(signer, size, row.root, row.signature, row.cosignature)
        self._published[channel] = (size, behind.epoch, now)
        self._take(self.engine.publish(item, self._now_s()))

    async def _send(self) -> None:
        """Send each neighbour what there is for it, unless it has much to read already."""
        batches = self.engine.round(self._now_s(), self._may_send)
        for turn, (name, batch) in enumerate(batches.items()):
            if not turn % TURN:
                await trio.lowlevel.checkpoint()
            link = self._links.get(name)
            if link is None or not link.live:
                continue
            self.sent["items"] += len(batch.items)
            self.sent["conflicts"] += len(batch.conflicts)
            for items, conflicts in _pieces(batch.items, batch.conflicts):
                self.sent["messages"] += 1
                link.send(Hearsay(items, conflicts))

    def _may_send(self, name: str) -> bool:
        link = self._links.get(name)
        return link is not None and link.live and not link.busy

    # Hearing

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case Heard():
                    self._open(event.item)
                case Conflicted():
                    if event.watched:
                        self._open(event.conflict.first)
                        self._open(event.conflict.second)
                case Refused(reason="signature" | "conflict"):
                    self._blame(event.neighbour)
                case Refused():
                    pass

    def _blame(self, peer: str) -> None:
        """Say that a peer passed on what nobody signed; once, while it is not listened to."""
        now = trio.current_time()
        if now - self._blamed.get(peer, float("-inf")) >= self.engine.limits.barred:
            self._blamed[peer] = now
            _log.warning(
                "a peer passed on what nobody signed: its gossip is not taken for a while",
                extra={"peer": peer},
            )

    def _open(self, item: Item) -> None:
        """Read an item of ours or of a peer's about a channel between us."""
        behind = self._pseudonyms.behind(item.pseudonym)
        if behind is None:
            self._hear_copy(item)
        elif len(self._shown) < WAITING_MAX:
            try:
                self._shown.append((behind, self._pseudonyms.veil(behind).open(item)))
            except ProofError:
                self.judged["unreadable"] += 1

    def _hear_copy(self, item: Item) -> None:
        """An item of our own presence: does another copy of this home speak?"""
        try:
            verify_item(item)
        except (ProofError, FormatError):
            return
        found = self._presences.hear(item)
        if found is not None:
            self._copies.append(found)

    async def _act(self) -> None:
        """Judge what was shown."""
        copies, self._copies = self._copies, []
        for copy in copies:
            await self._copied(copy)
        for _ in range(min(len(self._shown), JUDGE_A_ROUND)):
            behind, opened = self._shown.popleft()
            channel, _ = self._books.channels[behind.channel]
            log = channel.own if behind.ours else channel.peer
            bucket = self._unknown.setdefault(
                channel.peer_keys.name, Bucket(UNKNOWN_A_MINUTE / 60, UNKNOWN_A_MINUTE, 0.0)
            )
            now = trio.current_time()
            if not bucket.try_take(1, now):
                self.judged["skipped"] += 1
                continue
            result = await self._judge.judge(channel, log, opened)
            self.judged[result] += 1
            if result != "unknown":
                bucket.take(-1, now)


def _pieces(
    items: list[Carried], conflicts: list[Conflict]
) -> Iterable[tuple[list[Carried], list[Conflict]]]:
    """What goes into one message each."""
    while items or conflicts:
        yield items[:ITEMS_MAX], conflicts[:CONFLICTS_MAX]
        items, conflicts = items[ITEMS_MAX:], conflicts[CONFLICTS_MAX:]
