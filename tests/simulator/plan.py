"""What happens in a run: a seed draws users' requests and the world's mischief, step by step.

At the end the weather clears, everybody is started, and the nodes have time to agree; then the
judge looks. In every fourth seed there are three parties, and in every eighth (`LIARS`) the third
one lies; in every eighth (`LOSSES`) little happens but that homes come back from backups, and in
every eighth (`COPIES`) a home is there twice, in every eighth (`TAKEOVERS`) a party has a standby.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import builders
import msgspec
import trio
import trio.testing

from simulator.arbiter import arbitrate
from simulator.copies import Copies, copy_home, judge_kept
from simulator.disk import Table
from simulator.forgetting import Forgetting
from simulator.judge import judge
from simulator.liar import Liar
from simulator.network import Weather
from simulator.party import Party, World
from simulator.rest import come_to_rest, named_on_disk
from simulator.rumours import Gossiper
from simulator.takeovers import Takeovers
from simulator.users import METERS, Users
from simulator.watch import Violation, Watch
from tallystick.node import declaring, rebuilding, upkeep
from tallystick.protocol.errors import lone_error
from tallystick.protocol.messages import ProposeTerms
from tallystick.protocol.terms import channel_id

DAY_SECONDS = 86_400
RUN_ENTRIES = 24  # the id index writes and merges runs of this size here, not of 65,536
LIARS, LOSSES, COPIES, RUMOURS, TAKEOVERS = 7, 5, 4, 3, 0  # seeds with this remainder by 8
FORGETTING = 11  # seeds with this remainder by 16
CLOCKS = ((4, 6), (12, 9), (40, 30), (29 * DAY_SECONDS, 15 * DAY_SECONDS))
NAMES = ("acme.example", "beta.example", "gamma.example")


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
        salts = Random(seed).randbytes  # of declarations
        stack.enter_context(mock.patch.object(declaring.secrets, "token_bytes", salts))
        plan = Plan(seed, steps, folder)
        stack.enter_context(plan.world.watch.looking())
        stack.enter_context(plan.syncing())
        stack.enter_context(mock.patch.object(trio.to_thread, "run_sync", plan.on_a_thread))
        try:
            trio.run(plan.main, clock=trio.testing.MockClock(autojump_threshold=0))
        except Exception as error:  # noqa: BLE001 - whatever a node did not bear is a finding
            cause = lone_error(error)
            place = traceback.extract_tb(cause.__traceback__)[-1]
            said = f"{type(cause).__name__}: {cause}, in {place.name}, line {place.lineno}"
            plan.world.watch.violated(9, f"a node died of {said}")
        return plan.result()


class Plan:
    """One run's dice and what they have brought about so far."""

    def __init__(self, seed: int, steps: int, folder: Path) -> None:
        self.seed, self.steps = seed, steps
        self.dice = Random(seed)
        self.world = World(self.dice, Watch())
        self.world.clocks_seconds = self.dice.choice(CLOCKS)
        three = seed % 4 == 3 or seed % 16 in (COPIES, TAKEOVERS)
        names = NAMES[: 3 if three else 2]
        self.folder = folder
        self.parties = [Party(self.world, name, folder / name) for name in names]
        self.lies = seed % 8 == LIARS
        self.world.watch.honest = set(names[:-1] if self.lies else names)
        self.backups: list[tuple[Party, dict[str, Table]]] = []
        # A machine's snapshot leaves no trace, so only one party of a run comes back from one.
        self.snapshots = self.dice.random() < 0.3
        self.restored: set[str] = set()
        self.users = Users(self.world, self.dice, self.restored, rotates=seed % 4 == 2)
        self.faults: Counter[str] = Counter()
        self._nursery: trio.Nursery | None = None
        self.mischief = [
            self._power_cut,
            self._cut_at_a_write,
            self._cut_at_a_write,
            self._kill,
            self._part,
            self._fill_disk,
            self._slow_disk,
            self._turn_clock,
        ]
        self.copies: Copies | None = None
        self.copied_at = self.dice.randrange(steps // 2) if seed % 8 == COPIES else steps
        self.forgetting: Forgetting | None = None
        self.forgets_at = self.dice.randrange(steps) if seed % 16 == FORGETTING else steps
        self.takeovers: Takeovers | None = None
        if seed % 8 == TAKEOVERS:
            self.mischief += [self._part, self._kill, self._part_standby]
            self.mischief += [self._promote, self._promote, self._new_standby]
        elif seed % 8 == COPIES:
            self.mischief += [self._part, self._kill, self._decide_in_haste]
        elif seed % 8 == LOSSES:
            self.mischief = [self._back_up, self._restore, self._restore, self._part, self._kill]
        elif (
            not self.lies and seed % 16 != FORGETTING
        ):  # what a liar said to a home that was then put back, nobody can tell
            self.mischief += [self._back_up, self._back_up, self._restore]

    def syncing(self) -> mock._patch[object]:
        """Note how much of each file was fsynced."""

        def fsync(handle: int) -> None:
            found = os.fstat(handle)
            # Not by inode for good: the system gives one out again, when it likes.
            for party in self.parties:
                for path in party.disk.folder.iterdir():
                    if path.stat().st_ino == found.st_ino:
                        party.synced[path] = found.st_size

        return mock.patch("os.fsync", fsync)

    async def on_a_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Take a while, as a thread does, and then do it at once."""
        with trio.CancelScope(shield=True):
            await trio.sleep(self.dice.uniform(0, 0.002))
        return work(*arguments)

    def result(self) -> Result:
        """What came of it."""
        acknowledged = sum(e.acknowledged for p in self.parties for e in p.emitted.values())
        for party in self.parties:
            if party.gossiper is not None:
                self.faults.update(party.gossiper.told)
            if party.liar is not None:
                self.faults.update({f"lie {name}": n for name, n in party.liar.told.items()})
        if self.world.fallen:
            self.faults["fell_out"] = len(self.world.fallen)
        watch = self.world.watch
        return Result(self.seed, watch.violations, watch.events, acknowledged, dict(self.faults))

    async def main(self) -> None:
        """The whole run."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._found()
            if self.seed % 8 == TAKEOVERS:
                await self._serve_standbys(self.dice.choice(self.parties))
            if self.seed % 8 == RUMOURS:
                # What was forged is found out at once; in every second of these seeds nothing is.
                party, forges = self.parties[-1], self.seed % 16 == RUMOURS
                party.gossiper = Gossiper(party, self.dice, forges=forges)
            if self.lies:
                self.parties[-1].liar = Liar(self.parties[-1], self.dice)
            for step in range(self.steps):
                if step == self.copied_at:
                    self._copy(self.dice.choice(self.parties))
                if step == self.forgets_at:
                    one, other, _ = self.parties
                    self.forgetting = Forgetting(self.world, self.dice, (one, other))
                await self._step()
                if self.copies is not None:
                    self.copies.look()
                await trio.sleep(self.dice.choice((0.001, 0.01, 0.1, 1, 3)))
            self._clear_up()
            if self.copies is not None:
                await self.copies.settle(nursery)
            if self.takeovers is not None:
                await self.takeovers.settle(nursery)
            await come_to_rest(self.world, nursery)
            if self.forgetting is not None and await self.forgetting.told():
                await self._forget(self.forgetting)
            judge(self.world, self.restored)
            judge_kept(self.world)
            if not any(one.invariant == 4 for one in self.world.watch.violations):
                arbitrate(self.world)
            if self.takeovers is not None:
                await self.takeovers.judge()
            for party in list(self.world.homes.values()):
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
        answer, dispute = self.world.clocks_seconds
        terms = msgspec.structs.replace(
            builders.make_terms(a.identity, b.identity, meters, "hour", "UTC"),
            answer_seconds=answer,
            dispute_seconds=dispute,
        )
        peering, key = a.process.peering, channel_id(terms)
        self.world.channels.append(key)
        await peering.books.founding.propose(terms, b.as_peer())
        while b.name not in peering.links or not peering.links[b.name].live:
            await trio.sleep(0.1)
        signature = peering.books.founding.signature(terms)
        peering.links[b.name].send(ProposeTerms(builders.encode_record(terms), signature))
        while key not in b.process.books.founding.rows:
            await trio.sleep(0.1)
        await b.process.peering.open(key)
        while not all(
            key in p.process.books.channels and p.process.books.channels[key][0].own.cosigned_size
            for p in (a, b)
            if p.process
        ):
            await trio.sleep(0.1)

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
            self.users.ask(party)
        elif luck < 0.70:
            self._weather()
        else:
            mischief = dice.choice(self.mischief)
            self.faults[mischief.__name__.strip("_")] += 1
            mischief(party)

    def _weather(self) -> None:
        dice, weather = self.dice, self.world.weather
        self.world.parted.clear()
        calm = dice.random() < 0.4
        weather.delay_seconds = dice.choice((0.001, 0.05, 0.5, 5, 60))
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
        other = self.dice.choice([p for p in self.parties if p.name != party.name])
        self.world.part(party.address, other.address)

    def _fill_disk(self, party: Party) -> None:
        party.disk.full = not party.disk.full

    def _slow_disk(self, party: Party) -> None:
        party.disk.slow_seconds = self.dice.choice((0.0005, 0.002, 0.1, 4))

    def _turn_clock(self, party: Party) -> None:
        party.turned = True
        party.skew_us += self.dice.choice((-1, 1)) * self.dice.choice((1, 10**6, 10**9, 10**11))
        party.skew_us = max(party.skew_us, -(10**12))

    def _back_up(self, party: Party) -> None:
        self.backups.append((party, party.disk.snapshot()))

    def _restore(self, party: Party) -> None:
        mine = [place for place, (owner, _) in enumerate(self.backups) if owner is party]
        if not mine or (self.snapshots and party is not self.parties[0]):
            return
        party.died(cut=False)
        chosen = self.dice.choice(mine)
        party.disk.restore(self.backups[chosen][1], copied=not self.snapshots)
        # A copy of the time that was just given up holds signatures of another history: its home
        # halts its channels instead of going on, as it must.
        self.backups = [
            backup
            for place, backup in enumerate(self.backups)
            if place <= chosen or backup[0] is not party
        ]
        self.restored.add(party.name)
        party.restored = True
        self._excuse()

    async def _forget(self, forgetting: Forgetting) -> None:
        """Two parties go back, and all come to rest again."""
        assert self._nursery is not None
        self.faults["forgetting"] += 1
        forgetting.forget()
        self.restored.update(party.name for party in forgetting.pair)
        self._excuse()
        await forgetting.live_on(self.users, self._nursery)
        await come_to_rest(self.world, self._nursery)

    def _copy(self, party: Party) -> None:
        """Copy a home, while it runs or not; both are used from now on."""
        if self.dice.random() < 0.5:
            party.died(cut=False)
        as_machine = self.snapshots and self.dice.random() < 0.5
        other = copy_home(party, self.folder / f"{party.name}-copy", as_machine=as_machine)
        self.copies = Copies(self.world, self.dice, (party, other))
        self.parties.append(other)
        self.restored.add(party.name)
        self.faults["copy"] += 1

    async def _serve_standbys(self, party: Party) -> None:
        """Start a party's node anew, with a standby."""
        assert self._nursery is not None
        party.died(cut=False)
        self.takeovers = Takeovers(self.world, self.dice, self.folder, self.parties, party)
        self.restored.add(party.name)
        await party.start(self._nursery)

    def _promote(self, party: Party) -> None:
        assert self.takeovers is not None
        self.takeovers.promote()

    def _new_standby(self, party: Party) -> None:
        assert self.takeovers is not None
        self.takeovers.follow()

    def _part_standby(self, party: Party) -> None:
        assert self.takeovers is not None
        self.takeovers.part()

    def _decide_in_haste(self, party: Party) -> None:
        """People say that this is the only copy, and are wrong."""
        if party.process is not None and party.process.peering.presences.stopped:
            party.decided = True
            party.process.do(party.process.peering.only_copy)

    def _excuse(self) -> None:
        """What is on no disk any more cannot be asked for."""
        held = set().union(*map(named_on_disk, self.parties))
        for party in self.parties:
            for (channel, meter, id), emitted in party.emitted.items():
                emitted.excused |= (channel, party.name, f"{meter}/{id}") not in held
            for (channel, name), said in party.said.items():
                said.excused |= (channel, party.name, name) not in held

    # The end

    def _clear_up(self) -> None:
        vars(self.world.weather).update(vars(Weather()))
        self.world.parted.clear()
        for party in self.parties:
            party.disk.full, party.disk.cut_in, party.disk.slow_seconds = False, -1, 0.002
            if party.gossiper is not None:
                party.gossiper.lying = False
            if party.liar is not None:
                party.liar.lying = False
