"""What people say of usage while nodes die: disputes, answers, settlements, declarations.

Like deltas they are sent again until an answer comes, and must then be there once.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import trio

from killing.ledger import METERS, Ledger, SentDeclaration, SentMatter
from killing.load import BEGIN, Hours, Source
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import Answer, Dispute, Resolution, Withdrawal, encode_record

DECLARED_DAYS = 60  # after the load's hours: nobody closes these


def declared_label(number: int) -> str:
    """The label of an hour that both parties declare."""
    return (BEGIN + timedelta(days=DECLARED_DAYS, hours=number)).strftime("%Y-%m-%dT%H")


class People(Source):
    """The people of a party; `theirs` is what the other party's people were told."""

    def __init__(
        self,
        hours: Hours,
        theirs: Ledger,
        home: Path,
        ledger: Ledger,
        dice: Random,
        stop: trio.Event,
    ) -> None:
        super().__init__(home, ledger, dice, stop)
        self._hours = hours
        self._theirs = theirs
        self._count = 0
        self._doubtful: SentMatter | SentDeclaration | None = None

    @property
    def idle(self) -> bool:
        return self._doubtful is None

    async def step(self) -> None:
        if self._doubtful is None:
            self._doubtful = self._matter() if self.dice.random() < 0.8 else self._declaration()
        try:
            if isinstance(self._doubtful, SentMatter):
                await self._say(self._doubtful)
            else:
                await self._declare(self._doubtful)
        except InputError as error:  # the other party was faster: it is settled, or revealed
            if "halted" in error.message:
                raise
            self._doubtful.refused = True
        self._doubtful = None
        await trio.sleep(self.dice.uniform(0, 0.15))

    def _matter(self) -> SentMatter:
        self._count += 1
        reason = f"{self.ledger.party}'s word {self._count}"
        ours, theirs = self.ledger.disputes, self._theirs.disputes
        luck = self.dice.random()
        record: Dispute | Answer | Resolution | Withdrawal
        if luck < 0.45 or not (ours and theirs):
            line = (self._hours.label(), self.dice.choice(METERS), "project-1")
            record = Dispute(*line, self.dice.randrange(1, 900), "other", reason, (), 0)
        elif luck < 0.7:
            record = Answer(self.dice.choice(theirs), 0, reason, (), 0)
        elif luck < 0.9:
            record = Resolution(self.dice.choice(ours + theirs), 7, reason, 0)
        else:
            record = Withdrawal(self.dice.choice(ours), reason, 0)
        sent = self.ledger.matters[reason] = SentMatter(record)
        return sent

    async def _say(self, sent: SentMatter) -> None:
        answer = await self.call("say", record=encode_record(sent.record))
        if answer["again"] and self._elsewhere(sent, answer["index"]):
            sent.refused = True  # something said the same before
            return
        sent.index = answer["index"]
        self.ledger.size = max(self.ledger.size, sent.index + 1)
        if isinstance(sent.record, Dispute):
            self.ledger.disputes.append(answer["dispute"])

    def _elsewhere(self, sent: SentMatter, index: int) -> bool:
        return any(one.index == index for one in self.ledger.matters.values() if one is not sent)

    def _declaration(self) -> SentDeclaration:
        number = len(self.ledger.declarations)
        totals = {meter: str(self.dice.randrange(10_000)) for meter in METERS}
        sent = SentDeclaration(declared_label(number), totals)
        self.ledger.declarations.append(sent)
        return sent

    async def _declare(self, sent: SentDeclaration) -> None:
        answer = await self.call("declare", period=sent.label, totals=sent.totals, early=True)
        sent.index = answer["index"]
        self.ledger.size = max(self.ledger.size, sent.index + 1)
