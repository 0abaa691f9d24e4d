"""The statement of a period, as people read it, with its proof inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from tallystick.node.api.app import world_of
from tallystick.node.api.operations import Operation, Parameter, flag
from tallystick.node.statement.making import statement_html, statement_pdf
from tallystick.protocol.errors import InputError

PDF, HTML = "application/pdf", "text/html"


async def _statement(request: Request) -> Response:
    world = world_of(request)
    key = world.node.books.select(request.path_params["channel"])
    label, _, kind = request.path_params["file"].rpartition(".")
    if not label or kind not in ("pdf", "html"):
        raise InputError(
            f"{request.path_params['file']!r} names no statement",
            "Write the period and .pdf or .html, as in 2026-10.pdf",
        )
    full, draft = flag(request, "full"), flag(request, "draft")

    make: Callable[..., bytes] = statement_pdf if kind == "pdf" else statement_html
    question = partial(make, period=label, full=full, draft=draft)
    data = await world.reader.ask(key, question)
    name = request.path_params["file"].encode("ascii", "replace").decode()
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(data, headers=headers, media_type=PDF if kind == "pdf" else HTML)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/channels/{channel}/statements/{file}",
        "read",
        "The statement of a period as PERIOD.pdf or PERIOD.html, with its bundle inside.",
        _statement,
        query=(
            Parameter("full", "true: with the full bundle inside"),
            Parameter("draft", "true: of a period that is not closed"),
        ),
        gives={PDF: bytes, HTML: bytes},
    ),
)
