"""The feed in the store: cursors, pages, what is dropped, and what is said of old cursors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tallystick.node.errors import CursorError
from tallystick.node.feed.events import NO_CHANNEL, make_row
from tallystick.node.feed.rows import FeedReader, append, begin, forget_feed, prune, read_state
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import FeedRow, FeedState

A, B = b"a" * 32, b"b" * 32
NOW_US = 1_800_000_000_000_000
FIRST = NOW_US // 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    made.commit_now(lambda txn: _no_value(begin(txn, NOW_US)))
    yield made
    made.close()


def _no_value(value: object) -> None:
    pass


def _row(n: int, channel: bytes = A, also: tuple[bytes, ...] = ()) -> FeedRow:
    kind = "channel.opened" if channel != NO_CHANNEL else "peer.back"
    row = make_row(kind, channel, "p", {"n": n, "since": "then"}, NOW_US + n, once=True)
    row.also = list(also)
    return row


def _state(store: Store) -> FeedState:
    with store.read() as txn:
        state = read_state(txn)
    assert state is not None
    return state


def _add(store: Store, *rows: FeedRow) -> None:
    state = _state(store)
    store.commit_now(lambda txn: _no_value(append(txn, state, rows)))


def _prune(store: Store, before_us: int, keep: int) -> None:
    state = _state(store)
    store.commit_now(lambda txn: _no_value(prune(txn, state, before_us, keep)))


def _numbers(reader: FeedReader, cursor: int | None, channel: bytes | None = None) -> list[int]:
    """What pages of random sizes give, from a cursor to the end."""
    dice, found = Random(cursor), []
    while True:
        page = reader.after(cursor, dice.randint(1, 4), channel)
        found += [event.data["n"] for event in page.events]
        if page.cursor == reader.last:
            return found
        cursor = page.cursor


def test_events_come_in_order_once_and_by_channel(store: Store) -> None:
    reader = FeedReader(store)
    assert reader.after(None, 5).events == []
    rows = [_row(n, A if n % 3 else B) for n in range(20)]
    _add(store, *rows[:7])
    _add(store, *rows[7:], _row(20, NO_CHANNEL, (B,)))
    assert reader.last == FIRST + 20
    assert _numbers(reader, None) == list(range(21))
    assert _numbers(reader, FIRST + 4) == list(range(5, 21))
    assert _numbers(reader, None, A) == [n for n in range(20) if n % 3]
    assert _numbers(reader, None, B) == [0, 3, 6, 9, 12, 15, 18, 20]
    assert _numbers(reader, reader.last) == []
    page = reader.newest(3, B)
    assert [event.data["n"] for event in page.events] == [15, 18, 20]
    assert [event.data["n"] for event in reader.newest(99).events] == list(range(21))
    assert len({event.id for event in reader.newest(99).events}) == 21


def test_kinds_are_chosen_and_the_cursor_passes_the_others(store: Store) -> None:
    _add(store, *(_row(n, NO_CHANNEL if n == 5 else A) for n in range(9)))
    page = FeedReader(store).after(None, 5, kinds={"peer.back"})
    assert [event.data["n"] for event in page.events] == [5]
    assert page.cursor == FIRST + 8


def test_what_is_old_or_too_much_goes_and_its_cursors_are_told_so(store: Store) -> None:
    reader = FeedReader(store)
    _add(store, *(_row(n, B if n == 3 else A, (A,) if n == 3 else ()) for n in range(10)))
    _prune(store, NOW_US + 4, 1000)
    assert _numbers(reader, None) == [4, 5, 6, 7, 8, 9]
    assert _numbers(reader, FIRST + 3) == [4, 5, 6, 7, 8, 9]
    assert _numbers(reader, None, B) == []
    with pytest.raises(CursorError, match=f"behind cursor {FIRST + 2} are not kept"):
        reader.after(FIRST + 2, 5)
    _prune(store, NOW_US, 2)
    assert _numbers(reader, None) == [8, 9]
    _prune(store, NOW_US + 99, 2)
    assert _numbers(reader, None) == []
    assert reader.after(FIRST + 9, 5).events == []
    _add(store, _row(10))
    assert _numbers(reader, FIRST + 9) == [10]
    with store.read() as txn:
        assert txn.entries("feed") == txn.entries("concerning") == 1


def test_a_cursor_that_nobody_was_given_is_refused(store: Store) -> None:
    _add(store, _row(0))
    with pytest.raises(CursorError, match="not of this feed"):
        FeedReader(store).after(FIRST + 1, 5)


def test_a_feed_that_begins_anew_goes_on_above_every_cursor_there_was(store: Store) -> None:
    _add(store, *(_row(n) for n in range(5)))
    for now_us in (NOW_US + 60_000_000, NOW_US - 10**12):  # also with a clock that was set back

        def anew(txn: Txn, now_us: int = now_us) -> None:
            forget_feed(txn)
            begin(txn, now_us)

        last = FeedReader(store).last
        store.commit_now(anew)
        reader = FeedReader(store)
        assert reader.last >= last
        assert reader.after(None, 9).events == []
        with pytest.raises(CursorError, match="not kept"):
            reader.after(last - 1, 5)
        _add(store, _row(7))
        assert _numbers(reader, None) == [7]
        _prune(store, 0, 100)
        assert _numbers(reader, None) == [7]
        with store.read() as txn:
            assert txn.entries("feed") == 1
