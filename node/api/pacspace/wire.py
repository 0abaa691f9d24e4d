"""What goes over the wire here: the success envelope, and errors as the client reads them.

Bad input is 400 without a code, because that alone becomes the client's `ValidationError`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from tallystick.node.api.problems import Refused, inside
from tallystick.protocol.errors import ConflictError, DiffersError, InvalidRecord, lone_error

JSON = "application/json"
RETRY_SECONDS = 1  # the client waits as long as it is told, however long that is

_encode = msgspec.json.Encoder().encode


class Refusal(Exception):
    """A request that is refused, as the client will see it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def bad(message: str) -> Refusal:
    """Something in the request is not what is taken here."""
    return Refusal(400, message)


def missing(message: str) -> Refusal:
    """What the request names is not there."""
    return Refusal(404, message)


def refusal_of(error: BaseException) -> Refusal:
    """What a request ended with, as a refusal."""
    error = lone_error(error)
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InvalidRecord):
        return Refusal(400, str(error))
    if isinstance(error, ConflictError):
        return Refusal(409, str(error), "IDEMPOTENCY_CONFLICT")
    if isinstance(error, DiffersError):
        return Refusal(409, str(error), "CHECKPOINT_DIFFERS")
    status, _, detail, advice = inside(error)
    if status in (502, 504):  # the peer's doing: it may be right again in a moment
        status = 503
    return Refusal(status, f"{detail}. {advice}" if advice else detail)


def succeeded(data: object) -> Response:
    """The success envelope."""
    return Response(_encode({"success": True, "data": data}), media_type=JSON)


def refused(refusal: Refusal) -> Response:
    """The error's body."""
    said: dict[str, Any] = {"message": refusal.message}
    headers = {}
    if refusal.code:
        said["code"] = refusal.code
    if refusal.status in (429, 503):
        said["retryAfterSeconds"] = RETRY_SECONDS
        headers["Retry-After"] = str(RETRY_SECONDS)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="tallystick"'
    body = _encode({"success": False, "error": said})
    return Response(body, refusal.status, headers, media_type=JSON)


def refused_at_door(error: Refused) -> Response:
    """What the door itself refuses, said in the same form."""
    return refused(refusal_of(error))
