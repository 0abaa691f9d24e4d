"""Deltas that programs send: recorded, each for itself, and sent again without harm.

A caller that names no time means now. When it repeats itself, now is another time, and yet it is
the same delta: the time that was recorded first stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    answer = await service.record(channel.id, [one.draft for one in asked])
    problems = {place: (kind, message) for place, kind, message in answer["problems"]}
    before = set(answer["repeated"])
    size = answer["size"]
    each = []
    for place, (one, index) in enumerate(zip(asked, answer["indexes"], strict=True)):
        kind, message = problems.get(place, ("", ""))
        earlier = None if one.timed or kind != "conflict" else repeated(channel, one.draft)
        if earlier is not None:
            each.append(Outcome("there", earlier))
            size = max(size, earlier + 1)
        elif kind:
            name = "ConflictError" if kind == "conflict" else "InvalidRecord"
            each.append(Outcome("refused", -1, name, message))
        else:
            each.append(Outcome("there" if place in before else "recorded", index))
    return Outcomes(each, size)


def repeated(channel: Channel, draft: Draft) -> int | None:
    """The index of the delta that a draft without a time repeats."""
    found = channel.own.find(draft.meter, draft.id)
    if found is None:
        return None
    index, delta = found
    same = (delta.subject, delta.quantity) == (draft.subject, draft.quantity)
    return index if same else None
