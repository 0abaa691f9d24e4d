"""Where CloudEvents go: the configuration's rules, and recording a batch by them.

A rule names a pattern of types, a channel and a mapping; the first that fits an event counts.
Events are taken one by one, as an import takes rows: a bad one is named with its reason, and the
rest is recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio
from msgspec import Struct

from tallystick.node.books import Books
from tallystick.node.config import CloudEventsRule
from tallystick.node.importing.drafts import DRAFTS_MAX, Draft
from tallystick.node.importing.mapping import Mapping as ImportMapping
from tallystick.node.intake.cloudevents import Event
from tallystick.node.intake.eventmap import EventConverter, load_event_mapping
from tallystick.node.intake.native import Refused
from tallystick.protocol.errors import InputError

SLICE = 256  # events that are converted before other tasks have their turn

Record = Callable[[bytes, Sequence[Draft]], Awaitable[Mapping[str, Any]]]  # `Service.record`


class EventResult(Struct, frozen=True, omit_defaults=True):
    """What became of an event: it is in our log, was there, or was refused, and why.

    If only some of its deltas contradict what is recorded, it is rejected with the others' indexes.
    """

    state: Literal["recorded", "duplicate", "rejected"]
    indexes: list[int] = []  # of its deltas in our log
    field: str = ""
    value: str = ""
    reason: str = ""


class EventsReport(Struct, frozen=True):
    """What became of a batch: how many deltas, and each event in its place."""

    state: str
    recorded: int
    duplicate: int
    rejected: int
    results: list[EventResult]


class _Rule:
    def __init__(self, rule: CloudEventsRule, mapping: ImportMapping) -> None:
        self.type, self.channel, self.mapping = rule.type, rule.channel, mapping
        self.converters: dict[bytes, EventConverter] = {}


class EventSink:
    """Records events by the rules. `record` is the node's own way to record deltas."""

    def __init__(
        self, books: Books, rules: Sequence[CloudEventsRule], folder: Path, record: Record
    ) -> None:
        """Read the rules' mappings (relative to `folder`); `MappingError` if one is wrong."""
        self._books = books
        self._record = record
        self._rules = [_Rule(rule, load_event_mapping(folder / rule.map)) for rule in rules]

    async def take(self, channel: bytes | None, events: Sequence[Event | Refused]) -> EventsReport:
        """Record events; returns when all that were taken are durable.

        With a channel, only its rules count; without, each rule's own channel is meant.
        """
        results: list[EventResult | None] = [None] * len(events)
        rules = [(rule, self._select(rule)) for rule in self._rules]
        drafts: dict[bytes, list[Draft]] = {}
        places: dict[bytes, list[int]] = {}
        for place, event in enumerate(events):
            if place % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()  # others have their turn
            try:
                if isinstance(event, Refused):
                    raise event
                key, made = self._convert(rules, channel, event)
            except Refused as refused:
                results[place] = _rejected(refused.field, refused.value, refused.reason)
            else:
                drafts.setdefault(key, []).extend(made)
                places.setdefault(key, []).extend([place] * len(made))
        recorded = duplicate = 0
        for key, group in drafts.items():
            for start in range(0, len(group), DRAFTS_MAX):
                part = group[start : start + DRAFTS_MAX]
                answer = await self._record(key, part)
                duplicate += answer["duplicates"]
                recorded += len(part) - answer["duplicates"] - len(answer["problems"])
                _note(results, places[key][start : start + DRAFTS_MAX], part, answer)
        settled = [result or EventResult("recorded") for result in results]
        rejected = sum(result.state == "rejected" for result in settled)
        return EventsReport("recorded", recorded, duplicate, rejected, settled)

    def _convert(
        self, rules: Sequence[tuple[_Rule, bytes | None]], channel: bytes | None, event: Event
    ) -> tuple[bytes, list[Draft]]:
        """The drafts of an event and the channel that they are for."""
        kind = event.attributes["type"]
        rules = [(rule, key) for rule, key in rules if channel in (None, key)]
        for rule, key in rules:
            if fnmatchcase(kind, rule.type):
                if key is None:
                    said = f"the rule for {rule.type} names a channel {rule.channel!r} that is not"
                    raise Refused("type", kind, f"{said} there, or not the only one")
                return key, self._converter(rule, key).drafts(event)
        patterns = ", ".join(rule.type for rule, _ in rules)
        wanted = f"taken are: {patterns}" if patterns else "the configuration has none"
        raise Refused("type", kind, f"no rule takes events of type {kind[:80]!r}; {wanted}")

    def _select(self, rule: _Rule) -> bytes | None:
        try:
            return self._books.select(rule.channel)
        except InputError:
            return None

    def _converter(self, rule: _Rule, key: bytes) -> EventConverter:
        if key not in rule.converters:
            meters = {m.name: m for m in self._books.founding.terms_of(key).meters}
            rule.converters[key] = EventConverter(rule.mapping, meters)
        return rule.converters[key]


def _rejected(field: str, value: str, reason: str) -> EventResult:
    return EventResult("rejected", field=field, value=value, reason=reason)


def _note(
    results: list[EventResult | None],
    places: Sequence[int],
    drafts: Sequence[Draft],
    answer: Mapping[str, Any],
) -> None:
    """Write down what became of each event of a request to the log."""
    repeated = answer["repeated"]
    for at, (place, index) in enumerate(zip(places, answer["indexes"], strict=True)):
        before = results[place] or EventResult("duplicate")
        state = before.state
        if index >= 0:
            if at not in repeated and state == "duplicate":
                state = "recorded"
            indexes = [*before.indexes, index]
            results[place] = msgspec.structs.replace(before, state=state, indexes=indexes)
    for at, kind, message in answer["problems"]:
        place, draft = places[at], drafts[at]
        indexes = (results[place] or EventResult("rejected")).indexes
        name = f"{draft.meter}/{draft.id}"
        results[place] = EventResult("rejected", indexes, kind, name, message)
