"""What people say of usage that is recorded: they dispute, answer, insist, settle, and declare.

Each thing said has a reason of its own, so that it is known again wherever it is, also when a home
that lost it recorded it anew at another time.
"""

from __future__ import annotations

from random import Random

import msgspec

from simulator.party import START_US, Party, Said, World
from tallystick.node import disputing
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.disputing import Sayable
from tallystick.protocol.declarations import totals_of
from tallystick.protocol.disputes import Standing
from tallystick.protocol.records import Answer, Declaration, Dispute, Resolution, Withdrawal

HOUR_US = 3_600_000_000
NOBODYS = bytes(32)  # the digest of no dispute
SETTLEMENTS = (1, 2, 3)  # amounts are few, so that both parties come to name the same one


class Disputants:
    """The people of every party who look at its numbers."""

    def __init__(self, world: World, dice: Random, meters: tuple[str, ...]) -> None:
        self.world, self.dice = world, dice
        self._meters = meters
        self._number = 0

    async def quarrel(self, party: Party, channel: Channel, closer: Closer) -> None:
        """File a dispute, or say something of one that is there."""
        standing = disputing.standing_all(channel)
        if not standing or self.dice.random() < 0.4:
            await self._say(party, channel, self._dispute(channel, closer))
            return
        one = self.dice.choice(standing[-4:])
        if self.dice.random() < 0.2:  # as a program may that asks nobody whether it makes sense
            await self._blurt(party, channel, one)
        else:
            await self._say(party, channel, self._reply(channel, one))

    def _line(self, channel: Channel, closer: Closer) -> tuple[str, str, str]:
        """A line that somebody may dispute: one that is there, or any."""
        lines = closer.all_lines()
        if lines and self.dice.random() < 0.9:
            line = self.dice.choice(lines)
            return line.late_for or line.period, line.meter, line.subject
        return self._label(channel), self.dice.choice(self._meters), self.dice.choice(("s", "t"))

    def _label(self, channel: Channel) -> str:
        occurred = START_US + self.dice.randrange(-HOUR_US, 3 * HOUR_US)
        return channel.own.folder.calendar.period_of(occurred).label

    def _reason(self) -> str:
        self._number += 1
        return f"m{self._number}"

    def _dispute(self, channel: Channel, closer: Closer) -> Dispute:
        period, meter, subject = self._line(channel, closer)
        amount = self.dice.choice((-1, 1, 1)) * self.dice.randrange(1, 100)
        return Dispute(period, meter, subject, amount, "quantity", self._reason(), (), 0)

    def _reply(self, channel: Channel, one: Standing) -> Sayable:
        """What makes sense to say of a dispute, or once made sense."""
        ours, amount, reason = one.role == channel.role, one.dispute.amount, self._reason()
        luck = self.dice.random()
        if luck < 0.25:
            return Resolution(one.digest, self.dice.choice(SETTLEMENTS), reason, 0)
        if ours and luck < 0.45:
            return Withdrawal(one.digest, reason, 0)
        parts = (0,) if ours else (0, 0, amount // 2, amount)
        return Answer(one.digest, self.dice.choice(parts), reason, (), 0)

    async def _say(self, party: Party, channel: Channel, record: Sayable) -> None:
        said = self._note(party, channel, record)
        spoken = await disputing.say(channel, record)
        if not spoken.again:
            self._acknowledge(party, channel, said, spoken.index)

    async def _blurt(self, party: Party, channel: Channel, one: Standing) -> None:
        """Record something without looking at where the dispute stands."""
        digest = self.dice.choice((one.digest, one.digest, NOBODYS))
        reason = self._reason()
        record = self.dice.choice(
            (
                Answer(digest, 0, reason, (), 0),
                Resolution(digest, self.dice.choice(SETTLEMENTS), reason, 0),
                Withdrawal(digest, reason, 0),  # not ours, or nobody's: refused
            )
        )
        said = self._note(party, channel, record)

        def made() -> Sayable:
            return msgspec.structs.replace(record, recorded_at=channel.now_recorded_at())

        index = await channel.append_made(made)
        assert index is not None
        self._acknowledge(party, channel, said, index)

    def _note(self, party: Party, channel: Channel, record: Sayable) -> Said:
        return party.said.setdefault((channel.id, record.reason), Said(record))

    def _acknowledge(self, party: Party, channel: Channel, said: Said, index: int) -> None:
        said.acknowledged, said.excused = True, False
        said.waited |= party.process is not None and party.process.waited
        if index >= party.size_on_disk(channel):
            self.world.watch.violated(1, f"{said.record} was acknowledged before the disk")

    async def declare(self, party: Party, channel: Channel, closer: Closer) -> None:
        """Declare some totals of an hour."""
        assert party.process is not None
        declarer = party.process.peering.declarer
        totals = {meter: self.dice.randrange(3) for meter in self._meters}
        label = self._label(channel)
        index, again = await declarer.declare(channel, closer, label, totals, True)
        record = channel.own.matter(index)
        if not isinstance(record, Declaration):
            self.world.watch.violated(6, f"record {index} is no declaration, as was acknowledged")
            return
        said = party.said.setdefault((channel.id, record.commitment.hex()), Said(record))
        if not again:
            self._acknowledge(party, channel, said, index)
            said.totals = totals_of(channel.terms, totals)
