"""What watches a node: /metrics for Prometheus, /healthz and /readyz for who starts it anew."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node.api.app import world_of
from tallystick.node.api.operations import JSON, Operation, answer_json
from tallystick.node.config import Metrics

TEXT = "text/plain"


class Health(Struct):
    """Whether the node is well, and what is wrong if not."""

    healthy: bool
    problems: list[str]


class Ready(Struct):
    """Whether the node serves, what keeps it from that, and what works less well than it might."""

    ready: bool
    problems: list[str]
    degraded: list[str]


async def _metrics(request: Request) -> Response:
    accept = request.headers.get("accept", "")
    body, kind = await world_of(request).monitor.expose(accept)
    return Response(body, headers={"Content-Type": kind})


async def _healthz(request: Request) -> Response:
    problems = await world_of(request).monitor.health()
    return answer_json({"healthy": not problems, "problems": problems}, 503 if problems else 200)


async def _readyz(request: Request) -> Response:
    # Who our peers are is for those alone who may read.
    caller = request.scope["state"]["caller"]
    named = caller is not None and caller.may("read")
    found = world_of(request).monitor.readiness(names=named)
    document = {"ready": found.ready, "problems": found.problems, "degraded": found.degraded}
    return answer_json(document, 200 if found.ready else 503)


def operations(config: Metrics) -> Sequence[Operation]:
    """The operations; /metrics needs a key unless it is open."""
    return (
        Operation(
            "GET",
            "/metrics",
            None if config.open else "read",
            "Metrics, in the formats of Prometheus and OpenMetrics.",
            _metrics,
            gives={TEXT: bytes},
        ),
        Operation(
            "GET",
            "/healthz",
            None,
            "Whether the node is well; 503 if people have to look after it.",
            _healthz,
            gives={JSON: Health},
        ),
        Operation(
            "GET",
            "/readyz",
            None,
            "Whether the node serves; a peer that is away is said, and no reason for 503.",
            _readyz,
            gives={JSON: Ready},
        ),
    )
