"""From events to drafts, by a mapping in which columns are an event's attributes and its data.

A column is an attribute (`subject`, `time`, an extension) or a path into the data, as in
`data.usage.tokens` or `data.items.0.n`; a dot inside a key is written `\\.`. What the mapping does
not name is the event's own: its time, its subject, and an id of its source and id (`event_id`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping as Lookup
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.node.importing.drafts import Converter, Draft
from tallystick.node.importing.mapping import Mapping, Source, load_mapping
from tallystick.node.importing.readers import Rows
from tallystick.node.intake.cloudevents import Event, kind_of
from tallystick.node.intake.native import Refused
from tallystick.protocol.errors import MappingError
from tallystick.protocol.records import TEXT_BYTES_MAX, Meter

OWN_ID = "source|id"  # the column that stands for `event_id`
HASHED = "ce-sha256:"

_STEP = re.compile(r"((?:[^.\\]|\\.)+)(?:\.|$)", re.DOTALL)
_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def event_id(source: str, id_: str) -> str:
    """One id of the two that name an event; different events have different ones.

    It is `source|id`, as no source holds a bar. Where one does, or where that is longer than an id
    may be, it is the SHA-256 of source, a zero byte and id, which holds no bar.
    """
    for name, text in (("source", source), ("id", id_)):
        if _CONTROLS.search(text):
            raise Refused(name, text, f"{name} holds a control character")
    plain = f"{source}|{id_}"
    if "|" not in source and len(plain.encode()) <= TEXT_BYTES_MAX:
        return plain
    return HASHED + hashlib.sha256(f"{source}\0{id_}".encode()).hexdigest()


def load_event_mapping(path: Path) -> Mapping:
    """The mapping of a file, with what it may leave out filled in; `MappingError` if it is bad."""
    mapping = load_mapping(path, defaults={"time": {"column": "time"}, "subject": _SUBJECT})
    if mapping.format is not None:
        raise MappingError(f"{path}: an event has no format", "Remove the key format")
    if mapping.id is None:
        mapping = replace(mapping, id=Source(column=OWN_ID))
    for column in mapping.columns():
        try:
            _steps(column)
        except MappingError as error:
            raise MappingError(f"{path}: {error.message}", error.advice) from None
    return mapping


_SUBJECT = {"column": "subject"}


def _steps(column: str) -> list[str]:
    """The steps of a column's path."""
    if column == OWN_ID:
        return [OWN_ID]
    steps = [re.sub(r"\\(.)", r"\1", step) for step in _STEP.findall(column)]
    whole = "".join(match[0] for match in _STEP.finditer(column))
    if whole != column or column.endswith(".") or not steps:
        raise MappingError(f"{column!r} is not a path", "As in data.usage.tokens")
    if steps[0] != "data" and (len(steps) > 1 or not _ATTRIBUTE.fullmatch(steps[0])):
        raise MappingError(
            f"{column!r} is neither an attribute of an event nor in its data",
            "Attributes have lower-case letters and digits; a path into the data begins with data.",
        )
    return steps


class EventConverter:
    """Events to drafts for the meters of a channel's terms."""

    def __init__(self, mapping: Mapping, meters: Lookup[str, Meter]) -> None:
        self._converter = Converter(mapping, meters)
        self._columns = [(column, _steps(column)) for column in mapping.columns()]

    def drafts(self, event: Event) -> list[Draft]:
        """All the drafts of an event; `Refused` if one of them is none."""
        row = [_text(event, column, steps) for column, steps in self._columns]
        batch = self._converter.convert(Rows([1], [row]))
        for reject in batch.rejects:
            raise Refused(reject.column, reject.value, reject.reason)
        return batch.drafts


def _text(event: Event, column: str, steps: Sequence[str]) -> str:
    if column == OWN_ID:
        return event_id(event.attributes["source"], event.attributes["id"])
    if steps[0] != "data":
        if steps[0] not in event.attributes:
            raise Refused(column, "", f"the event has no {column}, and the mapping needs it")
        return event.attributes[steps[0]]
    value = event.data
    if isinstance(value, bytes) and len(steps) > 1:
        said = event.attributes.get("datacontenttype", "")
        raise Refused(column, "", f"the data is not JSON but {said}")
    for place, step in enumerate(steps[1:], 1):
        found = _step(value, step)
        if found is _NOTHING:
            where = ".".join(steps[:place])
            raise Refused(column, "", f"there is no {step!r} in {where}, {kind_of(value)}")
        value = found
    if value is None or isinstance(value, bool | dict | list | bytes):
        what = "bytes" if isinstance(value, bytes) else kind_of(value)
        raise Refused(column, "", f"{column} is {what}; it must be text or a number")
    return str(value)


_NOTHING: Any = object()


def _step(value: object, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, _NOTHING)
    if isinstance(value, list) and step.isdecimal() and len(step) < 7 and int(step) < len(value):
        return value[int(step)]
    return _NOTHING
