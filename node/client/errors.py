"""What can go wrong between a service and its node, each with what the node said of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tallystick.client.deltas import Delta


class Problem(Struct, frozen=True):
    """Problem details (RFC 9457), as the node sent them; `advice` is the way out."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    advice: str = ""


class ClientError(Exception):
    """Base of all errors of this client."""


class Unreachable(ClientError):
    """No answer came: the node is down, or the way to it is. What was sent may be recorded."""


class Answered(ClientError):
    """The node answered with a problem; what was asked was not done."""

    def __init__(self, problem: Problem) -> None:
        said = f"{problem.detail}. {problem.advice}" if problem.advice else problem.detail
        super().__init__(said or f"HTTP status {problem.status}")
        self.problem = problem


class NotAllowed(Answered):
    """401 or 403: the key is not known, or lacks the scope."""


class NotFound(Answered):
    """404: a channel, a delta or a closed period that is not there."""


class Conflict(Answered):
    """409: the same meter and id were recorded before with other content."""


class Refused(Answered):
    """400, 413, 415, 422: the request, a quantity or a time is not what the node or the terms
    allow.
    """


class NotCosigned(Answered):
    """504: the peer has not co-signed in time. What was recorded stays recorded."""


class Busy(Answered):
    """429 or 503: too much at once, or the node cannot write now; the client tried again."""


class Failed(Answered):
    """Another status: the node, or what is before it, failed."""


class Gap(ClientError):
    """Events after the cursor are not kept any more; begin anew, without a cursor."""


class Full(ClientError):
    """A batcher's queue stayed full for as long as one was ready to wait."""


class Undelivered(ClientError):
    """A batcher was closed, or waited for, before all was acknowledged. `deltas` are those of
    which that is not known: keep them, and send them again as they are.
    """

    def __init__(self, deltas: Sequence[Delta], cause: Exception | None) -> None:
        why = f": {cause}" if cause else ""
        super().__init__(f"{len(deltas)} deltas are not acknowledged{why}")
        self.deltas = tuple(deltas)
        self.cause = cause


class Forked(ClientError):
    """A batcher was used in a process that was forked from the one that made it."""


_BY_STATUS: dict[int, type[Answered]] = {
    400: Refused, 401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict, 413: Refused,
    415: Refused, 422: Refused, 429: Busy, 503: Busy, 504: NotCosigned,
}  # fmt: skip


def error_of(problem: Problem) -> Answered:
    """The error of a problem."""
    return _BY_STATUS.get(problem.status, Failed)(problem)
