"""Of a home with many channels, who reads about one opens that one."""

from __future__ import annotations

from typing import Any

import pytest
import wide

from tallystick.node.books import Books
from tallystick.node.errors import StoreError
from tallystick.node.home import Home
from tallystick.node.openings import Openings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with four channels."""
    return wide.make(tmp_path_factory.mktemp("wide"), 4)


def _opened(books: Books) -> list[str]:
    assert isinstance(books.channels, Openings)
    return [channel.peer_keys.name for channel, _ in books.channels.opened()]


def test_a_channel_is_opened_when_it_is_looked_at(home: Home) -> None:
    every = Books.open(home, read_only=True)
    ids = list(every.channels)
    every.close()
    books = Books.open(home, read_only=True, lazy=True)
    try:
        assert len(books.channels) == 4
        assert list(books.channels) == ids
        assert _opened(books) == []
        name = "consumer-00002.example"
        key = books.select(name)
        assert key in books.channels
        assert books.channels[key] is books.channels[key]
        assert _opened(books) == [name]
        assert bytes(32) not in books.channels
        assert books.channels.get(bytes(32)) is None
        assert len({channel.id for channel, _ in books.channels.values()}) == 4
        assert len(_opened(books)) == 4
    finally:
        books.close()


def test_an_index_that_was_merged_away_is_looked_for_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books.open(home, read_only=True, lazy=True)
    opening, failures, stores = books._open_channel, [1, 1], []

    def fails_at_first(store: Any, row: Any) -> Any:
        stores.append(store)
        if failures:
            failures.pop()
            raise StoreError("an index file is gone", "")
        return opening(store, row)

    monkeypatch.setattr(books, "_open_channel", fails_at_first)
    try:
        first, second, *_ = books.channels
        assert books.channels[first][0].id == first
        assert len({id(store) for store in stores}) == 3
        # What was read of an earlier moment would not fit what is read now.
        failures += [1, 1]
        with pytest.raises(StoreError, match="gone"):
            books.channels[second]
    finally:
        books.close()
