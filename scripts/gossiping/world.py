"""The world: nodes, links with latency and loss, logs that grow, churn, partitions, liars.

Time goes in ticks of 0.1 s. Nodes run `protocol.gossip` as it is; only signatures are stood in for,
since verifying them is measured by itself and tells nothing about how news spreads.
Everything follows from the seed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from gossiping.graph import make_graph
from tallystick.protocol.errors import ProofError
from tallystick.protocol.gossip import Gossip
from tallystick.protocol.gossip_words import Batch, Conflicted, Event, Heard, Limits
from tallystick.protocol.items import SEALED_SIZE, Carried, Item, encode_item

TICKS = 10  # a second
ROUND_TICKS = 20
BROKEN_TICKS = 50
BEGIN = 1_800_000_000.0
EPOCH = int(BEGIN) // (7 * 86_400)
FRAME_BYTES = 60  # TLS, TCP and IP around one message


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world is like. Shares are of all nodes, rates a node and hour."""

    nodes: int = 100
    channels: int = 500
    seed: int = 1
    warm_minutes: float = 8.0
    cost_minutes: float = 5.0  # in which costs are counted, before anybody equivocates
    minutes: float = 10.0  # from the equivocations on
    silent: float = 0.0  # take, and pass nothing on
    lying: float = 0.0  # besides, send what they made up
    lies_a_minute: float = 2.0  # of one liar to one neighbour
    restarts: float = 0.1  # a node and hour: away for a minute, and everything forgotten
    loss: float = 0.001  # of messages: it is lost, its session ends, and begins anew 5 s later
    latency: tuple[float, float] = (0.02, 0.25)  # seconds one way, by link
    partition_minutes: float = 0.0  # from the equivocations on; a third of the nodes is cut off
    equivocations: int = 100
    limits: Limits = field(default_factory=Limits)


# How often logs are published while they grow: shares, and seconds between.
GROWTH = ((0.1, 10.0), (0.3, 600.0), (0.6, 21_600.0))
PRESENCE_SECONDS = 60.0


SIGNED = bytes(range(64))  # stands for every signature that its pseudonym made


def check_stand_in(item: Item) -> None:
    """As `verify_item`."""
    if item.signature is not SIGNED:
        raise ProofError("a gossip item: the signature does not hold")


_SEALED = bytes(SEALED_SIZE)


def make_item(pseudonym: bytes, rank: int, history: bytes = b"") -> Item:
    """An item; another history is another commitment."""
    commitment = hashlib.blake2b(
        pseudonym + rank.to_bytes(8, "big") + history, digest_size=32
    ).digest()
    return Item(EPOCH, pseudonym, rank, commitment, _SEALED, SIGNED)


ITEM_BYTES = len(encode_item(make_item(bytes(32), 2**62))) + 2  # and its hops


@dataclass(slots=True)
class Log:
    """What is published under one pseudonym: by whom, who else can read it, and how often.

    Presence is one that nobody else can read.
    """

    pseudonym: bytes
    author: int
    peer: int
    interval: float
    rank: int = 0


@dataclass(slots=True)
class Fork:
    """An equivocation: whose, when, and when which honest node knew of it."""

    log: Log
    at: float
    honest: frozenset[int]  # honest neighbours of the equivocator
    halves: tuple[list[int], list[int]]  # who is told which history
    neighbour_at: float | None = None
    peer_at: float | None = None
    nodes: set[int] = field(default_factory=set)

    def is_other(self, node: int, item: Item) -> bool:
        """Whether an item is of the history that this neighbour was not told."""
        other = b"1" if node in self.halves[1] else b"2"
        return item == make_item(item.pseudonym, item.rank, other)


class World:
    """Nodes, their links and what is on the way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dice = Random(plan.seed)
        self.tick = 0
        self.pairs = make_graph(plan.nodes, plan.channels, self.dice)
        self.neighbours: list[list[int]] = [[] for _ in range(plan.nodes)]
        for one, other in self.pairs:
            self.neighbours[one].append(other)
            self.neighbours[other].append(one)
        self.delay = {
            pair: 1 + int(self.dice.uniform(*plan.latency) * TICKS) for pair in self.pairs
        }
        shuffled = list(range(plan.nodes))
        self.dice.shuffle(shuffled)
        silent, lying = (int(share * plan.nodes) for share in (plan.silent, plan.lying))
        self.silent = frozenset(shuffled[: silent + lying])
        self.liars = frozenset(shuffled[silent : silent + lying])
        self.cut: frozenset[int] = frozenset()
        self.away: set[int] = set()
        self.nodes = [self._fresh() for _ in range(plan.nodes)]
        self.phase = [self.dice.randrange(ROUND_TICKS) for _ in range(plan.nodes)]
        self.planned = [-1] * plan.nodes
        self.logs: list[Log] = []
        self.watched: list[list[bytes]] = [[] for _ in range(plan.nodes)]
        self.own: list[list[Log]] = [[] for _ in range(plan.nodes)]
        self._make_logs()
        # What happens at a tick.
        self.mail: defaultdict[int, list[tuple[int, int, Batch]]] = defaultdict(list)
        self.rounds: defaultdict[int, list[int]] = defaultdict(list)
        self.growing: defaultdict[int, list[Log]] = defaultdict(list)
        self.returning: defaultdict[int, list[int]] = defaultdict(list)
        self.broken: set[tuple[int, int]] = set()
        self.mending: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        # What is counted.
        self.items_to = [0] * plan.nodes
        self.messages_to = [0] * plan.nodes
        self.bytes_to = [0] * plan.nodes
        self.lies = 0
        self.forks: dict[bytes, Fork] = {}
        self.forkers: set[int] = set()
        self.apart = 0
        self.rejoined: dict[int, float] = {}
        self.rejoin_seconds: list[float] = []
        self.rejoins = 0
        self.counting_from = 0

    # -- building ---------------------------------------------------------------------------------

    def _fresh(self) -> Gossip:
        return Gossip(self.dice.randbytes(16), self.plan.limits, check_stand_in)

    def _make_logs(self) -> None:
        shares, intervals = zip(*GROWTH, strict=True)
        for pair in self.pairs:
            for author, peer in (pair, pair[::-1]):
                interval = self.dice.choices(intervals, shares)[0]
                self._add(Log(self.dice.randbytes(32), author, peer, interval))
        self.channel_logs = list(self.logs)
        for node in range(self.plan.nodes):
            self._add(Log(self.dice.randbytes(32), node, node, PRESENCE_SECONDS))

    def _add(self, log: Log) -> None:
        self.logs.append(log)
        self.own[log.author].append(log)
        for node in {log.author, log.peer}:
            self.watched[node].append(log.pseudonym)

    @property
    def now(self) -> float:
        """POSIX seconds of the world."""
        return BEGIN + self.tick / TICKS

    def connect(self, one: int, other: int) -> None:
        """A session begins, if both are there and nothing is cut between them."""
        if not self._linked(one, other):
            return
        for node, neighbour in ((one, other), (other, one)):
            self.nodes[node].connected(str(neighbour), self.now)
            self._plan_round(node)

    def _linked(self, one: int, other: int) -> bool:
        return (
            one not in self.away
            and other not in self.away
            and (one in self.cut) == (other in self.cut)
        )

    def _mend(self, pair: tuple[int, int]) -> None:
        """A session begins anew; an equivocator says again to each what is for it."""
        self.broken.discard(pair)
        self.connect(*pair)
        for author, told in (pair, pair[::-1]):
            for log in self.own[author] if author in self.forkers else ():
                if (fork := self.forks.get(log.pseudonym)) is not None:
                    self._say(fork, [told])

    def disconnect(self, one: int, other: int) -> None:
        """The session ends at both."""
        self.nodes[one].disconnected(str(other))
        self.nodes[other].disconnected(str(one))

    # -- time -------------------------------------------------------------------------------------

    def run(self, minutes: float) -> None:
        """Let time pass."""
        for _ in range(int(minutes * 60 * TICKS)):
            self.step()

    def step(self) -> None:
        """One tick."""
        tick = self.tick
        for source, target, batch in self.mail.pop(tick, ()):
            self._deliver(source, target, batch)
        for log in self.growing.pop(tick, ()):
            self._publish(log)
        for pair in self.mending.pop(tick, ()):
            self._mend(pair)
        for node in self.returning.pop(tick, ()):
            self._return(node)
        for node in self.rounds.pop(tick, ()):
            self.planned[node] = -1
            self._round(node)
        self.tick += 1

    def begin(self) -> None:
        """All connect; each log is published for the first time within the first minutes."""
        for one, other in self.pairs:
            self.connect(one, other)
        for node, watched in enumerate(self.watched):
            self.nodes[node].watch(watched)
        span = int(self.plan.warm_minutes * 60 * TICKS * 0.6)
        for log in self.logs:
            self.growing[self.dice.randrange(span)].append(log)
        total = self.plan.warm_minutes + self.plan.cost_minutes + self.plan.minutes
        restarts = int(self.plan.nodes * self.plan.restarts * total / 60)
        for _ in range(restarts):
            away = self.dice.randrange(int(total * 60 * TICKS))
            self.returning[away].append(self.dice.randrange(self.plan.nodes))
        for node in self.liars:
            self._plan_round(node)

    def count_anew(self) -> None:
        """Forget what was sent so far."""
        nodes = self.plan.nodes
        self.items_to, self.messages_to, self.bytes_to = [0] * nodes, [0] * nodes, [0] * nodes
        self.lies, self.counting_from = 0, self.tick

    # -- what nodes do ----------------------------------------------------------------------------

    def _publish(self, log: Log) -> None:
        wait = self.dice.expovariate(1 / log.interval)
        self.growing[self.tick + 1 + int(wait * TICKS)].append(log)
        if log.author in self.away:
            return
        if (fork := self.forks.get(log.pseudonym)) is not None:
            self._go_on(fork)
            return
        log.rank += self.dice.randrange(1, 1000)
        self._heed(log.author, self.nodes[log.author].publish(self._newest(log), self.now))
        self._plan_round(log.author)

    def _newest(self, log: Log) -> Item:
        return make_item(log.pseudonym, log.rank)

    def _plan_round(self, node: int) -> None:
        due = self.nodes[node].due()
        if node in self.liars:
            due = self.now
        if due == float("inf"):
            return
        earliest = max(self.tick + 1, int((due - BEGIN) * TICKS) if due > BEGIN else 0)
        earliest += (self.phase[node] - earliest) % ROUND_TICKS
        if self.planned[node] < 0 or earliest < self.planned[node]:
            if self.planned[node] >= 0:
                self.rounds[self.planned[node]].remove(node)
            self.planned[node] = earliest
            self.rounds[earliest].append(node)

    def _round(self, node: int) -> None:
        if node in self.away:
            return
        engine = self.nodes[node]
        batches = engine.round(self.now)
        if node in self.silent:
            own = {log.pseudonym for log in self.own[node]}
            for batch in batches.values():
                batch.items = [one for one in batch.items if one.item.pseudonym in own]
                batch.conflicts = []
        if node in self.liars:
            self._lie(node, batches)
        for name, batch in batches.items():
            if batch.items or batch.conflicts:
                self._post(node, int(name), batch)
        self._plan_round(node)

    def _lie(self, node: int, batches: dict[str, Batch]) -> None:
        """Pseudonyms of nobody, and now and then a signature of nobody."""
        for neighbour in self.neighbours[node]:
            wanted = self.plan.lies_a_minute * ROUND_TICKS / TICKS / 60
            count = int(wanted) + (self.dice.random() < wanted % 1)
            made = [
                make_item(self.dice.randbytes(32), self.dice.getrandbits(60)) for _ in range(count)
            ]
            if made:
                self.lies += len(made)
                batch = batches.setdefault(str(neighbour), Batch())
                batch.items += [Carried(0, item) for item in made]

    def _post(self, source: int, target: int, batch: Batch) -> None:
        size = len(batch.items) * ITEM_BYTES + 2 * len(batch.conflicts) * ITEM_BYTES
        self.items_to[target] += len(batch.items)
        self.messages_to[target] += 1
        self.bytes_to[target] += size + FRAME_BYTES
        pair = (source, target) if source < target else (target, source)
        if pair in self.broken:
            return
        if self.dice.random() < self.plan.loss:
            self.broken.add(pair)
            self.disconnect(*pair)
            self.mending[self.tick + BROKEN_TICKS].append(pair)
            return
        self.mail[self.tick + self.delay[pair]].append((source, target, batch))

    def _deliver(self, source: int, target: int, batch: Batch) -> None:
        twice = source in self.forkers and target not in self.away  # it is on both sides of a cut
        if not twice and not self._linked(source, target):
            return
        engine = self.nodes[target]
        self._heed(target, engine.receive(str(source), batch.items, batch.conflicts, self.now))
        if self.planned[target] < 0 or engine.due() < self.now:
            self._plan_round(target)

    def _heed(self, node: int, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Heard):
                began = self.rejoined.pop(node, None)
                if began is not None:
                    self.rejoin_seconds.append(self.now - began)
                fork = self.forks.get(event.item.pseudonym)
                if fork is not None and node == fork.log.peer and fork.is_other(node, event.item):
                    self._known(fork, node)
            elif isinstance(event, Conflicted):
                fork = self.forks.get(event.conflict.first.pseudonym)
                if fork is not None:
                    self._known(fork, node)

    def _known(self, fork: Fork, node: int) -> None:
        """A node knows of two histories: it was shown both, or reads one that it was not shown."""
        if node in self.silent:
            return
        fork.nodes.add(node)
        if node in fork.honest and fork.neighbour_at is None:
            fork.neighbour_at = self.now - fork.at
        if node == fork.log.peer and fork.peer_at is None:
            fork.peer_at = self.now - fork.at

    # -- what happens to nodes --------------------------------------------------------------------

    def _return(self, node: int) -> None:
        """A node goes away, or comes back and has forgotten all that it heard."""
        if node not in self.away:
            for neighbour in self.neighbours[node]:
                self.disconnect(node, neighbour)
            self.away.add(node)
            wait = self.dice.expovariate(1 / 60)
            self.returning[self.tick + 1 + int(wait * TICKS)].append(node)
            return
        self.away.discard(node)
        self.nodes[node] = self._fresh()
        for neighbour in self.neighbours[node]:
            self.connect(node, neighbour)
        own = [log.pseudonym for log in self.own[node]]
        if any(log.rank for log in self.own[node]) and node not in self.silent:
            self.rejoined[node] = self.now
            self.rejoins += 1
        # Only its own logs at first, so that what is heard is its own word of before.
        self.nodes[node].watch(own)

    def cut_off(self, share: float) -> None:
        """Part the network: a share of the nodes hears nothing of the others."""
        order = list(range(self.plan.nodes))
        self.dice.shuffle(order)
        self.cut = frozenset(order[: int(share * len(order))])
        for one, other in self.pairs:
            if (one in self.cut) != (other in self.cut):
                self.disconnect(one, other)

    def heal(self) -> None:
        """The network is whole again."""
        cut, self.cut = self.cut, frozenset()
        for one, other in self.pairs:
            if (one in cut) != (other in cut):
                self.connect(one, other)

    def equivocate(self) -> None:
        """Authors with two neighbours or more show one half of them one history and the other
        half another one, both heads of one size. While a part is cut off, each side sees one.
        """
        able = [log for log in self.channel_logs if log.rank and log.author not in self.away]
        self.dice.shuffle(able)
        for log in able:
            if len(self.forks) == self.plan.equivocations:
                break
            if not self._splits(log.author):
                continue
            if not self._joined(log.author):
                self.apart += 1  # nobody honest is between those who are deceived
                continue
            honest = frozenset(self.neighbours[log.author]) - self.silent
            self.forks[log.pseudonym] = Fork(log, self.now, honest, self._halves(log.author))
            self.forkers.add(log.author)
            self._go_on(self.forks[log.pseudonym])

    def _go_on(self, fork: Fork) -> None:
        """Both histories grow, and every neighbour hears of its own."""
        fork.log.rank += 1000
        self._say(fork, self.neighbours[fork.log.author])

    def _say(self, fork: Fork, told: Iterable[int]) -> None:
        for history, half in zip((b"1", b"2"), fork.halves, strict=True):
            item = make_item(fork.log.pseudonym, fork.log.rank, history)
            for neighbour in told:
                if neighbour in half:
                    self._post(fork.log.author, neighbour, Batch([Carried(0, item)]))

    def _halves(self, node: int) -> tuple[list[int], list[int]]:
        around = self.neighbours[node]
        if self.cut:
            return (
                [one for one in around if one in self.cut],
                [one for one in around if one not in self.cut],
            )
        return around[::2], around[1::2]

    def _splits(self, node: int) -> bool:
        """Whether honest nodes are told either history; else nobody is deceived."""
        return all(set(half) - self.silent for half in self._halves(node))

    def _joined(self, node: int) -> bool:
        """Whether a way leads from one half to the other, past the node, by honest nodes."""
        one, other = (set(half) - self.silent for half in self._halves(node))
        seen, edge = one | {node}, list(one)
        while edge:
            for neighbour in self.neighbours[edge.pop()]:
                if neighbour in other:
                    return True
                if neighbour not in seen and neighbour not in self.silent:
                    seen.add(neighbour)
                    edge.append(neighbour)
        return False
