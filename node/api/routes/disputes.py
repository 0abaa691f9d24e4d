"""What is contested: the work list, and filing, answering, settling and withdrawing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node import disputing, filing, worklist
from tallystick.node.api.app import World, world_of
from tallystick.node.api.limits import read_body
from tallystick.node.api.operations import (
    JSON,
    Handler,
    Operation,
    Parameter,
    answer_json,
    flag,
)
from tallystick.node.channel import Channel
from tallystick.node.disputing import Sayable
from tallystick.protocol.disputes import Standing
from tallystick.protocol.errors import FormatError


class DisputeDocument(Struct):
    """A dispute: what it is of, who said what, what it waits for, and what is upheld of it."""

    dispute: str
    channel: str
    by: str
    against: str
    index: int
    period: str
    meter: str
    subject: str
    unit: str
    amount: str
    code: str
    peppol: dict[str, str]
    reason: str
    records: list[dict[str, Any]]
    filed_at: int
    state: str
    upheld: str
    pending: str
    answer: dict[str, Any] | None
    settlements: dict[str, str | None]
    waits_for: str | None
    until: str | None
    until_at: int | None
    until_utc: str | None
    then: str | None


class WorkList(Struct):
    """The disputes, and the closed periods that may still be disputed, by deadline."""

    disputes: list[DisputeDocument]
    checkpoints: list[dict[str, Any]]


class ClaimIn(Struct, forbid_unknown_fields=True):
    """A dispute: of `records` (METER/ID each), or of a `line` (PERIOD/METER/SUBJECT) by an amount,
    a decimal as text.
    """

    code: Literal["quantity", "reference", "other"]
    reason: str
    records: list[str] = []
    line: str | None = None
    amount: str | None = None


class AnswerIn(Struct, forbid_unknown_fields=True):
    """An answer. `concede` gives up `amount`, or all of it; `insist` is for who filed it."""

    answer: filing.Kind
    reason: str
    amount: str | None = None
    records: list[str] = []


class ResolutionIn(Struct, forbid_unknown_fields=True):
    """By how much less the line shall be payable; settled once both said the same."""

    amount: str
    reason: str


class WithdrawalIn(Struct, forbid_unknown_fields=True):
    """Why a dispute of ours is given up."""

    reason: str


class Said(Struct):
    """What was said is in our log at `index`; `duplicate`: it was there before."""

    index: int
    duplicate: bool
    dispute: DisputeDocument


def _decoder(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


_claim, _answer_in = _decoder(ClaimIn), _decoder(AnswerIn)
_resolution_in, _withdrawal_in = _decoder(ResolutionIn), _decoder(WithdrawalIn)


async def _body(request: Request, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(await read_body(request))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"the body is not what was expected: {error}", "See /docs") from None


def find(world: World, name: str) -> tuple[Channel, Standing]:
    """The dispute whose digest begins so, in any channel."""
    return disputing.find([channel for channel, _ in world.node.books.channels.values()], name)


async def say(world: World, channel: Channel, record: Sayable) -> Said:
    """Have it signed in our log, and show where the dispute stands then."""
    answer = await world.service.say(channel.id.hex(), filing.sayable_bytes(record))
    found, one = disputing.find([channel], answer["dispute"].hex())
    (document,) = worklist.dispute_documents(found, [one])
    return Said(answer["index"], answer["again"], msgspec.convert(document, DisputeDocument))


async def _list(request: Request) -> Response:
    books = world_of(request).node.books
    selector = request.query_params.get("channel")
    keys = [books.select(selector)] if selector else list(books.channels)
    channels = [books.channels[key][0] for key in keys]
    return answer_json(worklist.worklist(channels, settled=flag(request, "settled")))


async def _show(request: Request) -> Response:
    found, one = find(world_of(request), request.path_params["dispute"])
    return answer_json(worklist.dispute_documents(found, [one])[0])


async def _file(request: Request) -> Response:
    world = world_of(request)
    key = world.node.books.select(request.path_params["channel"])
    body: ClaimIn = await _body(request, _claim)
    claim = filing.Claim(body.code, body.reason, body.records, body.line, body.amount)
    record = await world.reader.ask_lines(
        key, lambda channel, closer: filing.dispute_of(channel, closer, claim)
    )
    return answer_json(await say(world, world.node.books.channels[key][0], record), 201)


async def _answer(request: Request) -> Response:
    world = world_of(request)
    channel, one = find(world, request.path_params["dispute"])
    body: AnswerIn = await _body(request, _answer_in)
    reply = filing.Reply(body.answer, body.reason, body.amount, body.records)
    return answer_json(await say(world, channel, filing.answer_of(channel, one, reply)), 201)


async def _resolve(request: Request) -> Response:
    world = world_of(request)
    channel, one = find(world, request.path_params["dispute"])
    body: ResolutionIn = await _body(request, _resolution_in)
    record = filing.resolution_of(channel, one, body.amount, body.reason)
    return answer_json(await say(world, channel, record), 201)


async def _withdraw(request: Request) -> Response:
    world = world_of(request)
    channel, one = find(world, request.path_params["dispute"])
    body: WithdrawalIn = await _body(request, _withdrawal_in)
    record = filing.withdrawal_of(one, body.reason)
    return answer_json(await say(world, channel, record), 201)


def _saying(path: str, summary: str, handler: Handler, body: type[Struct]) -> Operation:
    """An operation that has something signed in our log."""
    takes, gives = {JSON: body}, {JSON: Said}
    return Operation("POST", path, "admin", summary, handler, (), takes, gives, 201)


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
    Operation(
        "GET",
        "/v1/disputes/{dispute}",
        "read",
        "A dispute by the beginning of its digest.",
        _show,
        gives={JSON: DisputeDocument},
    ),
    _saying(
        "/v1/channels/{channel}/disputes",
        "Contest a balance line, by records or by an amount; the peer has to answer in time.",
        _file,
        ClaimIn,
    ),
    _saying(
        "/v1/disputes/{dispute}/answers",
        "Answer a dispute of the peer's, or insist on one of ours after its answer.",
        _answer,
        AnswerIn,
    ),
    _saying(
        "/v1/disputes/{dispute}/resolutions",
        "Say what we would settle a dispute for; it is settled when both said the same.",
        _resolve,
        ResolutionIn,
    ),
    _saying(
        "/v1/disputes/{dispute}/withdrawals",
        "Give up a dispute of ours.",
        _withdraw,
        WithdrawalIn,
    ),
)
