"""A client for services that emit usage to their node: `Client` blocks, `AsyncClient` does not.

    from tallystick.client import Client

    with Client("http://127.0.0.1:7451", key="tally_…", channel="beta.example") as client:
        client.emit("output-tokens", 374, subject="project-7")

It imports nothing of the node. What it promises: a delta that was acknowledged is on the node's
disk, and however often one is sent, it is recorded once.
"""

from tallystick.client.answers import (
    Balance,
    BalanceLine,
    ChannelStatus,
    Checkpoint,
    ClosedPeriod,
    Emitted,
    Event,
    Head,
    LogStatus,
    Receipt,
    Refusal,
    Status,
)
from tallystick.client.asking import Retry
from tallystick.client.asyncbatcher import AsyncBatcher
from tallystick.client.awaiting import AsyncClient
from tallystick.client.batcher import Batcher
from tallystick.client.blocking import Client
from tallystick.client.deltas import Delta
from tallystick.client.errors import (
    Answered,
    Busy,
    ClientError,
    Conflict,
    Failed,
    Forked,
    Full,
    Gap,
    NotAllowed,
    NotCosigned,
    NotFound,
    Problem,
    Refused,
    Undelivered,
    Unreachable,
)
from tallystick.client.queue import BatcherStats

__all__ = [
    "Answered",
    "AsyncBatcher",
    "AsyncClient",
    "Balance",
    "BalanceLine",
    "Batcher",
    "BatcherStats",
    "Busy",
    "ChannelStatus",
    "Checkpoint",
    "Client",
    "ClientError",
    "ClosedPeriod",
    "Conflict",
    "Delta",
    "Emitted",
    "Event",
    "Failed",
    "Forked",
    "Full",
    "Gap",
    "Head",
    "LogStatus",
    "NotAllowed",
    "NotCosigned",
    "NotFound",
    "Problem",
    "Receipt",
    "Refusal",
    "Refused",
    "Retry",
    "Status",
    "Undelivered",
    "Unreachable",
]
