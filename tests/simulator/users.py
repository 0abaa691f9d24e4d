"""What people and their programs ask of the nodes, and whether each answer was right when given."""

from __future__ import annotations

from random import Random

from simulator.party import START_US, Emitted, Party, World
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.importing.drafts import Draft
from tallystick.node.rotating import JOBS
from tallystick.node.store.keyspace import log_key
from tallystick.protocol.records import (
    Answer,
    Correction,
    Dispute,
    Matter,
    Resolution,
    Withdrawal,
    decode_batch,
    record_digest,
)

HOUR_US = 3_600_000_000
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
        self._number = 0

    def ask(self, party: Party) -> None:
        """One request of a party's node, if it runs."""
        if not party.channels:
            return
        channel, closer = self.dice.choice(party.channels)
        assert party.process is not None
        luck = self.dice.random()
        if luck < 0.75:
            party.process.do(self._emit, party, channel, self._drafts(party, channel))
        elif luck < 0.88:
            party.process.do(self._correct, party, channel)
        elif luck < 0.9:
            party.process.do(self._quarrel, party, channel)
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

    async def _quarrel(self, party: Party, channel: Channel) -> None:
        """A party disputes a line, or says something of a dispute that is there."""
        dice, at = self.dice, channel.now_recorded_at()
        disputes = [
            (log is channel.own, record_digest(record))
            for log in (channel.own, channel.peer)
            for _, record in log.matters(log.durable_size)
            if isinstance(record, Dispute)
        ]
        amount = dice.choice((-1, 1)) * dice.randrange(1, 100)
        record: Matter
        if not disputes or dice.random() < 0.4:
            occurred = START_US + dice.randrange(-HOUR_US, 3 * HOUR_US)
            period = channel.own.folder.calendar.period_of(occurred).label
            meter, subject = dice.choice(METERS), dice.choice(("s", "t"))
            record = Dispute(period, meter, subject, amount, "quantity", "so", (), at)
        else:
            ours, digest = dice.choice(disputes)
            record = dice.choice(
                (
                    Answer(digest, 0 if ours else amount, "as counted", (), at),
                    Resolution(digest, 7, "agreed", at),
                    Withdrawal(digest, "a mistake", at),  # not ours: refused
                )
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


def _size(party: Party, channel: Channel) -> int:
    """How many records of the party's own log are on its disk."""
    table = party.disk.tables["batches"]
    keys = [k for k in table.keys if k[:4] == log_key(channel.own.number)]
    if not keys:
        return 0
    last = keys[-1]
    return int.from_bytes(last[4:], "big") + len(decode_batch(table.values[last])[0])
