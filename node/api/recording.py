"""Deltas that programs send: recorded, each for itself, and sent again without harm.

A caller that names no time means now. When it repeats itself, now is another time, and yet it is
the same delta: the time that was recorded first stands.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tallystick.node.channel import Channel
from tallystick.node.importing.drafts import Draft
from tallystick.node.service import Service

State = Literal["recorded", "there", "refused"]


class Asked(NamedTuple):
    """A draft, and whether its time was named."""

    draft: Draft
    timed: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a draft: its index in our log (-1: refused); why not, by kind and in words."""

    state: State
    index: int
    kind: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of several, in their order, and our log's size with them in it."""

    each: Sequence[Outcome]
    size: int

    def count(self, state: State) -> int:
        """How many ended so."""
        return sum(one.state == state for one in self.each)


async def record(service: Service, channel: Channel, asked: Sequence[Asked]) -> Outcomes:
    """Record drafts; returned when they are durable."""
    untimed = {place for place, one in enumerate(asked) if not one.timed}
    answer = await record_drafts(service, channel, [one.draft for one in asked], untimed)
    before = set(answer["repeated"])
    each = [
        Outcome("there" if place in before else "recorded", index)
        for place, index in enumerate(answer["indexes"])
    ]
    for place, kind, message in answer["problems"]:
        name = "ConflictError" if kind == "conflict" else "InvalidRecord"
        each[place] = Outcome("refused", -1, name, message)
    return Outcomes(each, answer["size"])


async def record_drafts(
    service: Service, channel: Channel, drafts: Sequence[Draft], untimed: Set[int]
) -> dict[str, Any]:
    """As `Service.record`; the drafts at the places `untimed` have no time of their own."""
    answer = await service.record(channel.id, drafts)
    problems, answer["problems"] = answer["problems"], []
    for problem in problems:
        place, kind, _ = problem
        again = kind == "conflict" and place in untimed
        index = _repeated(channel, drafts[place]) if again else None
        if index is None:
            answer["problems"].append(problem)
        else:
            answer["indexes"][place] = index
            answer["repeated"].append(place)
            answer["duplicates"] += 1
            answer["size"] = max(answer["size"], index + 1)
    return answer


def _repeated(channel: Channel, draft: Draft) -> int | None:
    """The index of the delta that a draft without a time repeats."""
    found = channel.own.find(draft.meter, draft.id)
    if found is None:
        return None
    index, delta = found
    same = (delta.subject, delta.quantity) == (draft.subject, draft.quantity)
    return index if same else None
