"""A standby's process: it follows its primary over the made-up network, and may be promoted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from simulator.disk import MemoryStore, PowerCut
from simulator.network import End, Steady, connect
from simulator.watch import here
from tallystick.node.errors import PeerUnreachable
from tallystick.node.standby.applying import Mirrored
from tallystick.node.standby.following import Following
from tallystick.node.standby.mode import primary_of
from tallystick.node.standby.promoting import promote
from tallystick.protocol.errors import TallyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.party import Party

_log = logging.getLogger("simulator")


class Follower:
    """One life of a standby."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.scope = trio.CancelScope()
        self.store = MemoryStore(party.disk, self._lose_power)
        primary = primary_of(party.home)
        assert primary is not None
        mirrored = Mirrored(self.store, party.disk.folder)
        self.following = Following(party.home, mirrored, primary, self._dial)
        self.nursery: trio.Nursery | None = None

    def _lose_power(self) -> None:
        if self.party.follower is self:
            self.party.died(cut=True)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until killed, cut from power, or promoted."""
        here.set(self.party)
        task_status.started()
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    nursery.start_soon(self.following.run)
                    await trio.sleep_forever()
        except* PowerCut:
            pass

    async def _dial(self) -> End:
        world, me, primary = self.party.world, self.party, self.following.primary
        await trio.sleep(world.dice.uniform(0, world.weather.delay_seconds))
        other = world.homes.get(primary)
        pair = frozenset((me.address, primary))
        server = other.process if other is not None else None
        if server is None or pair in world.parted:
            raise PeerUnreachable(f"{primary} cannot be reached")
        if server.nursery is None or server.mirroring is None:
            raise PeerUnreachable(f"{primary} serves no standby")
        ours, theirs = connect(
            world.dice, Steady(world.weather), (_pass, _pass), (_pass, _pass), (_same, _same)
        )
        world.ends.append((pair, ours))
        server.nursery.start_soon(server.mirror, theirs)
        return ours

    def promote(self, done: Callable[[Party, bool], None]) -> None:
        """Have this standby take over, if it can; `done` is told whether the primary heard it."""
        if self.nursery is not None:
            self.nursery.start_soon(self._promote, done)

    async def _promote(self, done: Callable[[Party, bool], None]) -> None:
        party = self.party
        try:
            _, told = await promote(party.identity, self.following, party.clock_us())
        except TallyError as error:
            _log.info("%s: %s", party.address, error)
            return
        party.died(cut=False)
        done(party, told)


def _pass(body: bytes) -> None:
    return None


def _same(body: bytes) -> list[bytes]:
    return [body]
