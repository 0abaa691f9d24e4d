"""Two peers forget the same: both machines go back, no file shows it, and each believes the other.

Only a third party still knows, by gossip, what both had signed. It is reachable first; then they
meet again. Without it they would sign another history of the same sizes.
"""

from __future__ import annotations

from random import Random

import trio

from simulator.disk import Table
from simulator.party import Party, World
from simulator.users import Users
from tallystick.node.channel import Channel

DAY_US = 86_400_000_000
TOLD_SECONDS = 400  # for what is newest to reach the third party
HEARD_SECONDS = 60  # in which a node that starts is given back what it brought
WORDS = 8


class Forgetting:
    """Both homes as they were when this was made."""

    def __init__(self, world: World, dice: Random, pair: tuple[Party, Party]) -> None:
        self._world, self._dice = world, dice
        self.pair = pair
        self._before: list[dict[str, Table]] = [party.disk.snapshot() for party in pair]

    async def told(self) -> bool:
        """Wait until the third party holds both logs' newest heads; whether it does, and all clocks
        are as near to each other as gossip asks for at the end of a week.
        """
        skews = [party.skew_us for party in self._world.parties.values()]
        if max(skews) - min(skews) > DAY_US:
            return False
        with trio.move_on_after(TOLD_SECONDS):
            while not all(self._is_told(*found) for found in self._logs()):
                await trio.sleep(1)
            return True
        return False

    def _logs(self) -> list[tuple[Party, Channel]]:
        one, other = self.pair
        return [
            (party, channel)
            for party, peer in ((one, other), (other, one))
            for channel, _ in party.channels
            if channel.peer_keys.name == peer.name
        ]

    def _is_told(self, party: Party, channel: Channel) -> bool:
        third = next(p for p in self._world.parties.values() if p not in self.pair)
        assert party.process is not None
        assert third.process is not None
        pseudonyms = party.process.peering.talker._pseudonyms
        behind = pseudonyms.publishing(channel.id)
        if behind is None:
            return False
        veil = pseudonyms.veil(behind)
        item = third.process.peering.talker.engine.newest(veil.pseudonym)
        return item is not None and item.rank == veil.rank(channel.own.cosigned_size)

    def forget(self) -> None:
        """Both go back, and cannot reach each other."""
        for party, tables in zip(self.pair, self._before, strict=True):
            party.died(cut=False)
            party.disk.restore(tables, copied=False)
            party.restored = True
        self._world.part(*(party.address for party in self.pair))

    async def live_on(self, users: Users, nursery: trio.Nursery) -> None:
        """They hear what the third party knows, are used, and meet again."""
        for party in self.pair:
            await party.start(nursery)
        await trio.sleep(HEARD_SECONDS)
        for _ in range(WORDS):
            users.ask(self._dice.choice(self.pair))
            await trio.sleep(0.5)
        self._world.parted.clear()
