"""The feed as server-sent events: an endless stream of frames, resumable from any cursor.

Nothing is buffered for a reader: each frame is read from the store when the last ones were taken.
A reader that is slow only gets behind, and one that fell behind what is kept is told so and let go.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Set

import msgspec
import trio

from tallystick.node.errors import CursorError
from tallystick.node.feed.events import Event
from tallystick.node.feed.feed import Feed

HEARTBEAT_SECONDS = 15.0
PAGE_EVENTS = 100
RETRY_MS = 2000

_encode = msgspec.json.Encoder().encode


async def sse(
    feed: Feed,
    after: int | None,
    channel: bytes | None = None,
    kinds: Set[str] | None = None,
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    may: Callable[[], bool] = lambda: True,
) -> AsyncGenerator[bytes, None]:
    """Frames of `text/event-stream` from behind a cursor on (None: only what comes from now on).

    The cursor must have been checked (`Feed.after`), so that who asks in vain gets an error and no
    stream. The stream ends when its reader `may` not read any more.
    """
    cursor = feed.last if after is None else after
    yield b"retry: %d\n\n" % RETRY_MS
    while may():
        try:
            page = feed.after(cursor, PAGE_EVENTS, channel, kinds)
        except CursorError as error:
            yield _frame(None, "feed.gap", {"said": error.message, "next": error.advice})
            return
        for event in page.events:
            yield frame(event)
        if page.cursor > cursor and not page.events:
            # So that a reader of rare events resumes from here, and does not fall too far behind.
            yield b"id: %d\n: \n\n" % page.cursor
        cursor = page.cursor
        if cursor < feed.last:
            await trio.lowlevel.checkpoint()
            continue
        with trio.move_on_after(heartbeat_seconds) as quiet:
            await feed.wait_beyond(cursor)
        if quiet.cancelled_caught:
            yield b": still here\n\n"


def frame(event: Event) -> bytes:
    """An event as a frame."""
    return _frame(event.cursor, event.kind, event.document())


def _frame(cursor: int | None, kind: str, document: object) -> bytes:
    id_line = b"" if cursor is None else b"id: %d\n" % cursor
    # JSON has no line break in it, so one line of data is enough.
    return id_line + b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode(document))
