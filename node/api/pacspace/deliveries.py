"""The deliveries of webhooks, as this interface lists them and sends them again."""

from __future__ import annotations

from typing import Any

from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.wire import bad, missing
from tallystick.node.errors import EndpointError
from tallystick.node.webhooks.deliveries import STATES, count_deliveries, list_deliveries

# Our states, and words for them that a client of the hosted service may ask with.
_ALSO = {"failed": "dead", "pending": "replaying", "success": "delivered", "succeeded": "delivered"}


async def show_list(call: Call) -> object:
    """GET /webhooks: the newest first."""
    limit, offset = call.page()
    states = _states(call)
    store = call.world.node.books.store
    with store.read() as txn:
        total = sum(count_deliveries(txn, STATES[state]) for state in states)
    # What is kept is bounded (webhooks.keep_deliveries), so an offset beyond it finds nothing.
    found = list_deliveries(store, states, min(offset + limit, total)) if total else []
    return {
        "deliveries": [_document(one) for one in found[offset : offset + limit]],
        "pagination": {"total": total, "limit": limit, "offset": offset},
    }


def _states(call: Call) -> list[str]:
    wanted = call.query.get("status")
    if wanted is None:
        return list(STATES)
    state = _ALSO.get(wanted.lower(), wanted.lower())
    if state not in STATES:
        raise bad(f"status {wanted[:40]!r} is not known: {', '.join((*STATES, *_ALSO))}")
    return [state]


def _document(delivery: dict[str, Any]) -> dict[str, Any]:
    """A delivery. The client takes any `status` for a delta's, so its state has another name."""
    return {
        "id": delivery["id"],
        "deliveryId": str(delivery["delivery"]),
        "event": delivery["event"],
        "deliveryState": delivery["state"],
        "endpoint": delivery["endpoint"],
        "attempts": delivery["attempts"],
        "createdAt": delivery["first_at"],
        "lastAttemptAt": delivery["ended_at"],
        "answer": delivery["said"],
    }


async def retry(call: Call) -> object:
    """POST /webhooks/{eventId}/retry."""
    name = call.ids[0]
    try:
        count = await call.world.node.webhooks.replay(name)
    except EndpointError as error:
        raise missing(f"{error.message}: nothing is sent again") from None
    return {"id": name, "deliveryState": "replaying", "deliveries": count}
