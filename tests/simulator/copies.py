"""A home is there twice: what is done with the copies, and what must come of it.

A home is copied, as files or as a machine, while it runs or not, and from then on both homes live
in the same mischief. In the end all can be reached, or each copy can reach another peer only, and
soon one copy at most may go on. Then people give one up, and say so at the other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import trio

from simulator.party import Party, World
from simulator.rest import COPIES, fallen_at, named_on_disk
from tallystick.node.logs import ChannelLog

KEPT_SECONDS = 10  # after which that a copy stopped must be on its disk
NOTICED_SECONDS = 300  # in which one copy at least has stopped, once copies can hear of each other


def copy_home(party: Party, folder: Path, *, as_machine: bool) -> Party:
    """Another home of a party: all that is on its disk now, and what its users were told."""
    world = party.world
    made = Party(world, party.name, folder, f"{party.address}-copy")
    made.disk.tables = party.disk.snapshot()
    made.disk.inode = party.disk.inode + (0 if as_machine else 1000)
    made.skew_us = party.skew_us
    made.emitted = {key: replace(emitted) for key, emitted in party.emitted.items()}
    made.said = {key: replace(said) for key, said in party.said.items()}
    made.restored = party.restored = True
    return made


class Copies:
    """The two homes of one party in a run."""

    def __init__(self, world: World, dice: Random, pair: tuple[Party, Party]) -> None:
        self._world, self._dice = world, dice
        self.pair = pair
        self._stopped: dict[str, tuple[float, int]] = {}  # by address: since when, in which life
        world.copied.add(pair[0].name)

    def look(self) -> None:
        """Whether a copy that stopped is still stopped when it starts again."""
        now = trio.current_time()
        for home in self.pair:
            if home.process is None or home.disk.full:
                continue
            stopped = home.process.peering.presences.stopped
            since, life = self._stopped.get(home.address, (now, home.lives))
            if stopped:
                self._stopped[home.address] = since, life
                continue
            lasted = self._stopped.pop(home.address, None) is not None and life != home.lives
            if lasted and home.died_at - since > KEPT_SECONDS and not home.decided:
                said = f"{home.address} had stopped, and goes on after a restart"
                self._world.watch.violated(COPIES, said)

    async def settle(self, nursery: trio.Nursery) -> Party:
        """See to it that one copy stops, then give one up; the one that is kept."""
        world, dice = self._world, self._dice
        others = [party for party in world.parties.values() if party.name != self.pair[0].name]
        if len(others) > 1 and dice.random() < 0.7:  # they meet by gossip alone
            for home, far in zip(self.pair, others, strict=True):
                world.part(home.address, far.address)
        await self._notice(nursery)
        kept, gone = dice.sample(self.pair, 2)
        world.fallen.update(fallen_at(gone))
        gone.died(cut=False)
        del world.homes[gone.address]
        world.parties[kept.name] = kept
        world.parted.clear()
        self._inherit(kept, gone)
        return kept

    async def _notice(self, nursery: trio.Nursery) -> None:
        with trio.move_on_after(NOTICED_SECONDS) as waiting:
            while True:
                for home in (*self._world.parties.values(), *self.pair):
                    if home.process is None:
                        await home.start(nursery)
                if sum(map(_goes_on, self.pair)) < 2:
                    break
                await trio.sleep(1)
        if waiting.cancelled_caught:
            said = (
                f"two copies of {self.pair[0].name} ran for {NOTICED_SECONDS} s, and none stopped"
            )
            self._world.watch.violated(COPIES, said)

    def _inherit(self, kept: Party, gone: Party) -> None:
        """What was recorded at the copy that is given up may be there, and nobody asks for it."""
        kept.turned |= gone.turned  # by whose clock either co-signed
        for key, emitted in gone.emitted.items():
            kept.emitted.setdefault(key, replace(emitted, excused=True))
        for name, said in gone.said.items():
            kept.said.setdefault(name, replace(said, excused=True))


def _goes_on(home: Party) -> bool:
    return home.process is None or not home.process.peering.presences.stopped


def judge_kept(world: World) -> None:
    """What was acknowledged at the home that was kept is there, also where its channel halted, and
    what was co-signed of either home is one history.
    """
    for party in world.parties.values():
        if party.name not in world.copied:
            continue
        held = named_on_disk(party)
        for (channel, meter, id), emitted in party.emitted.items():
            there = (channel, party.name, f"{meter}/{id}") in held
            if emitted.acknowledged and not emitted.excused and not there:
                world.watch.violated(1, f"acknowledged {meter}/{id} is not where it was recorded")
        for channel, _ in party.channels:
            peer = world.parties[channel.peer_keys.name]
            for there, _ in peer.channels:
                if there.id == channel.id:
                    _judge_cosigned(world, there.peer)


def _judge_cosigned(world: World, log: ChannelLog) -> None:
    name = log.head(0, b"").origin
    for head in world.watch.cosigned_shown:
        short = head.size > log.durable_size
        if head.origin == name and (short or log.root_at(head.size) != head.root):
            said = f"two histories of {name} were co-signed, to size {head.size}"
            world.watch.violated(2, said)
