"""One attempt: an authority is asked over HTTP, and its answer is believed only if all of it holds.

Only a digest goes out, and what comes back is signed, so plain HTTP does. Redirects are not
followed, and what is read of an answer is bounded, as is the time for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpcore
import trio
from rfc3161_client import HashAlgorithm, TimeStampRequest, TimestampRequestBuilder

from tallystick.node.config import TimestampsConfig
from tallystick.node.errors import EndpointError
from tallystick.node.webhooks.addresses import GuardedBackend, TooMuch, check_url
from tallystick.node.webhooks.sending import retry_after
from tallystick.protocol.errors import InputError, TallyError
from tallystick.protocol.messages import plain
from tallystick.protocol.timestamps import (
    RESPONSE_BYTES_MAX,
    Token,
    check_chain,
    check_token,
    parse_response,
    parse_trusted,
)

_SHOWN_CHARACTERS = 200
_HEADERS: dict[bytes | str, bytes | str] = {
    "Content-Type": "application/timestamp-query",
    "Accept": "application/timestamp-reply",
    "User-Agent": f"tallystick/{version('tallystick')}",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with a response and its token, or with a reason why not."""

    response: bytes = b""
    token: Token | None = None
    said: str = ""
    retry_after_seconds: float = 0.0


def load_trusted(config: TimestampsConfig, home: Path) -> list[bytes]:
    """The certificates (DER) to which an authority's must lead; `InputError` if there are none."""
    path = home / config.certificates
    advice = "See timestamps.certificates in config.toml"
    if not config.certificates:
        raise InputError("timestamps.url is set, and no certificates to check its answers", advice)
    try:
        return parse_trusted(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", advice) from None
    except TallyError as error:
        raise InputError(f"{path}: {error.message}", advice) from None


class Asker:
    """Asks one authority. The connection is kept for the next question."""

    def __init__(self, config: TimestampsConfig, trusted: list[bytes]) -> None:
        check_url(config.url, allow_http=True)
        self._config = config
        self._trusted = trusted
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=1,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(loopback_only=False),
        )

    async def aclose(self) -> None:
        """Close what is open."""
        with trio.CancelScope(shield=True):
            await self._pool.aclose()

    async def ask(self, note: bytes) -> Outcome:
        """Ask for a timestamp of a checkpoint's note, once."""
        seconds = self._config.timeout_seconds
        request = TimestampRequestBuilder(data=note, hash_algorithm=HashAlgorithm.SHA256).build()
        outcome = Outcome(said=f"no answer within {seconds:g} seconds")
        with trio.move_on_after(seconds):
            try:
                outcome = await self._post(request, note)
            except EndpointError as error:
                outcome = Outcome(said=error.message)
            except TooMuch:
                outcome = Outcome(said=f"the answer is longer than {RESPONSE_BYTES_MAX} bytes")
            except (
                httpcore.NetworkError,
                httpcore.ProtocolError,
                httpcore.TimeoutException,
                httpcore.UnsupportedProtocol,
                OSError,
                trio.BrokenResourceError,
                UnicodeError,
            ) as error:
                said = plain(str(error)).strip() or type(error).__name__
                outcome = Outcome(said=said[:_SHOWN_CHARACTERS])
        return outcome

    async def _post(self, request: TimeStampRequest, note: bytes) -> Outcome:
        async with self._pool.stream(
            "POST", self._config.url, headers=_HEADERS, content=request.as_bytes()
        ) as answer:
            if answer.status != 200:
                headers = dict(answer.headers)
                after = next((v for k, v in headers.items() if k.lower() == b"retry-after"), b"")
                return Outcome(
                    said=f"it answers {answer.status}", retry_after_seconds=retry_after(after)
                )
            response = b""
            async for chunk in answer.aiter_stream():
                response += chunk
        return self._judge(request, response, note)

    def _judge(self, request: TimeStampRequest, response: bytes, note: bytes) -> Outcome:
        try:
            token = parse_response(response)
            check_token(token, note)
            check_chain(response, note, self._trusted)
        except TallyError as error:
            return Outcome(said=plain(error.message)[:_SHOWN_CHARACTERS])
        if token.nonce != request.nonce:
            return Outcome(said="the timestamp answers another request: its nonce is not ours")
        return Outcome(response, token)
