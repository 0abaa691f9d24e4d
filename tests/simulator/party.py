"""A node's own code on a made-up disk and network: its process, and what its users do with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import trio

from simulator.disk import Disk, MemoryStore, PowerCut
from simulator.liar import Liar
from simulator.network import End, Weather, connect
from simulator.rumours import Gossiper
from simulator.standby import Follower
from simulator.watch import Watch, here
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.config import Config
from tallystick.node.errors import HomeError, PeerUnreachable, StoreError
from tallystick.node.home import Home
from tallystick.node.importing.drafts import Draft
from tallystick.node.peering import Peering
from tallystick.node.standby.mode import check_not_superseded, mark_superseded, primary_of
from tallystick.node.standby.serving import Mirroring
from tallystick.node.store.keyspace import log_key
from tallystick.protocol.errors import TallyError
from tallystick.protocol.keys import Identity
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import DeclaredTotal, Matter, decode_batch

_log = logging.getLogger("simulator")
START_US = 1_790_805_600_000_000  # 2026-10-01T00:00 in Berlin


_begun: ContextVar[tuple[bool, int]] = ContextVar("begun")


@dataclass
class Emitted:
    """What a user asked to have recorded, and whether the node said that it was."""

    draft: Draft
    index: int = -1
    acknowledged: bool = False
    excused: bool = False  # lost on both disks, by restores
    waited: bool = False  # the standby had it before it was acknowledged


@dataclass
class Said:
    """What people said of usage; `totals` are those that a declaration commits to."""

    record: Matter
    acknowledged: bool = False
    excused: bool = False
    waited: bool = False
    totals: tuple[DeclaredTotal, ...] = ()


@dataclass
class World:
    """What all parties share. A party may have several homes: `parties` has those that count."""

    dice: Random
    watch: Watch
    weather: Weather = field(default_factory=Weather)
    parties: dict[str, Party] = field(default_factory=dict)
    homes: dict[str, Party] = field(default_factory=dict)  # by address
    copied: set[str] = field(default_factory=set)  # parties that were there twice
    fallen: set[bytes] = field(default_factory=set)  # channels in which one fell out with itself
    parted: set[frozenset[str]] = field(default_factory=set)  # addresses
    ends: list[tuple[frozenset[str], End]] = field(default_factory=list)
    channels: list[bytes] = field(default_factory=list)  # all that were ever founded
    # Those that somebody made, by channel, log, lapse, and co-signature of the head that holds it.
    certificates: dict[tuple[bytes, str, int, bytes], bytes] = field(default_factory=dict)
    # How long the terms give a party to answer a dispute, and to insist or dispute a checkpoint.
    clocks_seconds: tuple[int, int] = (0, 0)

    def part(self, a: str, b: str) -> None:
        """Cut the network between two homes."""
        pair = frozenset((a, b))
        self.parted.add(pair)
        self.cut(lambda other: other == pair)

    def cut(self, which: Callable[[frozenset[str]], bool]) -> None:
        """End connections."""
        for pair, end in self.ends:
            if which(pair):
                end.cut()
        self.ends = [(pair, end) for pair, end in self.ends if not which(pair)]


class Party:
    """A party's home: its seed, its disk, its clock, its process while it runs, what was emitted at
    it. `address` tells it from other homes of the same party.
    """

    def __init__(self, world: World, name: str, folder: Path, address: str = "") -> None:
        self.world = world
        self.name = name
        self.address = address or name
        self.identity = Identity.from_seed(name, name.encode().ljust(32, b"\0"))
        self.disk = Disk(folder, world.dice)
        self.skew_us = 0
        self.turned = False  # whether its clock was ever set
        self.restored = False  # whether its home ever came from a backup
        self.heard: set[bytes] = set()  # channels that a peer confirmed to this process
        self.emitted: dict[tuple[bytes, str, str], Emitted] = {}
        self.said: dict[tuple[bytes, str], Said] = {}  # by channel and reason or commitment
        self.process: Process | None = None
        self.follower: Follower | None = None  # instead of it, where this is a standby's home
        self.home = Home(folder.with_name(f"{folder.name}-home"), name)  # its marks; never torn
        self.home.path.mkdir(parents=True)
        self.config = Config()
        self.synced: dict[Path, int] = {}  # how much of each file is safe from a power cut
        self.liar: Liar | None = None
        self.gossiper: Gossiper | None = None
        self.lives = 0  # processes so far
        self.decided = False  # whether people ever said that it is the only copy
        self.died_at = 0.0
        world.homes[self.address] = self
        world.parties.setdefault(name, self)

    def clock_us(self) -> int:
        """This party's clock."""
        return START_US + int(trio.current_time() * 1e6) + self.skew_us

    def as_peer(self) -> PeerIdentity:
        """What pairing tells others of it."""
        who = self.identity
        return PeerIdentity(
            self.name, who.log_key, who.cosigner_key, who.transport_key, b"cert", self.address
        )

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the process, unless it runs; it may die at once of a full disk, and does not start
        at all where another home of the party took over.
        """
        if self.running or self.superseded:
            return
        self.heard = set()
        self.lives += 1
        try:
            if primary_of(self.home) is None:
                self.process = Process(self)
            else:
                self.follower = Follower(self)
        except (PowerCut, StoreError) as error:
            self.died(cut=isinstance(error, PowerCut))
            return
        running = self.process or self.follower
        assert running is not None
        await nursery.start(running.run)

    @property
    def running(self) -> bool:
        """Whether a process runs in this home."""
        return self.process is not None or self.follower is not None

    @property
    def superseded(self) -> bool:
        """Whether no node starts here any more."""
        try:
            check_not_superseded(self.home)
        except HomeError:
            return True
        return False

    def died(self, *, cut: bool) -> None:
        """The process is gone; with the power, what was not fsynced may be torn."""
        running = self.process or self.follower
        if running is not None:
            running.store.dead = True
            running.scope.cancel()
            self.process = self.follower = None
            self.died_at = trio.current_time()
        self.world.cut(lambda pair: self.address in pair)
        self.disk.cut_in = -1
        if cut:
            self.disk.tear(self.synced)

    def bend(self, peer: str, body: bytes) -> list[bytes]:
        """What this party sends instead of a frame."""
        if self.gossiper is not None:
            return self.gossiper.bend(body)
        return [body] if self.liar is None else self.liar.bend(peer, body)

    def size_on_disk(self, channel: Channel) -> int:
        """How many records of its own log are on its disk."""
        table = self.disk.tables["batches"]
        keys = [key for key in table.keys if key[:4] == log_key(channel.own.number)]
        if not keys:
            return 0
        return int.from_bytes(keys[-1][4:], "big") + len(decode_batch(table.values[keys[-1]])[0])

    @property
    def channels(self) -> list[tuple[Channel, Closer]]:
        """The open channels of the running process."""
        return list(self.process.books.channels.values()) if self.process else []


class Process:
    """One life of a node."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.scope = trio.CancelScope()
        self.store = MemoryStore(party.disk, self._lose_power)
        folder = party.disk.folder
        self.books = Books(party.config, party.identity, self.store, folder, party.clock_us)
        self.peering = Peering(self.books, self._dial, party.world.dice)
        self.peering.address = party.address
        self.peering.on_superseded = self._superseded
        self.superseded = trio.Event()
        self.mirroring: Mirroring | None = None
        if party.config.standby.serve:
            self.mirroring = Mirroring(party.home, self.books, self.superseded)
        self.nursery: trio.Nursery | None = None

    def _lose_power(self) -> None:
        if self.party.process is self:
            self.party.died(cut=True)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until stopped, killed or cut from power."""
        started = False
        here.set(self.party)
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    nursery.start_soon(self.store.run)
                    nursery.start_soon(self._end)
                    self.peering.start(nursery)
                    self.peering.dial_all()
                    task_status.started()
                    started = True
                    await trio.sleep_forever()
        except* PowerCut:
            pass
        except* StoreError as group:
            _log.info("%s stops: %s", self.party.name, group.exceptions[0])
        if not started:
            task_status.started()
        self.books.close()
        if self.party.process is self:
            self.party.died(cut=True)

    def _superseded(self, generation: int, proof: bytes | None) -> bool:
        if not mark_superseded(self.party.home, self.party.identity, generation, proof):
            return False
        self.superseded.set()
        return True

    async def _end(self) -> None:
        await self.superseded.wait()
        self.party.died(cut=False)

    async def _dial(self, peer: PeerIdentity) -> End:
        world, me = self.party.world, self.party
        await trio.sleep(world.dice.uniform(0, world.weather.delay_seconds))
        other = world.homes.get(peer.address)
        pair = frozenset((me.address, peer.address))
        if other is None or other.process is None or pair in world.parted:
            raise PeerUnreachable(f"{peer.name} cannot be reached")
        server = other.process
        if server.nursery is None or me.name not in server.books.peers:
            raise PeerUnreachable(f"{peer.name} cannot be reached")
        watch = world.watch
        ours, theirs = connect(
            world.dice,
            world.weather,
            (
                lambda body: watch.sent(me, body, server.place),
                lambda body: watch.sent(other, body, self.place),
            ),
            (lambda body: watch.arrived(me, body), lambda body: watch.arrived(other, body)),
            (lambda body: me.bend(other.name, body), lambda body: other.bend(me.name, body)),
        )
        world.ends.append((pair, ours))
        server.nursery.start_soon(server.serve, theirs, me.name)
        return ours

    @property
    def place(self) -> tuple[str, int]:
        """Whose node this is, and of which generation."""
        return self.party.name, self.books.generation

    async def serve(self, stream: End, name: str) -> None:
        """A peer has dialled."""
        here.set(self.party)  # and not who dialled
        await self.peering.serve(stream, name, dialled=False)

    async def mirror(self, stream: End) -> None:
        """Our standby has dialled."""
        here.set(self.party)
        assert self.mirroring is not None
        await self.mirroring.serve(stream)

    def do(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Let a user's request run in this process; it dies with it."""
        assert self.nursery is not None
        self.nursery.start_soon(self._request, work, *arguments)

    async def _request(self, work: Callable[..., Any], *arguments: Any) -> None:
        here.set(self.party)
        _begun.set(self._alone)
        try:
            await work(*arguments)
        except TallyError as error:
            _log.info("%s: %s", self.party.name, error)

    @property
    def _alone(self) -> tuple[bool, int]:
        """Whether it does not wait for a standby now, and how often it began not to."""
        if self.mirroring is None or not self.party.config.standby.wait:
            return True, 0
        return self.mirroring.alone, self.mirroring.alone_times

    @property
    def waited(self) -> bool:
        """Whether the request that is answered now had to wait for a standby all the time."""
        return _begun.get() == self._alone and not self._alone[0]
