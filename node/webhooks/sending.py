"""One attempt: a signed POST. Nothing of the receiver's is kept but its status and the beginning of
what it said.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tallystick.node.calling import Answer, Caller, retry_after, trusting
from tallystick.node.config import WebhooksConfig
from tallystick.node.errors import EndpointError, Unanswered
from tallystick.node.webhooks.addresses import check_url
from tallystick.node.webhooks.endpoints import Endpoint
from tallystick.node.webhooks.signing import signature_headers
from tallystick.protocol.messages import plain

SHOWN_CHARACTERS = 80
GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: `gone` says that the receiver wants no more of this event."""

    ok: bool
    said: str
    gone: bool = False
    retry_after_seconds: float = 0.0


class Sender(Caller):
    """What sends to one endpoint."""

    def __init__(self, endpoint: Endpoint, config: WebhooksConfig) -> None:
        super().__init__(
            trusting(config.ca_file, "webhooks.ca_file"),
            parallel=config.parallel,
            loopback_only=endpoint.url.startswith("http:") and not config.allow_http,
        )
        self.endpoint = endpoint
        self._config = config

    async def send(self, body: bytes, event: str, id: str, attempt: int) -> Outcome:
        """Send a body once."""
        now_us = time.time_ns() // 1000
        headers = {
            "Content-Type": "application/json",
            "X-Tallystick-Event": event,
            "X-Tallystick-Delivery": id,
            "X-Tallystick-Attempt": str(attempt),
            **signature_headers(self.endpoint.keys(now_us), body, now_us // 1_000_000),
        }
        url = self.endpoint.url
        try:
            check_url(url, allow_http=self._config.allow_http)
            return _outcome(await self.post(url, headers, body, self._config.timeout_seconds))
        except EndpointError as error:
            return Outcome(False, error.message)
        except Unanswered as error:
            return Outcome(False, error.message[:SHOWN_CHARACTERS])


def _outcome(answer: Answer) -> Outcome:
    status = answer.status
    if 200 <= status < 300:
        return Outcome(True, str(status))
    text = plain(answer.body.decode("utf-8", "replace")).strip()[:SHOWN_CHARACTERS]
    said = f"{status}: {text}" if text else str(status)
    if 300 <= status < 400:
        said = f"{status}: it redirects, and that is not followed"
    return Outcome(False, said, status == GONE, retry_after(answer))
