"""One attempt: a signed POST, with bounds on time and on what is read of the answer.

Redirects are not followed, proxies of the environment are not asked, and nothing of the receiver's
is kept but its status and the beginning of what it said.
"""

from __future__ import annotations

import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import httpcore
import trio

from tallystick.node.config import WebhooksConfig
from tallystick.node.errors import EndpointError, HomeError
from tallystick.node.webhooks.addresses import GuardedBackend, TooMuch, check_url
from tallystick.node.webhooks.endpoints import Endpoint
from tallystick.node.webhooks.signing import signature_headers
from tallystick.protocol.messages import plain

SHOWN_CHARACTERS = 80
RETRY_AFTER_MAX_SECONDS = 3600.0
GONE = 410

_AGENT = f"tallystick/{version('tallystick')}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: `gone` says that the receiver wants no more of this event."""

    ok: bool
    said: str
    gone: bool = False
    retry_after_seconds: float = 0.0


class Sender:
    """What sends to one endpoint. Connections are kept for the next event."""

    def __init__(self, endpoint: Endpoint, config: WebhooksConfig) -> None:
        self.endpoint = endpoint
        self._config = config
        loopback_only = endpoint.url.startswith("http:") and not config.allow_http
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context(config),
            max_connections=config.parallel,
            max_keepalive_connections=config.parallel,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(loopback_only=loopback_only),
        )

    async def aclose(self) -> None:
        """Close what is open."""
        with trio.CancelScope(shield=True):
            await self._pool.aclose()

    async def send(self, body: bytes, event: str, id: str, attempt: int) -> Outcome:
        """Send a body once."""
        seconds = self._config.timeout_seconds
        outcome = Outcome(False, f"no answer within {seconds:g} seconds")
        with trio.move_on_after(seconds):
            try:
                check_url(self.endpoint.url, allow_http=self._config.allow_http)
                outcome = await self._post(body, event, id, attempt)
            except EndpointError as error:
                outcome = Outcome(False, error.message)
            except (
                httpcore.NetworkError,
                httpcore.ProtocolError,
                httpcore.TimeoutException,
                httpcore.UnsupportedProtocol,
                OSError,
                trio.BrokenResourceError,
                UnicodeError,  # a name that TLS cannot ask for
            ) as error:
                outcome = Outcome(False, _words(error)[:SHOWN_CHARACTERS])
        return outcome

    async def _post(self, body: bytes, event: str, id: str, attempt: int) -> Outcome:
        now_us = time.time_ns() // 1000
        headers = {
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            "X-Tallystick-Event": event,
            "X-Tallystick-Delivery": id,
            "X-Tallystick-Attempt": str(attempt),
            **signature_headers(self.endpoint.keys(now_us), body, now_us // 1_000_000),
        }
        async with self._pool.stream(
            "POST",
            self.endpoint.url,
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            content=body,
        ) as response:
            words = b""
            # Not left halfway: the connection ends the answer, and all that reads it, by an error.
            with suppress(TooMuch):
                async for chunk in response.aiter_stream():
                    words += chunk
            return _outcome(response.status, words, response.headers)


def _words(error: BaseException) -> str:
    """What an error says, or the one that it comes from."""
    found: BaseException | None = error
    while found is not None:
        if text := plain(str(found)).strip():
            return text
        found = found.__cause__ or found.__context__
    return type(error).__name__


def _outcome(status: int, words: bytes, headers: list[tuple[bytes, bytes]]) -> Outcome:
    if 200 <= status < 300:
        return Outcome(True, str(status))
    text = plain(words.decode("utf-8", "replace")).strip()[:SHOWN_CHARACTERS]
    said = f"{status}: {text}" if text else str(status)
    if 300 <= status < 400:
        said = f"{status}: it redirects, and that is not followed"
    after = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return Outcome(False, said, status == GONE, retry_after(after))


def retry_after(value: bytes) -> float:
    """The seconds of a Retry-After header, between none and an hour; 0 if it makes no sense."""
    text = value.decode("ascii", "replace").strip()
    try:
        if text.isdigit():
            seconds = float(text[:9])
        else:
            at = parsedate_to_datetime(text)
            seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def _ssl_context(config: WebhooksConfig) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if config.ca_file:
        try:
            context.load_verify_locations(config.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise HomeError(
                f"the certificates in {config.ca_file} cannot be read: {error}",
                "See webhooks.ca_file in config.toml",
            ) from None
    return context
