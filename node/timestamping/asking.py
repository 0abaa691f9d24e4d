"""One attempt: an authority is asked over HTTP, and its answer is believed only if all of it holds.

Only a digest goes out, and what comes back is signed, so plain HTTP does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rfc3161_client import HashAlgorithm, TimeStampRequest, TimestampRequestBuilder

from tallystick.node.calling import SHOWN_CHARACTERS, Caller, retry_after
from tallystick.node.config import TimestampsConfig
from tallystick.node.errors import Unanswered
from tallystick.node.webhooks.addresses import check_url
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

_HEADERS = {
    "Content-Type": "application/timestamp-query",
    "Accept": "application/timestamp-reply",
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


class Asker(Caller):
    """Asks one authority."""

    def __init__(self, config: TimestampsConfig, trusted: list[bytes]) -> None:
        check_url(config.url, allow_http=True)
        super().__init__()
        self._config = config
        self._trusted = trusted

    async def ask(self, note: bytes) -> Outcome:
        """Ask for a timestamp of a checkpoint's note, once."""
        request = TimestampRequestBuilder(data=note, hash_algorithm=HashAlgorithm.SHA256).build()
        url, seconds = self._config.url, self._config.timeout_seconds
        try:
            answer = await self.post(url, _HEADERS, request.as_bytes(), seconds)
        except Unanswered as error:
            return Outcome(said=error.message)
        if answer.status != 200:
            said = f"it answers {answer.status}"
            return Outcome(said=said, retry_after_seconds=retry_after(answer))
        if not answer.whole:
            return Outcome(said=f"the answer is longer than {RESPONSE_BYTES_MAX} bytes")
        return self._judge(request, answer.body, note)

    def _judge(self, request: TimeStampRequest, response: bytes, note: bytes) -> Outcome:
        try:
            token = parse_response(response)
            check_token(token, note)
            check_chain(response, note, self._trusted)
        except TallyError as error:
            return Outcome(said=plain(error.message)[:SHOWN_CHARACTERS])
        if token.nonce != request.nonce:
            return Outcome(said="the timestamp answers another request: its nonce is not ours")
        return Outcome(response, token)
