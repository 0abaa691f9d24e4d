"""Feeds of homes that are open in this process, and waiting for what they tell."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing
from documented import check_data
from homes import Side

from tallystick.node.feed.events import Event
from tallystick.node.feed.feed import Feed

WAIT_SECONDS = 60

_marks = itertools.count()


@asynccontextmanager
async def fed(*sides: Side) -> AsyncIterator[list[Feed]]:
    """A running feed for each side."""
    feeds = [Feed(side.books, lambda channel: True) for side in sides]
    async with trio.open_nursery() as nursery:
        for feed in feeds:
            nursery.start_soon(feed.run)
        yield feeds
        nursery.cancel_scope.cancel()


def all_events(feed: Feed) -> list[Event]:
    """Everything that it holds."""
    found: list[Event] = []
    cursor: int | None = None
    while True:
        page = feed.after(cursor, 100)
        found += page.events
        for event in page.events:
            check_data(event.kind, event.data)
        if page.cursor >= feed.last:
            return found
        cursor = page.cursor


async def told(feed: Feed) -> list[Event]:
    """Everything, once it has looked at all that it was pointed at."""
    await trio.testing.wait_all_tasks_blocked(0.01)  # what is durable is pointed at a moment later
    mark = f"mark-{next(_marks)}"
    feed.tell_of_peer("peer.back", mark, {"since": "now"}, silent=False)
    # It can be read a moment before the feed counts it and wakes who waits.
    await until(lambda: any(e.peer == mark and e.cursor <= feed.last for e in all_events(feed)))
    return [event for event in all_events(feed) if not event.peer.startswith("mark-")]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    with trio.fail_after(WAIT_SECONDS):
        while not condition():
            await trio.sleep(0.01)
