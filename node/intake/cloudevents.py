"""CloudEvents 1.0 over HTTP: structured, batched and binary mode become events, or say why not.

The specification's own package checks an event's attributes. What it leaves out is here: it would
make up an id and a time that are missing, read numbers as binary floats, read header values that
are not UTF-8 as some other text, and has no batches.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_to_bytes

from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tallystick.node.importing.times import parse_time
from tallystick.node.intake.exact import parse_exact
from tallystick.node.intake.native import Refused
from tallystick.protocol.errors import InputError

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
EVENTS_MAX = 8192  # in one batch
HEADER_PREFIX = "ce-"

_REQUIRED = ("specversion", "id", "source", "type")
_TEXTS = (*_REQUIRED, "time", "subject", "datacontenttype", "dataschema")
_TELLING = frozenset(HEADER_PREFIX + name for name in _REQUIRED)
_OFFSET = re.compile(r".*(?:[zZ]|[+-][0-9]{2}:[0-9]{2})", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """A valid event: its attributes as texts, and its data, with numbers as they were written."""

    attributes: Mapping[str, str]
    data: Any


def read_structured(body: bytes) -> Event:
    """The event of a JSON document; `InputError` if it is not JSON, `Refused` if it is no event."""
    return _of_document(parse_exact(body, "the event"))


def read_batch(body: bytes) -> list[Event | Refused]:
    """The events of a JSON array, each or why it is none; `InputError` if it is not an array."""
    documents = parse_exact(body, "the batch")
    if not isinstance(documents, list):
        raise InputError(f"a batch is a JSON array of events; this is {kind_of(documents)}")
    if len(documents) > EVENTS_MAX:
        raise InputError(
            f"{len(documents)} events in one batch; {EVENTS_MAX} are allowed",
            "Send them in several batches",
        )
    found: list[Event | Refused] = []
    for document in documents:
        try:
            found.append(_of_document(document))
        except Refused as refused:
            found.append(refused)
    return found


def is_binary(names: Iterable[str]) -> bool:
    """Whether a request with these headers is meant as an event in binary mode."""
    return any(name.lower() in _TELLING for name in names)


def read_binary(headers: Iterable[tuple[str, str]], body: bytes) -> Event:
    """The event of a request whose headers hold its attributes; `Refused` if it is none."""
    attributes: dict[str, Any] = {}
    for name, value in headers:
        lower = name.lower()
        attribute = lower.removeprefix(HEADER_PREFIX)
        if lower == "content-type":
            attributes["datacontenttype"] = value
        elif attribute != lower:
            if attribute in attributes:
                raise Refused(attribute, value, f"the header {lower} is there twice")
            attributes[attribute] = _unescaped(attribute, value)
    data: Any = body
    if not body:
        data = None
    elif _is_json(attributes.get("datacontenttype")):
        data = _data(body)
    return _checked(attributes, data)


def _unescaped(attribute: str, value: str) -> str:
    """A header's value: quoted or not, percent-encoded UTF-8."""
    if not value.isascii():
        raise Refused(attribute, ascii(value), f"{attribute} is not percent-encoded UTF-8")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise Refused(
            attribute, ascii(value), f"{attribute} is not percent-encoded UTF-8"
        ) from None


def _of_document(document: object) -> Event:
    if not isinstance(document, dict):
        raise Refused("", "", f"an event is a JSON object; this is {kind_of(document)}")
    attributes = {name: value for name, value in document.items() if value is not None}
    data = attributes.pop("data", None)
    packed = attributes.pop("data_base64", None)
    if packed is not None:
        if data is not None:
            raise Refused("data_base64", "", "the event has both data and data_base64")
        data = _unpacked(packed)
        if _is_json(attributes.get("datacontenttype")):
            data = _data(data)
    return _checked(attributes, data)


def _unpacked(packed: object) -> bytes:
    try:
        return base64.b64decode(packed if isinstance(packed, str) else b"?", validate=True)
    except (binascii.Error, ValueError):
        raise Refused("data_base64", str(packed), "data_base64 is not Base64") from None


def _data(body: bytes) -> Any:
    try:
        return parse_exact(body, "the data")
    except InputError as error:
        raise Refused("data", "", error.message) from None


def _is_json(content_type: object) -> bool:
    """Whether data of this type is JSON; what has no type is."""
    if content_type is None:
        return True
    pattern = JSONFormat.JSON_CONTENT_TYPE_PATTERN
    return isinstance(content_type, str) and bool(pattern.match(content_type.lower()))


def _checked(attributes: dict[str, Any], data: Any) -> Event:
    """The event, once every attribute is what the specification wants."""
    texts = {name: _attribute(name, value) for name, value in attributes.items()}
    for name in _REQUIRED:
        if not texts.get(name):
            raise Refused(name, "", f"the event has no {name}")
    checked: dict[str, Any] = dict(texts)
    if "time" in texts:
        checked["time"] = _time(texts["time"])
    try:
        CloudEvent(checked)
    except CloudEventValidationError as error:
        name, found = next(iter(error.errors.items()))
        raise Refused(name, texts.get(name, ""), f"{name}: {found[0]}") from None
    return Event(texts, data)


def _attribute(name: str, value: object) -> str:
    """The text of an attribute: those are texts, whole numbers, or true and false."""
    if isinstance(value, str) and type(value) is str:
        return value
    if name not in _TEXTS and isinstance(value, bool):
        return "true" if value else "false"
    if name not in _TEXTS and isinstance(value, int):
        return str(value)
    what = "text" if name in _TEXTS else "text, a whole number, or true or false"
    raise Refused(name, str(value), f"{name} is {kind_of(value)}; it must be {what}")


def _time(text: str) -> datetime:
    if not _OFFSET.fullmatch(text):
        raise Refused("time", text, f"time {text[:40]!r} is not an RFC 3339 time with its offset")
    try:
        return _EPOCH + timedelta(microseconds=parse_time(text, "UTC", None))
    except InputError as error:
        raise Refused("time", text, f"time: {error.message}") from None


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return "text" if type(value) is str else "a number"
