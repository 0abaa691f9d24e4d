"""The feed in the store: appending, dropping what is old, reading from a cursor on.

A cursor is the number of an event; the next event's is one more. A feed begins at the clock's
milliseconds, so that one that begins anew, after a restore, goes on above every cursor that anybody
was ever given. That of a standby which takes over skips to the same, and keeps what it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice

import msgspec

from tallystick.node.errors import CursorError
from tallystick.node.feed.events import Event, event_of
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    FeedRow,
    FeedState,
    FollowedRow,
    cursor_key,
    cursor_of,
    encode_row,
)

STATE = b"feed"  # in the table `meta`
FOLLOWING = ("followed", "told", "silent")  # how far the feed goes along with the rest of the store
FEED_TABLES = ("feed", "concerning", *FOLLOWING, "lanes")
PRUNED_MAX = 512  # rows dropped in one transaction
LOOKED_AT_MAX = 2000  # rows read for one page, however few of them were asked for

_decode_state = msgspec.msgpack.Decoder(FeedState).decode
_decode_followed = msgspec.msgpack.Decoder(FollowedRow).decode
_decode_row = msgspec.msgpack.Decoder(FeedRow).decode


@dataclass(frozen=True, slots=True)
class Page:
    """Some events in order, and the cursor up to which there are no others."""

    events: list[Event]
    cursor: int


def read_state(txn: Txn) -> FeedState | None:
    """How far the feed is; None if it is to begin (anew)."""
    value = txn.get("meta", STATE)
    return _decode_state(value) if value else None


def forget_feed(txn: Txn) -> None:
    """Let the feed begin anew at the next start: nothing from before is told again."""
    txn.delete("meta", STATE)


def go_on(txn: Txn, now_us: int) -> None:
    """Let the feed of a node that takes over go on: what the one before it did not tell is told,
    above every cursor that it may have given and this home has not heard of.
    """
    state = read_state(txn)
    if state is None:
        return
    at = max(now_us // 1000, state.next)
    gaps = [*state.gaps, (state.next, at)] if at > state.next else state.gaps
    txn.put("meta", STATE, encode_row(FeedState(state.first, at, gaps)))
    for key, value in list(txn.scan("followed", b"", b"\xff" * 33)):
        row = _decode_followed(value)
        txn.put("followed", key, encode_row(msgspec.structs.replace(row, doubt=1)))


def begin(txn: Txn, now_us: int) -> FeedState:
    """Begin a feed above all cursors that there ever were."""
    last = txn.floor("feed", b"\xff" * 8)
    above = cursor_of(last[0]) + 1 if last else 0
    state = FeedState(max(now_us // 1000, above), max(now_us // 1000, above))
    for table in FOLLOWING:
        for key in list(txn_keys(txn, table)):
            txn.delete(table, key)
    txn.put("meta", STATE, encode_row(state))
    return state


def txn_keys(txn: Txn, table: str, prefix: bytes = b"") -> list[bytes]:
    """The keys of a table that begin so."""
    return [key for key, _ in txn.scan(table, prefix, prefix + b"\xff" * 64)]


def append(txn: Txn, state: FeedState, rows: Sequence[FeedRow]) -> FeedState:
    """Add events; the state after them."""
    cursor = state.next
    for row in rows:
        txn.put("feed", cursor_key(cursor), encode_row(row))
        for channel in {row.channel, *row.also}:
            txn.put("concerning", channel + cursor_key(cursor), b"")
        cursor += 1
    after = FeedState(state.first, cursor, state.gaps)
    txn.put("meta", STATE, encode_row(after))
    return after


def prune(txn: Txn, state: FeedState, before_us: int, keep: int) -> FeedState:
    """Drop what is too old or too much, some of it at a time; the state after that."""
    first, over = state.first, state.count - keep
    for key, value in list(islice(txn.scan("feed", b"", cursor_key(state.next)), PRUNED_MAX)):
        row, cursor = _decode_row(value), cursor_of(key)
        if cursor >= first:
            if over <= 0 and row.at_us >= before_us:
                break
            over -= 1
        txn.delete("feed", key)
        for channel in (row.channel, *row.also):
            txn.delete("concerning", channel + key)
        first = max(first, cursor + 1)
    gaps = [gap for gap in state.gaps if gap[1] > first]
    after = FeedState(first, state.next, gaps)
    if after != state:
        txn.put("meta", STATE, encode_row(after))
    return after


def read_rows(txn: Txn, after: int, channel: bytes | None) -> Iterator[tuple[int, FeedRow]]:
    """The rows behind a cursor; with a channel those that concern it (`NO_CHANNEL`: none)."""
    start = cursor_key(after + 1)
    if channel is None:
        for key, value in txn.scan("feed", start, b"\xff" * 9):
            yield cursor_of(key), _decode_row(value)
        return
    for key, _ in txn.scan("concerning", channel + start, channel + b"\xff" * 9):
        found = txn.get("feed", key[-8:])
        if found is not None:
            yield cursor_of(key), _decode_row(found)


def read_event(txn: Txn, cursor: int) -> Event | None:
    """The event of a cursor, if it is kept."""
    value = txn.get("feed", cursor_key(cursor))
    return event_of(cursor, _decode_row(value)) if value else None


class FeedReader:
    """The feed of a store, for reading. Whoever holds it may use it from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def last(self) -> int:
        """The cursor of the newest event; of the one before the feed if there is none."""
        with self._store.read() as txn:
            state = read_state(txn)
        return state.next - 1 if state else 0

    def after(
        self,
        cursor: int | None,
        limit: int,
        channel: bytes | None = None,
        kinds: Set[str] | None = None,
    ) -> Page:
        """The next events behind a cursor (None: from the oldest on), `limit` at most.

        `CursorError` if events behind that cursor were dropped, or it is not of this feed.
        """
        with self._store.read() as txn:
            state = read_state(txn) or FeedState(1, 1)
            after = state.first - 1 if cursor is None else cursor
            check_cursor(after, state)
            events: list[Event] = []
            upto = state.next - 1
            for looked_at, (at, row) in enumerate(read_rows(txn, after, channel)):
                if len(events) == limit or looked_at == LOOKED_AT_MAX:
                    upto = at - 1
                    break
                if kinds is None or row.kind in kinds:
                    events.append(event_of(at, row))
        return Page(events, upto)

    def newest(self, limit: int, channel: bytes | None = None) -> Page:
        """The last events, `limit` at most, the oldest of them first."""
        with self._store.read() as txn:
            state = read_state(txn) or FeedState(1, 1)
            prefix = channel or b""
            table = "concerning" if channel else "feed"
            keys: list[bytes] = []
            at = state.next
            while len(keys) < limit and at > state.first:
                found = txn.floor(table, prefix + cursor_key(at - 1))
                if found is None or not found[0].startswith(prefix):
                    break
                at = cursor_of(found[0])
                if at >= state.first:
                    keys.append(found[0][-8:])
            found_events = [read_event(txn, cursor_of(key)) for key in reversed(keys)]
        return Page([event for event in found_events if event], state.next - 1)


def check_cursor(cursor: int, state: FeedState) -> None:
    """Refuse a cursor behind which events are gone, or that nobody was given."""
    if cursor < state.first - 1:
        raise CursorError(
            f"the events behind cursor {cursor} are not kept any more; the oldest is {state.first}",
            f"Go on from cursor {state.first - 1}, and look up by other means what happened before",
        )
    if cursor >= state.next:
        raise CursorError(
            f"cursor {cursor} is not of this feed, whose newest event is {state.next - 1}",
            "Was it another home's? Begin without a cursor",
        )
