"""Recording deltas, and looking at one. An answer 202 says that they are on the disk here."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node import queries
from tallystick.node.api.app import World, world_of
from tallystick.node.api.limits import read_body
from tallystick.node.api.operations import JSON, Operation, Parameter, answer_json, whole_number
from tallystick.node.api.recording import Asked, Outcomes, record
from tallystick.node.api.routes import intake
from tallystick.node.books import clock_us
from tallystick.node.importing.drafts import DRAFTS_MAX, Draft
from tallystick.node.importing.times import parse_time
from tallystick.node.intake.cloudevents import BATCHED, STRUCTURED
from tallystick.node.intake.sink import EventResult, EventsReport
from tallystick.node.intake.stream import StreamReport, StreamStopped
from tallystick.protocol.errors import (
    ConflictError,
    FormatError,
    InputError,
    InvalidRecord,
)
from tallystick.protocol.quantities import parse_quantity
from tallystick.protocol.records import Terms
from tallystick.protocol.terms import meter_named

WAIT_SECONDS = 60


class DeltaIn(Struct, forbid_unknown_fields=True):
    """A delta. `quantity` is a decimal, best as text; `occurred_at` is ISO 8601, now if absent."""

    id: str
    meter: str
    subject: str
    quantity: Decimal
    occurred_at: str | None = None


class DeltasIn(Struct, forbid_unknown_fields=True):
    """Several deltas, each for itself."""

    deltas: Annotated[list[DeltaIn], Meta(max_length=DRAFTS_MAX)]


class Recorded(Struct):
    """A delta is on the disk. `duplicate`: it was there before, and nothing changed."""

    state: str
    index: int
    duplicate: bool


class DeltaProblem(Struct):
    """Why a delta was refused."""

    kind: str
    message: str


class DeltaResult(Struct):
    """What became of one of several deltas: its index in our log, or its problem. `duplicate`: it
    was there before.
    """

    index: int | None
    problem: DeltaProblem | None
    duplicate: bool = False


class RecordedAll(Struct):
    """What became of several deltas, and of each, in their order."""

    state: str
    recorded: int
    duplicate: int
    rejected: int
    results: list[DeltaResult]


class Shown(Struct):
    """A delta in a log, with what became of it."""

    deltas: list[dict[str, Any]]


_decode_one = msgspec.json.Decoder(DeltaIn).decode
_decode_many = msgspec.json.Decoder(DeltasIn).decode
_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def asked_of(terms: Terms, delta: DeltaIn) -> Asked:
    """What a delta asks to be recorded; `InputError` if its meter, quantity or time is none."""
    meter = meter_named(terms, delta.meter)
    quantity = parse_quantity(str(delta.quantity), meter.scale)
    at = delta.occurred_at
    at_us = clock_us() if at is None else parse_time(at, "UTC", None)
    return Asked(Draft(delta.id, delta.meter, delta.subject, quantity, at_us), at is not None)


def _read(body: bytes) -> DeltaIn | DeltasIn:
    try:
        if "deltas" in _decode_keys(body):
            return _decode_many(body)
        return _decode_one(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"the body is not what was expected: {error}", "See /docs") from None


async def _record(request: Request) -> Response:
    world = world_of(request)
    key = world.node.books.select(request.path_params["channel"])
    wait = whole_number(request, "wait_seconds", 0, 0, 3600)
    if intake.is_event(request) or intake.is_stream(request):
        return await _record_other(request, world, key, wait)
    if intake.media_type(request) not in (JSON, ""):
        raise FormatError(
            "the body is of a type that is not taken here",
            f"Send {JSON}, {intake.LINES} or {STRUCTURED}",
        )
    asked = _read(await read_body(request))
    if isinstance(asked, DeltaIn):
        return answer_json(await _record_one(world, key, asked, wait), 202)
    return answer_json(await _record_many(world, key, asked, wait), 202)


async def _record_other(request: Request, world: World, key: bytes, wait: int) -> Response:
    """Record a stream, or CloudEvents."""
    channel, _ = world.node.books.channels[key]
    answer: StreamReport | EventResult | EventsReport
    if intake.is_event(request):
        answer = await intake.take_events(request, world, channel)
        size = 1 + max(_indexes(answer), default=-1)
    else:
        try:
            answer = await intake.take_stream(request, world, channel)
        except StreamStopped as error:
            return intake.stopped(error)
        size = answer.size
    state = await _wait(world, key, size, wait)
    if state == "co-signed":
        answer = msgspec.structs.replace(answer, state=state)
    return answer_json(answer, 202)


def _indexes(answer: EventResult | EventsReport) -> list[int]:
    results = [answer] if isinstance(answer, EventResult) else answer.results
    return [index for result in results for index in result.indexes]


async def _record_one(world: World, key: bytes, delta: DeltaIn, wait: int) -> Recorded:
    channel, _ = world.node.books.channels[key]
    outcomes = await record(world.service, channel, [asked_of(channel.terms, delta)])
    (one,) = outcomes.each
    if one.state == "refused":
        refused = ConflictError if one.kind == "ConflictError" else InvalidRecord
        raise refused(one.message)
    state = await _wait(world, key, outcomes.size, wait)
    return Recorded(state, one.index, one.state == "there")


async def _record_many(world: World, key: bytes, wanted: DeltasIn, wait: int) -> RecordedAll:
    channel, _ = world.node.books.channels[key]
    results = [DeltaResult(None, None) for _ in wanted.deltas]
    asked, places = [], []
    for place, delta in enumerate(wanted.deltas):
        try:
            asked.append(asked_of(channel.terms, delta))
            places.append(place)
        except InputError as error:
            results[place].problem = DeltaProblem(type(error).__name__, str(error))
    outcomes = await record(world.service, channel, asked) if asked else Outcomes([], 0)
    for place, one in zip(places, outcomes.each, strict=True):
        if one.state == "refused":
            results[place].problem = DeltaProblem(one.kind, one.message)
        else:
            results[place].index = one.index
            results[place].duplicate = one.state == "there"
    state = await _wait(world, key, outcomes.size, wait)
    rejected = sum(result.problem is not None for result in results)
    return RecordedAll(
        state, outcomes.count("recorded"), outcomes.count("there"), rejected, results
    )


async def _wait(world: World, key: bytes, size: int, seconds: int) -> str:
    if not seconds or not size:
        return "recorded"
    await world.service.wait(key.hex(), size, float(seconds))
    return "co-signed"


async def _show(request: Request) -> Response:
    world = world_of(request)
    key = world.node.books.select(request.path_params["channel"])
    channel, _ = world.node.books.channels[key]
    return answer_json({"deltas": queries.show(channel, request.path_params["name"])})


OPERATIONS = (
    Operation(
        "POST",
        "/v1/channels/{channel}/deltas",
        "emit",
        "Record one delta, or several: each is taken or refused for itself.",
        _record,
        query=(
            Parameter("wait_seconds", "Answer when the peer has co-signed them, or 504 after this"),
        ),
        takes={
            JSON: (DeltaIn, DeltasIn),
            intake.LINES: bytes,
            STRUCTURED: bytes,
            BATCHED: bytes,
        },
        gives={JSON: (Recorded, RecordedAll, StreamReport, EventResult, EventsReport)},
        status=202,
    ),
    Operation(
        "GET",
        "/v1/channels/{channel}/deltas/{name:path}",
        "read",
        "A delta by METER/ID, or by its id alone, in both logs.",
        _show,
        gives={JSON: Shown},
    ),
)
