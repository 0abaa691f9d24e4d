"""What people and their programs ask of the nodes, and whether each answer was right when given."""

from __future__ import annotations

from random import Random

from simulator.disputants import HOUR_US, Disputants
from simulator.party import START_US, Emitted, Party, World
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.importing.drafts import Draft
from tallystick.node.rotating import JOBS
from tallystick.protocol.records import Correction

METERS = ("tokens", "calls", "peak")


class Users:
    """The users of every party. `restored` are parties that came back from a backup; in a run that
    `rotates` the parties change their keys.
    """

    def __init__(
        self, world: World, dice: Random, restored: set[str], *, rotates: bool = False
    ) -> None:
        self.world, self.dice, self.restored = world, dice, restored
        self.rotates = rotates
        self.disputants = Disputants(world, dice, METERS)
        self._number = 0

    def ask(self, party: Party) -> None:
        """One request of a party's node, if it runs."""
        if not party.channels:
            return
        channel, closer = self.dice.choice(party.channels)
        assert party.process is not None
        luck = self.dice.random()
        if luck < 0.55:
            party.process.do(self._emit, party, channel, self._drafts(party, channel))
        elif luck < 0.64:
            party.process.do(self._correct, party, channel)
        elif luck < 0.8:
            party.process.do(self.disputants.quarrel, party, channel, closer)
        elif luck < 0.9:
            party.process.do(self.disputants.declare, party, channel, closer)
        elif self.rotates and luck > 0.93:
            party.process.do(self._rotate, party)
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
            if index >= party.size_on_disk(channel):
                watch.violated(1, f"{draft.meter}/{draft.id} was acknowledged before the disk")
            moved = emitted.acknowledged and index != emitted.index
            if moved and party.name not in self.restored:
                watch.violated(6, f"{draft.meter}/{draft.id} got a second receipt")
            emitted.index, emitted.acknowledged, emitted.excused = index, True, False
            emitted.waited |= party.process is not None and party.process.waited

    async def _correct(self, party: Party, channel: Channel) -> None:
        known = [e for k, e in party.emitted.items() if k[0] == channel.id and e.acknowledged]
        if known:
            draft = self.dice.choice(known).draft
            quantity = self.dice.choice((None, self.dice.randrange(100)))
            record = Correction(
                draft.id, draft.meter, quantity, "counted twice", channel.now_recorded_at()
            )
            await channel.append_own(record)

    async def _rotate(self, party: Party) -> None:
        """A party changes a key of its own in all channels."""
        assert party.process is not None
        overlap_us = self.dice.choice((0, 1_000_000, HOUR_US))
        await party.process.peering.rotator.rotate(self.dice.choice(JOBS), overlap_us)

    async def _close(self, party: Party, channel: Channel, closer: Closer) -> None:
        assert party.process is not None
        periods = sorted({line.period for line in closer.open_lines()})
        link = party.process.peering.links.get(channel.peer_keys.name)
        send = link.say if link is not None and link.live and channel.live else None
        if periods:
            await closer.close(periods[0], force=True, send=send)
