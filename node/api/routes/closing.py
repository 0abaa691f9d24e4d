"""Checkpoints of closed periods, and the proofs that travel with an invoice."""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node import queries
from tallystick.node.api.app import world_of
from tallystick.node.api.operations import JSON, Operation, Parameter, answer_json, flag

BUNDLE = "application/zip"


class Timestamp(Struct):
    """When an authority says that a checkpoint existed, and the SHA-256 of its certificate."""

    time: str
    authority: str
    certificate: str


class Checkpoint(Struct):
    """A checkpoint: the note that both signed, its digest, the verdict, a timestamp of it."""

    checkpoint: str
    digest: str
    lines: int
    signed_by: list[str]
    verdict: dict[str, Any] | None
    timestamp: Timestamp | None


class ClosedPeriod(Struct):
    """A closed period."""

    period: str
    digest: str


class ClosedPeriods(Struct):
    """The closed periods, the oldest first."""

    checkpoints: list[ClosedPeriod]


def _key(request: Request) -> bytes:
    return world_of(request).node.books.select(request.path_params["channel"])


async def _list(request: Request) -> Response:
    _, closer = world_of(request).node.books.channels[_key(request)]
    found = [{"period": row.period, "digest": row.digest.hex()} for row in closer.rows]
    return answer_json({"checkpoints": found})


async def _show(request: Request) -> Response:
    question = partial(queries.checkpoint_document, label=request.path_params["period"])
    return answer_json(await world_of(request).reader.ask(_key(request), question))


async def _close(request: Request) -> Response:
    world, key, label = world_of(request), _key(request), request.path_params["period"]
    channel, closer = world.node.books.channels[key]
    period = channel.own.folder.calendar.parse(label)
    if closer.row_of(period) is None:
        await world.service.checkpoint(key.hex(), label, flag(request, "force"))
    return await _show(request)


async def _bundle(request: Request) -> Response:
    label = request.path_params["period"]
    full, plain = flag(request, "full"), flag(request, "plain")
    question = partial(queries.bundle_of, label=label, full=full, plain=plain)
    made = await world_of(request).reader.ask(_key(request), question)
    headers = {"Content-Disposition": f'attachment; filename="{label}.tally"'}
    return Response(made, headers=headers, media_type=BUNDLE)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/channels/{channel}/checkpoints",
        "read",
        "The closed periods.",
        _list,
        gives={JSON: ClosedPeriods},
    ),
    Operation(
        "GET",
        "/v1/channels/{channel}/checkpoints/{period}",
        "read",
        "The checkpoint of a closed period.",
        _show,
        gives={JSON: Checkpoint},
    ),
    Operation(
        "POST",
        "/v1/channels/{channel}/checkpoints/{period}",
        "admin",
        "Close a period with the peer; if it is closed already, its checkpoint.",
        _close,
        query=(Parameter("force", "true: before the grace time, if both agree"),),
        gives={JSON: Checkpoint},
    ),
    Operation(
        "GET",
        "/v1/channels/{channel}/bundles/{period}",
        "read",
        "The proof bundle of a closed period; tally verify checks it anywhere.",
        _bundle,
        query=(
            Parameter("full", "true: with all records"),
            Parameter("plain", "true: without what others added, the same bytes at both parties"),
        ),
        gives={BUNDLE: bytes},
    ),
)
