"""What happens in a run: a seed draws users' requests and the world's mischief, step by step.

At the end the weather clears, everybody is started, and the nodes have time to agree; then the
judge looks.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from random import Random
from unittest import mock

import builders
import trio
import trio.testing

from simulator.disk import Table
from simulator.judge import judge
from simulator.network import Weather
from simulator.party import START_US, Emitted, Party, World
from simulator.watch import Violation, Watch
from tallystick.node import rebuilding, upkeep
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.disk import Store
from tallystick.node.store.keyspace import index_key, log_key
from tallystick.protocol.errors import TallyError
from tallystick.protocol.messages import ProposeTerms
from tallystick.protocol.records import Correction, Delta, Terms, decode_batch

RUN_ENTRIES = 24  # the id index writes and merges runs of this size here, not of 65,536
HEAL_SECONDS = 2_000
HOUR_US = 3_600_000_000
METERS = ("tokens", "calls", "peak")

_log = logging.getLogger("simulator")


@dataclass
class Result:
    """What a run came to."""

    seed: int
    violations: list[Violation]
    events: int
    acknowledged: int
    faults: dict[str, int] = field(default_factory=dict)


def run(seed: int, steps: int) -> Result:
    """One run. The same seed and steps give the same history, event by event."""
    with ExitStack() as stack:
        base = "/dev/shm" if Path("/dev/shm").is_dir() else None
        folder = Path(tempfile.mkdtemp(prefix="simulated-", dir=base))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # Trio shuffles tasks that are ready together; here the seed decides that too.
        core = trio._core._run  # type: ignore[attr-defined]
        stack.enter_context(mock.patch.object(core, "_ALLOW_DETERMINISTIC_SCHEDULING", True))
        core._r.seed(seed)
        for module in (upkeep, rebuilding):
            stack.enter_context(mock.patch.object(module, "RECENT_MAX", RUN_ENTRIES))
        plan = Plan(seed, steps, folder)
        stack.enter_context(plan.world.watch.looking())
        stack.enter_context(plan.syncing())
        trio.run(plan.main, clock=trio.testing.MockClock(autojump_threshold=0))
        return plan.result()


class Plan:
    """One run's dice and what they have brought about so far."""

    def __init__(self, seed: int, steps: int, folder: Path) -> None:
        self.seed, self.steps = seed, steps
        self.dice = Random(seed)
        self.world = World(self.dice, Watch())
        names = ["acme.example", "beta.example", "gamma.example"][: 3 if seed % 4 == 3 else 2]
        self.parties = [Party(self.world, name, folder / name) for name in names]
        self.backups: list[tuple[Party, dict[str, Table]]] = []
        # A machine's snapshot leaves no trace, so only one party of a run comes back from one.
        self.snapshots = self.dice.random() < 0.3
        self.restored: set[str] = set()
        self.faults: dict[str, int] = {}
        self._number = 0
        self._nursery: trio.Nursery | None = None

    def syncing(self) -> mock._patch[object]:
        """Note how much of each file was fsynced."""

        def fsync(handle: int) -> None:
            import os

            found = os.fstat(handle)
            for party in self.parties:
                party.synced[found.st_ino] = found.st_size

        return mock.patch("os.fsync", fsync)

    def result(self) -> Result:
        """What came of it."""
        acknowledged = sum(e.acknowledged for p in self.parties for e in p.emitted.values())
        watch = self.world.watch
        return Result(self.seed, watch.violations, watch.events, acknowledged, self.faults)

    async def main(self) -> None:
        """The whole run."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._found()
            for _ in range(self.steps):
                await self._step()
                await trio.sleep(self.dice.choice((0.001, 0.01, 0.1, 1, 3)))
            await self._heal()
            judge(self.world, self.restored)
            for party in self.parties:
                party.died(cut=False)

    # The beginning

    async def _found(self) -> None:
        """Start, pair and found a channel between each two."""
        assert self._nursery is not None
        for party in self.parties:
            await party.start(self._nursery)
        for a, b in combinations(self.parties, 2):
            for one, other in ((a, b), (b, a)):
                assert one.process is not None
                await one.process.books.pairing_book().remember(other.as_peer())
                one.process.peering.add_peer(other.as_peer())
            await self._channel(a, b)

    async def _channel(self, a: Party, b: Party) -> None:
        assert a.process is not None
        assert b.process is not None
        meters = tuple(meter for meter in builders.METERS if meter.name in METERS)
        terms = builders.make_terms(a.identity, b.identity, meters, "hour", "UTC")
        peering = a.process.peering
        key = await peering.books.founding.propose(terms, b.as_peer())
        while b.name not in peering.links or not peering.links[b.name].live:
            await trio.sleep(0.1)
        offer = ProposeTerms(*self._offer(a, terms))
        peering.links[b.name].send(offer)
        while key not in b.process.books.founding.rows:
            await trio.sleep(0.1)
        await b.process.peering.open(key)
        while not all(
            key in p.process.books.channels and p.process.books.channels[key][0].own.cosigned_size
            for p in (a, b)
            if p.process
        ):
            await trio.sleep(0.1)

    def _offer(self, party: Party, terms: Terms) -> tuple[bytes, bytes]:
        assert party.process is not None
        founding = party.process.books.founding
        return builders.encode_record(terms), founding.signature(terms)

    # Steps

    async def _step(self) -> None:
        assert self._nursery is not None
        dice = self.dice
        for party in self.parties:
            if party.process is None and dice.random() < 0.5:
                party.disk.full = party.disk.full and dice.random() < 0.5
                await party.start(self._nursery)
        luck = dice.random()
        party = dice.choice(self.parties)
        if luck < 0.62:
            self._use(party)
        elif luck < 0.70:
            self._weather()
        else:
            mischief = dice.choice(
                (
                    self._power_cut,
                    self._cut_at_a_write,
                    self._kill,
                    self._part,
                    self._fill_disk,
                    self._turn_clock,
                    self._back_up,
                    self._back_up,
                    self._restore,
                )
            )
            name = mischief.__name__.strip("_")
            self.faults[name] = self.faults.get(name, 0) + 1
            mischief(party)

    def _use(self, party: Party) -> None:
        if not party.channels:
            return
        channel, closer = self.dice.choice(party.channels)
        assert party.process is not None
        luck = self.dice.random()
        if luck < 0.75:
            party.process.do(self._emit, party, channel, self._drafts(party, channel))
        elif luck < 0.88:
            party.process.do(self._correct, party, channel)
        else:
            party.process.do(self._close, party, channel, closer)

    def _drafts(self, party: Party, channel: Channel) -> list[Draft]:
        """New deltas, earlier ones again, and earlier ids with other content."""
        dice, drafts = self.dice, []
        known = [e for key, e in party.emitted.items() if key[0] == channel.id]
        for _ in range(dice.choice((1, 1, 2, 5, 30))):
            luck = dice.random()
            if luck < 0.2 and known:
                drafts.append(dice.choice(known).draft)
                continue
            if luck < 0.25 and known and party.name not in self.restored:
                old = dice.choice(known)
                if old.acknowledged:
                    draft = old.draft
                    drafts.append(
                        Draft(draft.id, draft.meter, draft.subject, draft.quantity + 1, 5)
                    )
                    continue
            self._number += 1
            occurred = START_US + dice.randrange(-HOUR_US, 3 * HOUR_US)
            draft = Draft(
                f"d{self._number}",
                dice.choice(METERS),
                dice.choice(("s", "t")),
                dice.randrange(100),
                occurred,
            )
            party.emitted[channel.id, draft.meter, draft.id] = Emitted(draft)
            drafts.append(draft)
        return drafts

    async def _emit(self, party: Party, channel: Channel, drafts: list[Draft]) -> None:
        watch = self.world.watch
        result = await channel.emit(drafts)
        problems = {place: kind for place, kind, _ in result.problems}
        for place, (draft, index) in enumerate(zip(drafts, result.indexes, strict=True)):
            emitted = party.emitted[channel.id, draft.meter, draft.id]
            if draft != emitted.draft:
                if problems.get(place) != "conflict" and party.name not in self.restored:
                    watch.violated(6, f"{draft.meter}/{draft.id} was taken with other content")
                continue
            if index < 0:
                watch.violated(6, f"{draft.meter}/{draft.id} was refused: {problems.get(place)}")
                continue
            if index >= _size(party, channel):
                watch.violated(1, f"{draft.meter}/{draft.id} was acknowledged before the disk")
            moved = emitted.acknowledged and index != emitted.index
            if moved and party.name not in self.restored:
                watch.violated(6, f"{draft.meter}/{draft.id} got a second receipt")
            emitted.index, emitted.acknowledged = index, True

    async def _correct(self, party: Party, channel: Channel) -> None:
        known = [e for k, e in party.emitted.items() if k[0] == channel.id and e.acknowledged]
        if known:
            draft = self.dice.choice(known).draft
            quantity = self.dice.choice((None, self.dice.randrange(100)))
            record = Correction(
                draft.id, draft.meter, quantity, "counted twice", channel.now_recorded_at()
            )
            await channel.append_own(record)

    async def _close(self, party: Party, channel: Channel, closer: Closer) -> None:
        assert party.process is not None
        periods = sorted({line.period for line in closer.open_lines()})
        link = party.process.peering.links.get(channel.peer_keys.name)
        send = link.send if link is not None and link.live and channel.live else None
        if periods:
            await closer.close(periods[0], force=True, send=send)

    def _weather(self) -> None:
        dice, weather = self.dice, self.world.weather
        self.world.parted.clear()
        calm = dice.random() < 0.4
        weather.delay_seconds = dice.choice((0.001, 0.05, 0.5, 5))
        for name in ("lose", "double", "reorder", "cut"):
            setattr(weather, name, 0.0 if calm else dice.choice((0.0, 0.0, 0.01, 0.1)))

    # Mischief

    def _power_cut(self, party: Party) -> None:
        party.died(cut=True)

    def _cut_at_a_write(self, party: Party) -> None:
        party.disk.cut_in = self.dice.randrange(6)

    def _kill(self, party: Party) -> None:
        party.died(cut=False)

    def _part(self, party: Party) -> None:
        other = self.dice.choice([p for p in self.parties if p is not party])
        self.world.part(party.name, other.name)

    def _fill_disk(self, party: Party) -> None:
        party.disk.full = not party.disk.full

    def _turn_clock(self, party: Party) -> None:
        party.skew_us += self.dice.choice((-1, 1)) * self.dice.choice((1, 10**6, 10**9, 10**11))
        party.skew_us = max(party.skew_us, -(10**12))

    def _back_up(self, party: Party) -> None:
        self.backups.append((party, party.disk.snapshot()))

    def _restore(self, party: Party) -> None:
        mine = [tables for owner, tables in self.backups if owner is party]
        if not mine or (self.snapshots and party is not self.parties[0]):
            return
        party.died(cut=False)
        party.disk.restore(self.dice.choice(mine), copied=not self.snapshots)
        self.restored.add(party.name)
        self._excuse()

    def _excuse(self) -> None:
        """What is on no disk any more cannot be asked for."""
        held = {party.name: _deltas(party) for party in self.parties}
        for party in self.parties:
            for (channel, meter, id), emitted in party.emitted.items():
                if not any((channel, party.name, meter, id) in names for names in held.values()):
                    emitted.excused = True

    # The end

    async def _heal(self) -> None:
        assert self._nursery is not None
        self.world.weather = calm = Weather(0.01)
        for _, end in self.world.ends:
            end._weather = calm
        self.world.parted.clear()
        for party in self.parties:
            party.disk.full, party.disk.cut_in = False, -1
        with trio.move_on_after(HEAL_SECONDS):
            while True:
                for party in self.parties:
                    if party.process is None:
                        await party.start(self._nursery)
                await self._agree_on_losses()
                if self._at_rest():
                    return
                await trio.sleep(1)
        for party in self.parties:
            for channel, _ in party.channels:
                self.world.watch.violated(4, f"no rest: {_state(party, channel)}")

    async def _agree_on_losses(self) -> None:
        """People at both sides of a channel that is doubtful on both agree to go on."""
        for party in self.parties:
            for channel, _ in party.channels:
                other = self.world.parties[channel.peer_keys.name]
                if other.process is None or channel.id not in other.process.books.channels:
                    continue
                theirs = other.process.books.channels[channel.id][0]
                if channel.doubt == 1 and theirs.doubt:
                    assert party.process is not None
                    try:
                        await party.process.peering.agree_on_loss(channel)
                    except TallyError as error:
                        _log.info("%s", error)

    def _at_rest(self) -> bool:
        return all(
            party.process is not None
            and len(party.channels) == len(self.parties) - 1
            and all(_calm(self.world, party, channel) for channel, _ in party.channels)
            for party in self.parties
        )


def _calm(world: World, party: Party, channel: Channel) -> bool:
    other = world.parties[channel.peer_keys.name]
    if other.process is None or channel.id not in other.process.books.channels:
        return False
    theirs, closer = other.process.books.channels[channel.id]
    own = channel.own
    aside = party.disk.tables["aside"]
    mine = MemoryKeys(aside, own.number)
    return (
        channel.live
        and not channel.doubt
        and own.settled
        and own.durable_size == own.cosigned_size == theirs.peer.durable_size
        and theirs.peer.settled
        and not mine
        and own.state.facts.checkpoint == channel.peer.state.facts.checkpoint
        and all(row.digest for row in closer.rows)
    )


def MemoryKeys(table: Table, log: int) -> list[bytes]:  # noqa: N802
    """The keys of a log in a table."""
    return [key for key in table.keys if key[:4] == log_key(log)]


def _state(party: Party, channel: Channel) -> str:
    assert party.process is not None
    row = party.process.books.founding.rows[channel.id]
    own = channel.own
    return (
        f"{party.name} with {row.peer}: {row.state} {row.reason!r} live={channel.live}"
        f" doubt={channel.doubt} own={own.durable_size}/{own.state.size} signed={own.signed_size}"
        f" cosigned={own.cosigned_size} peer={channel.peer.durable_size}"
        f" links={[(n, k.live) for n, k in party.process.peering.links.items()]}"
    )


def _size(party: Party, channel: Channel) -> int:
    """How many records of the party's own log are on its disk."""
    table = party.disk.tables["batches"]
    keys = MemoryKeys(table, channel.own.number)
    if not keys:
        return 0
    last = keys[-1]
    return int.from_bytes(last[4:], "big") + len(decode_batch(table.values[last])[0])


def _deltas(party: Party) -> set[tuple[bytes, str, str, str]]:
    """(channel, author, meter, id) of every delta on a party's disk, set aside or not."""
    from simulator.watch import _row

    found = set()
    for channel, value in party.disk.tables["channels"].values.items():
        row = _row(value)
        for table in ("batches", "aside"):
            held = party.disk.tables[table]
            for own in (True, False):
                for key in MemoryKeys(held, 2 * row.number + (not own)):
                    author = party.name if own else row.peer
                    for record in decode_batch(held.values[key])[0]:
                        if isinstance(record, Delta):
                            found.add((channel, author, record.meter, record.id))
    return found


__all__ = ["Plan", "Result", "Store", "index_key", "run"]
