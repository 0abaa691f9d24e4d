"""How things stand: status, channels, peers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node import queries
from tallystick.node.api.app import world_of
from tallystick.node.api.operations import JSON, Operation, answer_json


class LogStatus(Struct):
    """One log: its records here, and how many of them are co-signed."""

    party: str
    size: int
    cosigned: int


class Quota(Struct):
    """What is held of the peer's log."""

    held_bytes: int
    limit_bytes: int
    reached: bool


class WitnessStatus(Struct):
    """How far a witness is with our log, and what it did that none may do."""

    name: str
    size: int
    of: int
    breach: str


class Shown(Struct):
    """Records of either log that gossip showed, if that is more than is here."""

    own: int | None
    theirs: int | None


class ChannelStatus(Struct):
    """How a channel stands."""

    channel: str
    peer: str
    role: str
    connected: bool
    own: LogStatus
    theirs: LogStatus
    lag_records: int
    lag_seconds: float | None
    state: str
    reason: str
    last_checkpoint: str | None
    difference: str
    quota: Quota
    withheld: str
    clock_skew_seconds: float | None
    evidence: list[str]
    shown: Shown
    witnesses: list[WitnessStatus]


class Proposal(Struct):
    """Proposed terms that wait."""

    channel: str
    peer: str
    state: str


class StandbyStatus(Struct):
    """How a node and its standby stand to each other, seen from one of them."""

    role: str
    connected: bool
    in_step: bool
    lag_commits: int | None
    wait: bool
    alone: bool


class Stamping(Struct):
    """Who stamps checkpoints, how many wait for it, and why, if asking failed."""

    url: str
    waiting: int
    problem: str


class Stopped(Struct):
    """Another copy of this home runs: since when nothing is signed, and when it last spoke."""

    since: str
    seen: str


class Status(Struct):
    """How the node and its channels stand."""

    name: str
    running: bool
    address: str | None
    http: str | None
    standby: StandbyStatus | None
    stopped: Stopped | None
    channels: list[ChannelStatus]
    timestamps: Stamping | None
    proposals: list[Proposal]


class Channel(Struct):
    """A channel or a proposal of one."""

    channel: str
    peer: str
    state: str
    role: str
    period: str
    time_zone: str
    meters: list[str]
    reason: str


class Channels(Struct):
    """All of them."""

    channels: list[Channel]


class Peer(Struct):
    """A paired peer; `words` are for comparing by phone."""

    name: str
    address: str
    connected: bool
    cosigner: str
    words: str


class Peers(Struct):
    """All of them."""

    peers: list[Peer]


async def _status(request: Request) -> Response:
    world = world_of(request)
    live = await world.service.live()
    return answer_json(queries.status(world.node.books, live))


async def _channels(request: Request) -> Response:
    return answer_json({"channels": queries.channels(world_of(request).node.books)})


async def _peers(request: Request) -> Response:
    world = world_of(request)
    live: dict[str, Any] = await world.service.live()
    return answer_json({"peers": queries.peers(world.node.books, live)})


OPERATIONS = (
    Operation(
        "GET", "/v1/status", "read", "How each channel stands.", _status, gives={JSON: Status}
    ),
    Operation(
        "GET",
        "/v1/channels",
        "read",
        "The channels and the proposals.",
        _channels,
        gives={JSON: Channels},
    ),
    Operation("GET", "/v1/peers", "read", "The paired peers.", _peers, gives={JSON: Peers}),
)
