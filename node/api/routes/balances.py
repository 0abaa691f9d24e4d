"""The balance, and one's own numbers against it."""

from __future__ import annotations

from functools import partial

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node import queries
from tallystick.node.api.app import world_of
from tallystick.node.api.operations import JSON, Operation, Parameter, answer_json


class Head(Struct):
    """A log's head."""

    party: str
    size: int
    root: str


class BalanceLine(Struct):
    """A balance line; quantities are decimals as text."""

    period: str
    late_for: str | None
    meter: str
    subject: str
    unit: str
    provider: str | None
    consumer: str | None
    payable: str
    disputed: str
    pending: str
    deltas: int
    status: str


class Balance(Struct):
    """The balance, the same at both parties exactly when the digest is."""

    channel: str
    digest: str
    heads: list[Head]
    lines: list[BalanceLine]


async def _balance(request: Request) -> Response:
    world = world_of(request)
    key = world.node.books.select(request.path_params["channel"])
    query = request.query_params
    question = partial(
        queries.derive,
        period=query.get("period"),
        meter=query.get("meter"),
        subject=query.get("subject"),
    )
    return answer_json(await world.reader.ask_lines(key, question))


OPERATIONS = (
    Operation(
        "GET",
        "/v1/channels/{channel}/balance",
        "read",
        "The balance, derived from both logs; the peer derives the same, with the same digest.",
        _balance,
        query=(
            Parameter("period", "Only this period, as in 2026-10"),
            Parameter("meter", "Only this meter"),
            Parameter("subject", "Only this subject"),
        ),
        gives={JSON: Balance},
    ),
)
