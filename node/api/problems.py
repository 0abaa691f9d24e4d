"""Errors as HTTP has them: problem details (RFC 9457).

`type` is `urn:tallystick:` and the error's name in our family tree, so programs can tell them
apart; `detail` is the sentence, `advice` the way out.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tallystick.node.errors import (
    CursorError,
    NodeUnreachable,
    PairingError,
    PeerUnreachable,
    StoreError,
)
from tallystick.protocol.errors import (
    ConflictError,
    DiffersError,
    FormatError,
    InputError,
    InvalidRecord,
    PeerBreach,
    ProofError,
    SessionStopped,
    TallyError,
    UnknownName,
    lone_error,
)

RETRY_SECONDS = 5

# The first class that fits counts.
_STATUS: tuple[tuple[type[TallyError], int], ...] = (
    (UnknownName, 404),
    (CursorError, 410),
    (InputError, 400),
    (FormatError, 400),
    (ConflictError, 409),
    (InvalidRecord, 422),
    (DiffersError, 409),
    (ProofError, 422),
    (PeerBreach, 502),
    (SessionStopped, 409),
    (PairingError, 502),
    (PeerUnreachable, 504),
    (NodeUnreachable, 503),
    (StoreError, 503),
)

_log = logging.getLogger("tallystick.api")


class Refused(Exception):
    """A request that HTTP itself refuses: no key, too much, too often."""

    def __init__(
        self, status: int, detail: str, advice: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.advice = status, detail, advice
        self.headers = headers or {}


def status_of(error: TallyError) -> int:
    """The HTTP status of an error of ours."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(
    status: int,
    kind: str,
    detail: str,
    advice: str = "",
    headers: dict[str, str] | None = None,
    **more: object,
) -> Response:
    """A problem document as an answer; `more` are members of its own."""
    document: dict[str, Any] = {
        "type": f"urn:tallystick:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if advice:
        document["advice"] = advice
    document |= more
    return Response(
        msgspec.json.encode(document), status, headers, media_type="application/problem+json"
    )


def inside(error: BaseException) -> tuple[int, str, str, str]:
    """Status, kind, detail and advice of whatever a request ended with."""
    error = lone_error(error)
    if isinstance(error, TallyError):
        return status_of(error), type(error).__name__, error.message, error.advice
    if isinstance(error, Refused):
        return error.status, "", error.detail, error.advice
    if isinstance(error, HTTPException):
        return error.status_code, "", error.detail, ""
    _log.error("a request failed inside the node", exc_info=error)
    return 500, "", "the request failed inside the node; its log says why", "Please report it"


async def answer(request: Request, error: Exception) -> Response:
    """Starlette's handler for every exception of the native interface."""
    status, kind, detail, advice = inside(error)
    headers = dict(getattr(lone_error(error), "headers", None) or {})
    if status == 503:
        headers.setdefault("Retry-After", str(RETRY_SECONDS))
    return problem(status, kind, detail, advice, headers)
