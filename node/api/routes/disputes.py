"""What is contested: the work list."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node import worklist
from tallystick.node.api.app import world_of
from tallystick.node.api.operations import JSON, Operation, Parameter, answer_json, flag


class WorkList(Struct):
    """The disputes, and the closed periods that may still be disputed, by deadline."""

    disputes: list[dict[str, Any]]
    checkpoints: list[dict[str, Any]]


async def _list(request: Request) -> Response:
    books = world_of(request).node.books
    selector = request.query_params.get("channel")
    keys = [books.select(selector)] if selector else list(books.channels)
    channels = [books.channels[key][0] for key in keys]
    return answer_json(worklist.worklist(channels, settled=flag(request, "settled")))


OPERATIONS = (
    Operation(
        "GET",
        "/v1/disputes",
        "read",
        "What is contested: what waits for whom, until when.",
        _list,
        query=(
            Parameter("channel", "Only this channel"),
            Parameter("settled", "true: those that are settled as well"),
        ),
        gives={JSON: WorkList},
    ),
)
