"""What one party's emitters were told: the only witness of what the node must not lose.

A delta is *acknowledged* once an answer with its index came. Until then, or if the connection died
first, it is *in doubt*: it may be recorded or not, and sending it again must settle that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

from tallystick.node.importing.drafts import Draft
from tallystick.protocol.records import Answer, Dispute, Resolution, Withdrawal

METERS = ("calls", "compute", "tokens")
TERMS = """\
provider = "acme.example"
consumer = "beta.example"
[period]
calendar = "hour"
time_zone = "UTC"
[meters.calls]
unit = "call"
aggregate = "count"
source = "both"
payable = "provider"
[meters.compute]
unit = "second"
source = "both"
payable = "minimum"
[meters.tokens]
unit = "token"
source = "both"
payable = "consumer"
"""


class Findings(list[str]):
    """What is wrong, each thing once, in the order in which it was noticed."""

    def add(self, what: str) -> None:
        """Note a thing that must not be."""
        if what not in self:
            self.append(what)


@dataclass(slots=True)
class Sent:
    """A delta that was sent at least once; `index` is -1 until it is acknowledged."""

    draft: Draft
    index: int = -1


@dataclass(slots=True)
class SentCorrection:
    """A correction, sent once; its reason is its own. `index` as in `Sent`."""

    draft: Draft
    quantity: int | None
    index: int = -1


@dataclass(slots=True)
class SentMatter:
    """What was said of a dispute, or one; its reason is its own. `index` as in `Sent`; what was
    refused may be there if an answer was lost before.
    """

    record: Dispute | Answer | Resolution | Withdrawal
    index: int = -1
    refused: bool = False


@dataclass(slots=True)
class SentDeclaration:
    """Totals that were declared of a period that nobody else declares for the party."""

    label: str
    totals: dict[str, str]
    index: int = -1
    refused: bool = False


@dataclass(slots=True)
class Ledger:
    """One party's sendings and the answers to them; its emitters share it."""

    party: str
    findings: Findings
    sent: dict[tuple[str, str], Sent] = field(default_factory=dict)
    acknowledged: list[Sent] = field(default_factory=list)
    corrections: dict[str, SentCorrection] = field(default_factory=dict)
    matters: dict[str, SentMatter] = field(default_factory=dict)  # by reason
    disputes: list[bytes] = field(default_factory=list)  # digests of the acknowledged ones
    declarations: list[SentDeclaration] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)  # period to the checkpoint's digest
    size: int = 0  # the log has at least so many records, said the answers
    cosigned: int = 0  # and so many of them are co-signed
    answers: int = 0
    repeats: int = 0  # deltas that were acknowledged again

    def send(self, drafts: Sequence[Draft]) -> None:
        """These are about to be sent."""
        for draft in drafts:
            self.sent.setdefault((draft.meter, draft.id), Sent(draft))

    def take(self, drafts: Sequence[Draft], answer: dict[str, Any]) -> None:
        """An answer to `emit` came: every draft has its one place, now and for ever."""
        self.answers += 1
        for _, kind, said in answer["problems"]:
            self.findings.add(f"{self.party}: a delta was refused ({kind}): {said}")
        if len(answer["indexes"]) != len(drafts):
            self.findings.add(f"{self.party}: an answer to {len(drafts)} deltas names others")
        for draft, index in zip(drafts, answer["indexes"], strict=False):
            entry = self.sent[draft.meter, draft.id]
            if entry.index < 0:
                entry.index = index
                self.acknowledged.append(entry)
            elif entry.index == index:
                self.repeats += 1
            else:
                self.findings.add(
                    f"{self.party}: {draft.meter}/{draft.id} was acknowledged as record"
                    f" {entry.index}, and then as record {index}"
                )
        self.size = max(self.size, answer["size"])

    def take_conflict(self, draft: Draft, answer: dict[str, Any]) -> None:
        """An answer came to an id that is acknowledged with other content: it must be refused."""
        self.answers += 1
        if answer["indexes"] != [-1] or [p[1] for p in answer["problems"]] != ["conflict"]:
            self.findings.add(
                f"{self.party}: {draft.meter}/{draft.id} was taken again with other content"
            )

    def in_doubt(self, dice: Random, count: int) -> list[Draft]:
        """Some deltas that were sent lately and may not be acknowledged yet."""
        newest = [entry.draft for entry in islice(reversed(self.sent.values()), 200)]
        return dice.sample(newest, min(count, len(newest)))

    def known(self, dice: Random, count: int) -> list[Draft]:
        """Some deltas that are acknowledged."""
        if not self.acknowledged:
            return []
        return [dice.choice(self.acknowledged).draft for _ in range(count)]
