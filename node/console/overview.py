"""The first page: each channel in words, and what comes next in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from tallystick.node.books import clock_us
from tallystick.node.channel import Channel
from tallystick.node.console.visits import Page, Visit
from tallystick.node.console.words import standing_of
from tallystick.protocol.periods import Period


async def _cards(visit: Visit, status: dict[str, Any]) -> list[dict[str, Any]]:
    """What the overview shows of each channel, those that need somebody first."""
    found = []
    for document in status["channels"]:
        key = bytes.fromhex(document["channel"])
        listed = await visit.waits(key)
        periods = await visit.ask_again(
            key, "open", lambda c, closer: open_periods(c, {o.period for o in closer.open_lines()})
        )
        standing = standing_of(document, listed["disputes"], status["name"])
        found.append(
            {
                "document": document,
                "standing": standing,
                "deadline": _deadline(listed),
                "due": [one for one in periods if one["state"] == "due"],
            }
        )
    order = ("halted", "diverged", "disputed", "lagging", "agreement")
    return sorted(found, key=lambda card: order.index(card["standing"].kind))


def open_periods(channel: Channel, labels: Iterable[str]) -> list[dict[str, Any]]:
    """The periods of open lines, the oldest first: whether they run, wait for their grace time, or
    are due to be closed.
    """
    calendar = channel.own.folder.calendar
    grace_us = channel.terms.grace_seconds * 1_000_000
    found = []
    for label in labels:
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


def _deadline(listed: dict[str, Any]) -> dict[str, Any] | None:
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
    return min(dated, key=lambda one: one["until_at"], default=None)


async def _show(visit: Visit) -> Response:
    status = await visit.status()
    cards = await _cards(visit, status)
    return await visit.render_live("overview.html", status=status, cards=cards)


PAGES = (Page("GET", "/", "read", _show),)
