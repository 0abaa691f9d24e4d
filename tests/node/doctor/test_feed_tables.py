"""The doctor on the feed's tables: damage is named, and mended by a feed that begins anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import builders
import homes
import msgspec
import pytest
import trio

from tallystick.node.backup import make_backup
from tallystick.node.books import Books
from tallystick.node.config import Config
from tallystick.node.doctor.examination import AnyStore, examine
from tallystick.node.doctor.mending import mend
from tallystick.node.feed.feed import Feed
from tallystick.node.home import Home, open_home
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    DeliveryRow,
    FeedState,
    LaneRow,
    cursor_key,
    encode_row,
)
from tallystick.node.webhooks.endpoints import FILE, add_endpoint

EVENTS = 6
Spoil = Callable[[Txn], None]


@pytest.fixture(scope="module")
def told_home(busy: tuple[Home, Home], tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with events, a lane and a dead delivery; not to be changed."""
    path = tmp_path_factory.mktemp("told") / "home"
    shutil.copytree(busy[0].path, path)
    _forget_place(path)
    trio.run(_tell, open_home(path))
    return open_home(path)


@pytest.fixture
def home(told_home: Home, tmp_path: Path) -> Home:
    """A copy of it."""
    shutil.copytree(told_home.path, tmp_path / "home")
    _forget_place(tmp_path / "home")
    return open_home(tmp_path / "home")


def _forget_place(path: Path) -> None:
    """Let a copy count as the home itself, which was not restored."""
    store = AnyStore(path / "store")
    store.commit_now(lambda txn: txn.put("meta", b"place", store.place()))
    store.close()


def _open(home: Home) -> Books:
    identity = builders.identity(homes.NAMES[0])
    store, ids = Store(home.store_path), home.path / "ids"
    return Books(Config(), identity, store, ids, lambda: homes.NOW_US)


async def _tell(home: Home) -> None:
    books = _open(home)
    feed = Feed(books, lambda channel: True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(books.store.run)
        nursery.start_soon(feed.run)
        for n in range(EVENTS):
            since = {"since": str(n)}
            feed.tell_of_peer("peer.silent", homes.NAMES[1], since, silent=True)
        await feed.wait_beyond(feed.last + EVENTS - 1)
        (channel,) = books.channels
        row = DeliveryRow("whk_1", "evt_1", "peer.silent", b"", 1, b"{}", 1, 2, 3, "500")

        def job(txn: Txn) -> None:
            txn.put("lanes", bytes(8) + channel, encode_row(LaneRow(1)))
            txn.put("deliveries", b"d" + cursor_key(1), encode_row(row))
            txn.put("told", channel + b"d" + bytes(9), b"")

        await books.store.commit(job)
        nursery.cancel_scope.cancel()
    books.close()


def _failing(home: Home) -> dict[str, str]:
    store = AnyStore(home.store_path, read_only=True)
    try:
        checks = examine(store, home.path / "ids", home.name).checks
    finally:
        store.close()
    return {check.name: check.detail for check in checks if check.ok is False}


def _first(txn: Txn, table: str) -> bytes:
    return next(iter(txn.keys(table)))


def _flip(table: str) -> Spoil:
    def spoil(txn: Txn) -> None:
        key = _first(txn, table)
        stored = bytearray(txn.raw(table, key))
        stored[len(stored) // 2] ^= 0x10
        txn.put_raw(table, key, bytes(stored))

    return spoil


def _garble(table: str) -> Spoil:
    return lambda txn: txn.put(table, _first(txn, table), b"\xc1")


def _lose_event(txn: Txn) -> None:
    txn.delete("feed", _first(txn, "feed"))


def _lose_concern(txn: Txn) -> None:
    txn.delete("concerning", _first(txn, "concerning"))


def _miscount(txn: Txn) -> None:
    state = msgspec.msgpack.decode(txn.get("meta", b"feed") or b"", type=FeedState)
    txn.put("meta", b"feed", encode_row(FeedState(state.first, state.next + 1)))


SPOILS = {
    **{f"flip {table}": _flip(table) for table in ("feed", "followed", "silent", "lanes",
                                                  "deliveries", "told", "concerning")},
    **{f"garble {table}": _garble(table) for table in ("feed", "followed", "lanes", "deliveries")},
    "lose event": _lose_event,
    "lose concern": _lose_concern,
    "miscount": _miscount,
    "garble state": lambda txn: txn.put("meta", b"feed", b"\xc1"),
}  # fmt: skip


def test_a_sound_feed_passes(home: Home) -> None:
    assert _failing(home) == {}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_damage_is_named_and_mended_and_tells_nothing_old(home: Home, spoil: Spoil) -> None:
    store = AnyStore(home.store_path)
    with store.read() as txn:
        before = msgspec.msgpack.decode(txn.get("meta", b"feed") or b"", type=FeedState)
    store.commit_now(spoil)
    store.close()
    assert set(_failing(home)) & {"sums", "feed"}
    mend(home.store_path, home.path / "ids", home.name, home.path / "damaged")
    assert _failing(home) == {}
    books = _open(home)
    try:
        feed = Feed(books, lambda channel: True)
        assert feed.last >= before.next - 1
        assert [e.kind for e in feed.after(None, 9).events] in ([], ["peer.silent"] * EVENTS)
        (channel,) = books.channels
        assert feed._follower.look(channel).rows == []
    finally:
        books.close()


def test_a_backup_without_the_seed_leaves_the_secrets_of_webhooks_out(
    home: Home, tmp_path: Path
) -> None:
    add_endpoint(home.path, "https://billing.example/", [], "", 0, 0)
    for with_seed in (True, False):
        target = tmp_path / f"backup-{with_seed}"
        make_backup(home, target, with_seed=with_seed)
        assert (target / FILE).exists() == with_seed
