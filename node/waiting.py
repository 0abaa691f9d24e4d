"""Waiting for whichever comes first: one of several events, or the end of a time."""

from __future__ import annotations

from collections.abc import Sequence

import trio


async def any_of(events: Sequence[trio.Event], seconds: float) -> None:
    """Return when one of the events is set, or the time is over."""
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:

            async def one(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            for event in events:
                nursery.start_soon(one, event)
