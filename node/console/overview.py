"""The first page: each channel in words, and what comes next in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from tallystick.node import worklist
from tallystick.node.books import clock_us
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.console.visits import Page, Visit
from tallystick.node.console.words import standing_of
from tallystick.protocol.periods import Period


async def cards(visit: Visit, status: dict[str, Any]) -> list[dict[str, Any]]:
    """What the overview shows of each channel, those that need somebody first."""
    books = visit.world.node.books
    found = []
    for document in status["channels"]:
        key = bytes.fromhex(document["channel"])
        channel, _ = books.channels[key]
        listed = worklist.worklist([channel], settled=False)
        periods = await visit.ask_again(key, "open", open_periods)
        standing = standing_of(document, listed["disputes"], status["name"], document["difference"])
        found.append(
            {
                "document": document,
                "standing": standing,
                "deadline": _deadline(listed, status["name"]),
                "due": [one for one in periods if one["state"] == "due"],
            }
        )
    order = ("halted", "diverged", "disputed", "lagging", "agreement")
    return sorted(found, key=lambda card: order.index(card["standing"].kind))


def open_periods(channel: Channel, closer: Closer) -> list[dict[str, Any]]:
    """The periods that have usage and are not closed, the oldest first: whether they run, wait for
    their grace time, or are due to be closed.
    """
    calendar = channel.own.folder.calendar
    grace_us = channel.terms.grace_seconds * 1_000_000
    found = []
    for label in dict.fromkeys(line.period for line in closer.open_lines()):
        period = calendar.parse(label)
        found.append(
            {
                "period": label,
                "state": state_of(period, grace_us),
                "start_us": period.start_us,
                "end_us": period.end_us,
                "due_us": period.end_us + grace_us,
            }
        )
    return sorted(found, key=lambda one: one["start_us"])


def state_of(period: Period, grace_us: int) -> str:
    """How an open period stands by the clock here: `running`, in its `grace` time, or `due`."""
    now_us = clock_us()
    if now_us < period.end_us:
        return "running"
    return "grace" if now_us < period.end_us + grace_us else "due"


def _deadline(listed: dict[str, Any], me: str) -> dict[str, Any] | None:
    """The next deadline of a channel, of disputes or of closed periods."""
    dated = [
        {"what": "disputes", "name": f"dispute {one['dispute'][:8]}", **one}
        for one in listed["disputes"]
    ]
    dated += [
        {"what": "checkpoints", "name": f"the checkpoint of {one['period']}", **one}
        for one in listed["checkpoints"]
    ]
    dated = [one for one in dated if one["until_at"] is not None]
    if not dated:
        return None
    found = min(dated, key=lambda one: one["until_at"])
    found["ours"] = found["waits_for"] == me
    found["iso"] = datetime.fromtimestamp(found["until_at"], UTC).isoformat()
    return found


async def _show(visit: Visit) -> Response:
    status = await visit.status()
    return visit.render_live(
        "overview.html", "_overview.html", status=status, cards=await cards(visit, status)
    )


PAGES = (Page("GET", "/", "read", _show),)
