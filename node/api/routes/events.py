"""What happens: the feed, as a stream of server-sent events or a page of JSON."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tallystick.node.api.app import world_of
from tallystick.node.api.operations import (
    JSON,
    Operation,
    Parameter,
    answer_json,
    caller_of,
    whole_number,
)
from tallystick.node.feed.events import check_kinds
from tallystick.node.feed.sse import sse
from tallystick.protocol.errors import InputError

STREAM = "text/event-stream"
LIMIT_MAX = 1000


class EventDocument(Struct):
    """Something that happened; docs/events.md says which kinds there are, and their data."""

    cursor: int
    id: str
    kind: str
    at: str
    channel: str | None
    peer: str | None
    said: str
    data: dict[str, Any]


class Events(Struct):
    """Some events; go on behind `cursor`. `last` is the newest event's."""

    events: list[EventDocument]
    cursor: int
    last: int


async def _events(request: Request) -> Response:
    world, caller = world_of(request), caller_of(request)
    node = world.node
    asked = request.query_params
    cursor = _cursor(request)
    selector, kinds = asked.get("channel"), asked.get("kinds")
    channel = node.books.select(selector) if selector else None
    wanted = check_kinds(kinds.split(",")) if kinds else None
    limit = whole_number(request, "limit", 100, 1, LIMIT_MAX)
    if cursor is not None:
        node.feed.after(cursor, 1)  # a cursor that is too old is refused here, before any stream
    accepted = request.headers.get("accept", "")
    if JSON in accepted and STREAM not in accepted:
        page = node.feed.after(cursor, limit, channel, wanted)
        shown = [event.document() for event in page.events]
        return answer_json({"events": shown, "cursor": page.cursor, "last": node.feed.last})
    return StreamingResponse(
        sse(node.feed, cursor, channel, wanted, may=lambda: world.keys.knows(caller)),
        media_type=STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _cursor(request: Request) -> int | None:
    """The cursor to go on from: what a browser repeats when it connects again counts first."""
    text = request.headers.get("last-event-id") or request.query_params.get("after")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"{text[:40]!r} is not a cursor", "It is the number of an event")
    return int(text)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/events",
        "read",
        "What happens, from behind a cursor on: an endless stream of server-sent events (without a"
        " cursor, of those that come), or a page of JSON if the header Accept asks for that"
        " (without a cursor, from the oldest on).",
        _events,
        query=(
            Parameter("after", "The cursor of the last event that was seen; or Last-Event-ID"),
            Parameter("channel", "Only what concerns this channel"),
            Parameter("kinds", "Only such, with commas: dispute.*,checkpoint.signed"),
            Parameter("limit", "For JSON: how many events at most (1 to 1000, default 100)"),
        ),
        gives={STREAM: bytes, JSON: Events},
    ),
)
