"""Targets for what strangers' services send: JSON deltas, CloudEvents, and streams of lines."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import builders

from fuzzing.contract import scratch_file
from tallystick.node.intake.cloudevents import (
    Event,
    read_batch,
    read_binary,
    read_structured,
)
from tallystick.node.intake.eventmap import EventConverter, event_id, load_event_mapping
from tallystick.node.intake.lines import LINE_BYTES_MAX, Gunzip, LineSplitter
from tallystick.node.intake.native import DeltaReader, Refused
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import check_texts

T = TypeVar("T")

METERS = {
    m.name: m for m in (builders.meter("tokens"), builders.meter("hours", scale=2, minimum=0))
}
MAP = b"""\
[[meter]]
meter = "hours"
quantity = { column = "data.usage.0.h" }
"""
DELTA = (
    b'{"id": "e1", "meter": "hours", "quantity": 0.07, "subject": "p",'
    b' "occurred_at": "2026-01-01T00:00:00Z"}'
)
EVENT = (
    b'{"specversion": "1.0", "id": "e1", "source": "/g", "type": "x", "subject": "p",'
    b' "time": "2026-01-01T00:00:00Z", "tenant": 7, "data": {"usage": [{"h": 0.07}]}}'
)
PACKED = EVENT.replace(b'"data": {"usage": [{"h": 0.07}]}', b'"data_base64": "eyJhIjogMX0="')
BINARY = b"ce-specversion:1.0\nce-id:e%201\nce-source:/g\nce-type:x\nContent-Type:text/plain\n\nx"
READER = DeltaReader(METERS, lambda: 1)
SEEDS = {
    "deltas": [DELTA, DELTA.replace(b"0.07", b'"7e-2"')],
    "events": [EVENT, PACKED],
    "event-batches": [b"[" + EVENT + b"," + PACKED + b", 7]"],
    "binary-events": [BINARY],
    "line-streams": [b"\x03" + DELTA + b"\n" + DELTA, b"\x05" + gzip.compress(DELTA, mtime=0)],
}


def _attempt(function: Callable[..., T], *arguments: object) -> T | None:
    try:
        return function(*arguments)
    except Refused as refused:
        assert refused.reason
        f"{refused.field} {refused.value} {refused.reason}".encode()
    except InputError as error:
        str(error).encode()
    return None


def deltas(data: bytes) -> None:
    """One line of a stream."""
    read = _attempt(READER.read, data)
    if read is not None:
        check_texts(read[0].id, read[0].subject)
        assert read[0].meter in METERS


def _mapping() -> Path:
    return scratch_file("events.toml", MAP)


def _event(event: Event) -> None:
    converter = EventConverter(load_event_mapping(_mapping()), METERS)
    for draft in _attempt(converter.drafts, event) or ():
        check_texts(draft.id, draft.subject)
        assert draft.id == event_id(event.attributes["source"], event.attributes["id"])


def events(data: bytes) -> None:
    """An event in structured mode."""
    event = _attempt(read_structured, data)
    if event is not None:
        _event(event)


def event_batches(data: bytes) -> None:
    """A batch of events."""
    for event in _attempt(read_batch, data) or ():
        if isinstance(event, Event):
            _event(event)


def binary_events(data: bytes) -> None:
    """Headers, a line each, and a body."""
    head, _, body = data.partition(b"\n\n")
    rows = [line.partition(":") for line in head.decode("latin-1").split("\n")]
    event = _attempt(read_binary, [(name, value) for name, _, value in rows], body)
    if event is not None:
        _event(event)


def line_streams(data: bytes) -> None:
    """A stream in pieces; its first byte says how large they are, and if they are packed."""
    size, gunzip, splitter = data[0] // 2 + 1 if data else 1, Gunzip(), LineSplitter()
    packed = bool(data) and data[0] % 2 == 1
    for start in range(1, len(data), size):
        piece = data[start : start + size]
        pieces = _attempt(lambda piece=piece: list(gunzip.feed(piece))) if packed else [piece]
        if pieces is None:
            return
        for unpacked in pieces:
            for line in splitter.feed(unpacked):
                assert line is None or (b"\n" not in line and len(line) <= LINE_BYTES_MAX)
    _attempt(gunzip.end)
