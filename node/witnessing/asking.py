"""One question to a witness over HTTP, with bounds on time and on what is read of the answer."""

from __future__ import annotations

import ssl
from importlib.metadata import version

import httpcore
import trio

from tallystick.node.config import Witnessing
from tallystick.node.errors import EndpointError, HomeError, WitnessUnreachable
from tallystick.node.webhooks.addresses import GuardedBackend, TooMuch
from tallystick.node.witnessing.asked import Asked
from tallystick.protocol.errors import FormatError
from tallystick.protocol.messages import plain
from tallystick.protocol.witness import (
    ANSWER_BYTES_MAX,
    AddCheckpoint,
    Behind,
    Cosigned,
    format_request,
    read_answer,
)

PARALLEL = 4  # questions to one witness at once

_AGENT = f"tallystick/{version('tallystick')}"


class Asker:
    """What asks one witness. Connections are kept for the next question."""

    def __init__(self, asked: Asked, settings: Witnessing) -> None:
        self._asked = asked
        self._seconds = settings.timeout_seconds
        loopback_only = asked.url.startswith("http:") and not settings.allow_http
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context(settings),
            max_connections=PARALLEL,
            max_keepalive_connections=PARALLEL,
            keepalive_expiry=60.0,
            network_backend=GuardedBackend(loopback_only=loopback_only),
        )

    async def aclose(self) -> None:
        """Close what is open."""
        with trio.CancelScope(shield=True):
            await self._pool.aclose()

    async def ask(self, request: AddCheckpoint) -> tuple[Cosigned, ...] | Behind:
        """What the witness says to a checkpoint, as `read_answer` gives it; `WitnessUnreachable` if
        nothing comes back.
        """
        with trio.move_on_after(self._seconds):
            try:
                status, kind, body = await self._post(format_request(request))
            except (
                httpcore.NetworkError,
                httpcore.ProtocolError,
                httpcore.TimeoutException,
                httpcore.UnsupportedProtocol,
                OSError,
                EndpointError,
                trio.BrokenResourceError,
                UnicodeError,  # a name that TLS cannot ask for
            ) as error:
                raise WitnessUnreachable(_words(error)) from None
            vkeys = self._asked.vkeys
            return read_answer(status, kind, body, request.checkpoint.text, vkeys)
        raise WitnessUnreachable(f"no answer within {self._seconds:g} seconds")

    async def _post(self, body: bytes) -> tuple[int, str, bytes]:
        async with self._pool.stream(
            "POST",
            f"{self._asked.url}/add-checkpoint",
            headers=[(b"Content-Type", b"text/plain"), (b"User-Agent", _AGENT.encode())],
            content=body,
        ) as response:
            said = b""
            try:
                async for piece in response.aiter_stream():
                    said += piece
            except TooMuch:
                raise FormatError(f"the answer has more than {ANSWER_BYTES_MAX} bytes") from None
            kinds = [value for name, value in response.headers if name.lower() == b"content-type"]
            return response.status, kinds[0].decode("latin-1") if kinds else "", said


def _words(error: BaseException) -> str:
    found: BaseException | None = error
    while found is not None:
        if text := plain(str(found)).strip():
            return text[:200]
        found = found.__cause__ or found.__context__
    return type(error).__name__


def _ssl_context(settings: Witnessing) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.ca_file:
        try:
            context.load_verify_locations(settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise HomeError(
                f"the certificates in {settings.ca_file} cannot be read: {error}",
                "See witnessing.ca_file in config.toml",
            ) from None
    return context
