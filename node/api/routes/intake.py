"""Usage in other forms than JSON deltas: streams of them, a line each, and CloudEvents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence, Set

import msgspec
import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tallystick.node.api import problems
from tallystick.node.api.app import World, world_of
from tallystick.node.api.limits import read_body
from tallystick.node.api.operations import JSON, Operation, answer_json
from tallystick.node.api.problems import Refused as HttpRefused
from tallystick.node.api.recording import repeated
from tallystick.node.books import clock_us
from tallystick.node.channel import Channel
from tallystick.node.importing.drafts import Draft
from tallystick.node.intake.cloudevents import (
    BATCHED,
    STRUCTURED,
    Event,
    is_binary,
    read_batch,
    read_binary,
    read_structured,
)
from tallystick.node.intake.native import DeltaReader, Refused
from tallystick.node.intake.sink import EventResult, EventsReport
from tallystick.node.intake.stream import Result, StreamReport, StreamStopped, record_stream
from tallystick.protocol.errors import ConflictError, FormatError, InvalidRecord

LINES = "application/x-ndjson"
_SAID = ("", "conflict", "type")  # fields that their reasons speak of anyway
# A batch of nothing but braces takes thirty times its bytes while it is read.
_BATCHES = trio.CapacityLimiter(2)
_LINES_TOO = (LINES, "application/jsonl", "application/ndjson")


def media_type(request: Request) -> str:
    """The type of a request's body, without its parameters; empty if none is said."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_stream(request: Request) -> bool:
    """Whether the body is a stream of deltas."""
    return media_type(request) in _LINES_TOO


def is_event(request: Request) -> bool:
    """Whether a request is one or several CloudEvents, in any mode."""
    return media_type(request).startswith("application/cloudevents") or is_binary(request.headers)


async def take_stream(request: Request, world: World, channel: Channel) -> StreamReport:
    """Record a stream; `StreamStopped` says how far, if it ends early."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise HttpRefused(415, f"content-encoding {coding[:40]!r} is not taken here", "Use gzip")
    meters = {meter.name: meter for meter in channel.terms.meters}

    async def emit(drafts: Sequence[Draft], untimed: Set[int]) -> Result:
        answer = await world.service.record(channel.id, drafts)
        there, size, left = answer["duplicates"], answer["size"], []
        for place, kind, message in answer["problems"]:
            again = place in untimed and kind == "conflict"
            index = repeated(channel, drafts[place]) if again else None
            if index is None:
                left.append((place, kind, message))
            else:
                there, size = there + 1, max(size, index + 1)
        return Result(there, left, size)

    return await record_stream(
        emit,
        DeltaReader(meters, clock_us),
        _pieces(request),
        gzipped=coding != "identity",
        stall_seconds=world.node.books.config.intake.stall_seconds,
    )


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise ConnectionResetError("the client went away") from None


def stopped(error: StreamStopped) -> Response:
    """The problem document of a stream that ended early, with its report."""
    cause = error.cause
    status, kind = 400, "StreamStopped"
    if cause is not None:
        status, kind = problems.status_of(cause), type(cause).__name__
    elif "nothing came" in error.message:
        status = 408
    headers = {"Retry-After": str(problems.RETRY_SECONDS)} if status == 503 else {}
    report = msgspec.to_builtins(error.report)
    return problems.problem(status, kind, error.message, error.advice, headers, report=report)


async def take_events(
    request: Request, world: World, channel: Channel | None
) -> EventResult | EventsReport:
    """Record CloudEvents by the configuration's rules; a single one that is bad is an error."""
    body = await read_body(request)
    kind = media_type(request)
    key = channel.id if channel else None
    if kind == BATCHED:
        events = await trio.to_thread.run_sync(read_batch, body, limiter=_BATCHES)
        return await world.events.take(key, events)
    event: Event | Refused
    try:
        if kind == STRUCTURED:
            event = read_structured(body)
        elif not kind.startswith("application/cloudevents") and is_binary(request.headers):
            event = read_binary(request.headers.items(), body)
        else:
            raise HttpRefused(
                415,
                f"{kind or 'a body without a type'} is not taken here",
                f"Send {STRUCTURED}, {BATCHED}, or the event's attributes in headers (ce-id, …)",
            )
    except Refused as refused:
        event = refused
    (result,) = (await world.events.take(key, [event])).results
    if result.state == "rejected":
        refused_by = ConflictError if result.field == "conflict" else InvalidRecord
        where = f"{result.field}: " if result.field not in (*_SAID, *result.reason.split()) else ""
        raise refused_by(f"{where}{result.reason}")
    return result


async def _events(request: Request) -> Response:
    if not is_event(request):
        raise FormatError(
            "this is no CloudEvent", f"Send {STRUCTURED}, {BATCHED}, or ce- headers; see /docs"
        )
    return answer_json(await take_events(request, world_of(request), None), 202)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/cloudevents",
        "emit",
        "Record CloudEvents, each in the channel that the configuration names for its type.",
        _events,
        takes={STRUCTURED: bytes, BATCHED: bytes},
        gives={JSON: (EventResult, EventsReport)},
        status=202,
    ),
)
