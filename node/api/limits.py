"""What one caller may use of the HTTP interface: bytes a request, requests a second and at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from starlette.requests import ClientDisconnect, Request

from tallystick.node.api.problems import Refused
from tallystick.node.config import Http
from tallystick.node.quotas import MEBIBYTE, Bucket

CALLERS_MAX = 1024  # whose use is remembered
BODY_SECONDS = 30
BODY_BYTES_PER_SECOND = 16 * 1024  # that a body must come at, after that


class Limits:
    """The limits of one door, by caller."""

    def __init__(self, config: Http) -> None:
        self._config = config
        self._callers: dict[str, tuple[Bucket, trio.Semaphore]] = {}

    def _of(self, caller: str) -> tuple[Bucket, trio.Semaphore]:
        found = self._callers.get(caller)
        if found is None:
            now = trio.current_time()
            if len(self._callers) >= CALLERS_MAX:
                self._callers = {
                    known: (bucket, working)
                    for known, (bucket, working) in self._callers.items()
                    if not bucket.full(now) or working.value < self._config.requests_at_once
                }
            rate = self._config.requests_per_second
            found = Bucket(rate, rate, now), trio.Semaphore(self._config.requests_at_once)
            self._callers[caller] = found
        return found

    @asynccontextmanager
    async def hold(self, caller: str) -> AsyncIterator[None]:
        """Work on one request of a caller; `Refused` (429) if it asks too much."""
        bucket, working = self._of(caller)
        if not bucket.try_take(1, trio.current_time()):
            raise Refused(
                429,
                f"more than {self._config.requests_per_second} requests a second",
                "Send several deltas in one request; see http.requests_per_second",
                {"Retry-After": "1"},
            )
        try:
            working.acquire_nowait()
        except trio.WouldBlock:
            raise Refused(
                429,
                f"more than {self._config.requests_at_once} requests at once",
                "Wait for answers; see http.requests_at_once",
                {"Retry-After": "1"},
            ) from None
        try:
            yield
        finally:
            working.release()


async def read_body(request: Request, bytes_max: int | None = None) -> bytes:
    """A request's body; `Refused` if it has more bytes than are allowed, or breaks off."""
    if bytes_max is None:
        config: Http = request.app.state.config
        bytes_max = config.body_mebibytes * MEBIBYTE
    too_large = Refused(413, f"the body has more than {bytes_max} bytes", "Send it in parts")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise too_large
    pieces, size = [], 0
    began = trio.current_time()
    try:
        with trio.move_on_after(BODY_SECONDS) as waiting:
            async for piece in request.stream():
                size += len(piece)
                if size > bytes_max:
                    raise too_large
                pieces.append(piece)
                # So long as it comes at a pace at all, a large one may take longer.
                waiting.deadline = began + BODY_SECONDS + size / BODY_BYTES_PER_SECOND
    except ClientDisconnect:
        raise Refused(400, "the body broke off") from None
    if waiting.cancelled_caught:
        raise Refused(
            408,
            f"the body came too slowly: {size} bytes in {trio.current_time() - began:.0f} seconds",
            "Send it again, all at once; what comes little by little is for a stream (NDJSON)",
        )
    return b"".join(pieces)
