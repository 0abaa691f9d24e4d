"""A party with a standby: it takes over whenever people say so, and older nodes come back.

Some primaries wait for their standby, some do not, some give it up after a while. People promote it
while the primary runs or not, reachable or not; the primary lives on in all mischief, or is gone
for good. A new standby follows whoever took over, and may take over in its turn.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import trio

from simulator.party import Party, World
from simulator.watch import FENCES
from tallystick.node.config import Config, StandbySettings
from tallystick.node.standby.marks import GENERATION, is_mirrored
from tallystick.node.standby.mode import mark_standby

FENCED_SECONDS = 300  # in which each older node has stopped, once it can reach a peer
IN_STEP_SECONDS = 300
HANDING_OVER_SECONDS = 30  # after which no promotion is under way any more
# Whether a primary waits for its standby, and how many seconds (0: always).
ALWAYS = StandbySettings(serve=True, wait=True, wait_seconds=0.0)
WAITS = ((True, 0.0), (True, 0.0), (True, 10.0), (False, 10.0))


class Takeovers:
    """The homes of one party in a run; `homes` are those of everybody that are used."""

    def __init__(
        self, world: World, dice: Random, folder: Path, homes: list[Party], party: Party
    ) -> None:
        self._world, self._dice, self._folder = world, dice, folder
        self._homes = homes
        self.name = party.name
        self.standby: Party | None = None
        self._number = 0
        self._configure(party)
        self.follow()

    @property
    def primary(self) -> Party:
        """The home that counts."""
        return self._world.parties[self.name]

    def _configure(self, home: Party) -> None:
        wait, seconds = self._dice.choice(WAITS)
        home.config = Config(standby=StandbySettings(serve=True, wait=wait, wait_seconds=seconds))

    def follow(self) -> None:
        """Make a standby of whoever counts, if there is none."""
        if self.standby is not None:
            return
        self._number += 1
        name = f"{self.name}-{self._number}"
        self.standby = Party(self._world, self.name, self._folder / name, name)
        self.standby.skew_us = self.primary.skew_us
        self._configure(self.standby)
        mark_standby(self.standby.home, self.primary.address)
        self._homes.append(self.standby)

    def part(self) -> None:
        """Cut the network between the two."""
        if self.standby is not None:
            self._world.part(self.primary.address, self.standby.address)

    def promote(self) -> None:
        """Have the standby take over, wherever the primary is."""
        if self.standby is not None and self.standby.follower is not None:
            self.standby.follower.promote(self._promoted)

    def _promoted(self, home: Party, told: bool) -> None:
        old, self.standby = self.primary, None
        self._world.parties[self.name] = home
        home.restored = True
        home.turned |= old.turned
        for key, emitted in old.emitted.items():
            sure = emitted.waited or not emitted.acknowledged
            home.emitted[key] = replace(emitted, excused=emitted.excused or not sure)
        for name, said in old.said.items():
            sure = said.waited or not said.acknowledged
            home.said[name] = replace(said, excused=said.excused or not sure)
        if self._dice.random() < 0.3:  # its machine burnt down
            old.died(cut=False)
            self._homes.remove(old)
            del self._world.homes[old.address]

    # The end

    async def settle(self, nursery: trio.Nursery) -> None:
        """See to it that every older node stops for good. One that always waits for a standby that
        it has not any more says and hears nothing until it is started again.
        """
        await trio.sleep(HANDING_OVER_SECONDS)
        with trio.move_on_after(FENCED_SECONDS) as limit:
            while True:
                for home in list(self._world.homes.values()):
                    await home.start(nursery)
                if self.primary.config.standby.wait:
                    self.follow()
                if self.primary.superseded:  # it handed over, and the standby died of it
                    self.promote()
                elif all(home.superseded for home in self._older()):
                    break
                for home in self._older():
                    if home.config.standby == ALWAYS and self._dice.random() < 0.03:
                        home.died(cut=False)
                await trio.sleep(1)
        if limit.cancelled_caught:
            for home in self._older():
                if not home.superseded:
                    self._world.watch.violated(FENCES, f"{home.address} goes on: it was superseded")
        for home in self._world.homes.values():
            if home.name == self.name:
                self._inherit(home)

    def _older(self) -> list[Party]:
        mine = [home for home in self._world.homes.values() if home.name == self.name]
        return [home for home in mine if home not in (self.primary, self.standby)]

    def _inherit(self, old: Party) -> None:
        """What was recorded at an older node may have reached the peer, and nobody asks for it."""
        for key, emitted in old.emitted.items():
            self.primary.emitted.setdefault(key, replace(emitted, excused=True))
        for name, said in old.said.items():
            self.primary.said.setdefault(name, replace(said, excused=True))

    async def judge(self) -> None:
        """A standby that can reach its primary holds what it holds."""
        if self.standby is None:
            return
        with trio.move_on_after(IN_STEP_SECONDS):
            while _mirrored(self.primary) != _mirrored(self.standby):
                await trio.sleep(0.5)
            return
        self._world.watch.violated(FENCES, f"{self.standby.address} is not like its primary")


def _mirrored(home: Party) -> dict[str, dict[bytes, bytes]]:
    found = {
        name: {key: value for key, value in table.values.items() if is_mirrored(name, key)}
        for name, table in home.disk.tables.items()
    }
    # A promotion that was cut off may have begun a generation: the next one is a greater one.
    found["meta"].pop(GENERATION, None)
    return found
