"""The event that only tests an endpoint: sent once, by whoever asks, and kept nowhere."""

from __future__ import annotations

import secrets
import time

import msgspec

from tallystick.node.config import WebhooksConfig
from tallystick.node.feed.events import iso, name_of
from tallystick.node.webhooks.endpoints import Endpoint
from tallystick.node.webhooks.sending import Outcome, Sender

TEST = "webhook.test"


async def send_test(endpoint: Endpoint, config: WebhooksConfig, tenant: str) -> Outcome:
    """Send it."""
    id = name_of(secrets.token_bytes(16))
    document = {
        "id": id,
        "event": TEST,
        "tenantId": tenant,
        "createdAt": iso(time.time_ns() // 1000),
        "data": {"endpoint": endpoint.id, "said": "this only tests the endpoint"},
    }
    sender = Sender(endpoint, config)
    try:
        return await sender.send(msgspec.json.encode(document), TEST, id, 1)
    finally:
        await sender.aclose()
