"""The deliveries of webhooks, as this interface lists them."""

from __future__ import annotations

from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.wire import missing


async def show_list(call: Call) -> object:
    """GET /webhooks."""
    limit, offset = call.page()
    return {"deliveries": [], "pagination": {"total": 0, "limit": limit, "offset": offset}}


async def retry(call: Call) -> object:
    """POST /webhooks/{eventId}/retry."""
    raise missing(f"there is no delivery {call.ids[0][:200]!r}")
