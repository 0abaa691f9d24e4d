"""Calls to others over HTTP: witnesses, authorities, those who get webhooks.

Redirects are not followed, proxies of the environment are not asked, and both the time for an
answer and what is read of it are bounded.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import httpcore
import trio

from tallystick.node.errors import EndpointError, HomeError, Unanswered
from tallystick.node.webhooks.addresses import GuardedBackend, TooMuch
from tallystick.protocol.messages import plain

SHOWN_CHARACTERS = 200
RETRY_AFTER_MAX_SECONDS = 3600.0

_AGENT = {"User-Agent": f"tallystick/{version('tallystick')}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the names of headers are in small letters. It is not `whole` if it was too
    long to be read to its end.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    whole: bool


class Caller:
    """What calls one address. Connections are kept for the next call."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        parallel: int = 1,
        idle_seconds: float = 15.0,
        loopback_only: bool = False,
    ) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=parallel,
            max_keepalive_connections=parallel,
            keepalive_expiry=idle_seconds,
            network_backend=GuardedBackend(loopback_only=loopback_only),
        )

    async def aclose(self) -> None:
        """Close what is open."""
        with trio.CancelScope(shield=True):
            await self._pool.aclose()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> Answer:
        """Post a body once; `Unanswered` if nothing comes back in so many seconds."""
        with trio.move_on_after(seconds):
            try:
                return await self._post(url, {**_AGENT, **headers}, body)
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
                raise Unanswered(_words(error)[:SHOWN_CHARACTERS]) from None
        raise Unanswered(f"no answer within {seconds:g} seconds")

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with self._pool.stream("POST", url, headers=sent, content=body) as response:
            said, whole = b"", True
            # Not left halfway: the connection ends the answer, and all that reads it, by an error.
            try:
                async for piece in response.aiter_stream():
                    said += piece
            except TooMuch:
                whole = False
            # Of a header that is there twice the first counts.
            found = {name.lower(): value for name, value in reversed(response.headers)}
            return Answer(response.status, found, said, whole)


def _words(error: BaseException) -> str:
    """What an error says, or the one that it comes from."""
    found: BaseException | None = error
    while found is not None:
        if text := plain(str(found)).strip():
            return text
        found = found.__cause__ or found.__context__
    return type(error).__name__


def retry_after(answer: Answer) -> float:
    """The seconds of a Retry-After header, between none and an hour; 0 if it makes no sense."""
    text = answer.headers.get(b"retry-after", b"").decode("ascii", "replace").strip()
    try:
        if text.isdigit():
            seconds = float(text[:9])
        else:
            at = parsedate_to_datetime(text)
            seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def trusting(ca_file: str, setting: str) -> ssl.SSLContext:
    """TLS as everywhere, with the certificates of a file besides, if there is one."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise HomeError(
                f"the certificates in {ca_file} cannot be read: {error}",
                f"See {setting} in config.toml",
            ) from None
    return context
