"""A standby's store is its primary's, whatever was committed, however it was cut and resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import builders
import homes
import pytest
import standbys
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.node.books import Books
from tallystick.node.config import Config
from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import Draft
from tallystick.node.standby import applying
from tallystick.node.standby.applying import Mirrored
from tallystick.node.standby.inflow import Inflow
from tallystick.node.standby.opening import Opening
from tallystick.node.standby.promoting import check_mirrored
from tallystick.node.standby.recording import Recording
from tallystick.node.standby.serving import line_of
from tallystick.node.store import changed
from tallystick.node.store.changed import forget_changes
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.recorder import Row
from tallystick.node.upkeep import flush, tend_index
from tallystick.protocol.errors import FormatError, InputError
from tallystick.protocol.mirror import (
    Begin,
    Message,
    Part,
    Piece,
    decode_mirror,
    encode_mirror,
)


class Told:
    """A recorder that nobody waits for."""

    def __init__(self, recording: Recording) -> None:
        self.took = recording.took

    async def shared(self) -> bool:
        """At once."""
        return True


@dataclass(slots=True)
class Sent:
    """What came first on a connection."""

    whole: bool
    rows: int = 0
    files: int = 0


class Pair:
    """A primary's store, and its standby's."""

    def __init__(self, folder: Path, primary: Store, kept_bytes: int = 1 << 20) -> None:
        self.folder = folder / "standby"
        self.folder.mkdir()
        self.primary = primary
        self.ids = primary.path.parent / "ids"
        self.ids.mkdir(exist_ok=True)
        self.kept_bytes = kept_bytes
        self.record()
        self.store = Store(self.folder / "store")
        self.mirrored = Mirrored(self.store, self.folder / "ids")

    @contextmanager
    def connection(self) -> Iterator[Inflow]:
        """An inflow into the standby, whose rest is applied at the end."""
        inflow = Inflow(self.mirrored, self.folder)
        try:
            yield inflow
        finally:
            inflow.finish()

    def begin(self, inflow: Inflow, *, without: bool = False) -> Opening:
        """What the primary says first."""
        here = self.mirrored
        self.recording.begin()
        since = here.number if here.line == self.line else None
        opening = Opening(self.primary, self.ids, since, without=without)
        inflow.begin(Begin(self.line, opening.number, opening.whole, waits=False))
        return opening

    def send_commits(self, inflow: Inflow, number: int) -> int:
        """Send what was committed after a number; the newest number."""
        commits = self.recording.after(number)
        assert commits is not None
        for commit in commits:
            send(inflow, commit.messages())
            number = commit.number
        self.recording.sent(number)
        return number

    def follow(self, *, without: bool = False) -> Sent:
        """A connection on which everything arrives; what came first."""
        with self.connection() as inflow:
            opening = self.begin(inflow, without=without)
            sent = Sent(opening.whole)
            for files in opening.files():
                for name in inflow.lacking(files):
                    sent.files += 1
                    send(inflow, opening.pieces(name))
            for part in opening.parts():
                sent.rows += len(part.rows)
                send(inflow, [part])
            opening.close()
            trio.run(inflow.apply_next)
            self.send_commits(inflow, opening.number)
        self.recording.end()
        return sent

    def start_again(self) -> None:
        """Both processes are killed, and started."""
        self.primary.close()
        self.primary = Store(self.primary.path)
        self.record()
        self.mirrored = Mirrored(self.store, self.mirrored.folder)

    def record(self) -> None:
        """Record what the primary commits."""
        self.line = line_of(self.primary)
        self.recording = Recording(self.primary, self.ids, self.kept_bytes)
        self.primary.recorder = Told(self.recording)

    def close(self) -> None:
        """Close both."""
        self.store.close()
        self.primary.close()


def send(inflow: Inflow, messages: Iterable[Message]) -> None:
    """Hand messages over as they travel."""
    for message in messages:
        match decode_mirror(encode_mirror(message)):
            case Part() as part:
                inflow.part(part)
            case Piece() as piece:
                inflow.piece(piece)
            case other:
                raise AssertionError(other)


def here(pair: Pair) -> dict[str, object]:
    """What the standby holds."""
    return standbys.content_of(pair.store, pair.mirrored.folder)


def same(pair: Pair) -> bool:
    """Whether both hold the same."""
    return bool(standbys.content_of(pair.primary, pair.ids) == here(pair))


keys = st.integers(0, 30).map(lambda n: n.to_bytes(4, "big"))
tables = st.sampled_from(("batches", "heads", "feed", "peers"))
rows = st.tuples(tables, keys, st.binary() | st.none())
steps = st.one_of(
    st.lists(rows, min_size=1, max_size=8),  # a commit
    st.sampled_from(("follow", "cut", "restart", "forget")),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, max_size=14), data=st.data())
def test_any_history_arrives(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[Row] | str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    pair = Pair(folder, Store(folder / "store"), kept_bytes=500)
    for step in history:
        match step:
            case "follow":
                pair.follow()
                assert same(pair)
            case "cut":  # the connection ends in the middle of something
                before = here(pair)
                with pair.connection() as inflow:
                    opening = pair.begin(inflow)
                    parts = list(opening.parts())
                    send(inflow, parts[: data.draw(st.integers(0, len(parts) - 1))])
                    opening.close()
                assert here(pair) == before
            case "restart":
                pair.start_again()
            case "forget":  # what changed is not known any more
                pair.primary.commit_now(forget_changes)
            case list():
                pair.primary.commit_now(partial(_write, made=step))
    pair.follow()
    assert same(pair)
    pair.close()


def _write(txn: Txn, made: list[Row]) -> None:
    for table, key, value in made:
        if value is None:
            txn.delete(table, key)
        else:
            txn.put(table, key, value)


def test_commits_that_come_while_the_whole_is_under_way_follow_it(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Store(tmp_path / "store"))
    pair.primary.commit_now(lambda txn: txn.put("heads", b"a", b"1"))
    with pair.connection() as inflow:
        whole = pair.begin(inflow)
        assert whole.whole
        pair.primary.commit_now(lambda txn: txn.put("heads", b"a", b"2"))
        number = pair.send_commits(inflow, whole.number)
        send(inflow, whole.parts())
        whole.close()
        pair.primary.commit_now(lambda txn: txn.put("heads", b"b", b"3"))
        trio.run(inflow.apply_next)  # the whole
        with pair.store.read() as txn:
            assert txn.get("heads", b"a") == b"1"
        pair.send_commits(inflow, number)
        trio.run(inflow.apply_next)  # what came meanwhile
    assert same(pair)
    pair.close()


def test_a_home_with_its_index_is_read_at_the_standby(tmp_path: Path) -> None:
    async def work() -> None:
        async with homes.founded(tmp_path) as (acme, _):
            pair = Pair(acme.home.path, acme.books.store)
            log = acme.channel.own
            for number in range(1, 7):  # from 4 on the files of before are merged away
                at = builders.DECEMBER_US + number
                drafts = [Draft(f"e{number}-{n}", "tokens", "s", n, at) for n in range(40)]
                await acme.channel.emit(drafts)
                await flush([log])
                await tend_index(log)
                if number != 2:
                    sent = await trio.to_thread.run_sync(pair.follow)
                    assert sent.whole == (number == 1)
                    assert sent.files == (2 if number == 3 else 1)  # and none that is there
                    assert same(pair)
            assert len(list((pair.folder / "ids").iterdir())) == len(log.index.rows()) == 3
            books = Books(
                Config(), acme.books.identity, pair.store.moment(), pair.folder / "ids", lambda: 0
            )
            there = next(iter(books.channels.values()))[0].own
            assert there.durable_size == log.durable_size
            assert there.find("tokens", "e2-7") == log.find("tokens", "e2-7") is not None
            assert there.tallies() == log.tallies()
            books.close()
            pair.store.close()

    trio.run(work)


def test_a_file_of_the_index_that_is_missing_is_missing_at_the_standby(tmp_path: Path) -> None:
    async def work() -> None:
        async with homes.founded(tmp_path) as (acme, _):
            pair = Pair(acme.home.path, acme.books.store)
            log = acme.channel.own
            await acme.channel.emit([Draft("e", "tokens", "s", 1, builders.DECEMBER_US)])
            await flush([log])
            lost = next(pair.ids.iterdir())
            lost.unlink()
            with pytest.raises(FileNotFoundError):
                await trio.to_thread.run_sync(pair.follow)
            await trio.to_thread.run_sync(partial(pair.follow, without=True))
            assert same(pair)
            assert not list(pair.mirrored.folder.iterdir())
            pair.store.close()

    trio.run(work)


def begun(pair: Pair) -> Inflow:
    """An inflow on which nothing came first."""
    inflow = Inflow(pair.mirrored, pair.folder)
    inflow.begin(Begin(pair.line, pair.mirrored.number, whole=False, waits=False))
    return inflow


def test_damage_on_the_way_changes_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Store(tmp_path / "store"))
    pair.primary.commit_now(lambda txn: txn.put("heads", b"a", b"1"))
    pair.follow()
    before = here(pair)
    for bad, error in (
        (("heads", b"a", b"not sealed at all"), StoreError),
        (("nonsense", b"a", None), FormatError),
        (("meta", b"place", None), FormatError),
    ):
        for number in (0, pair.mirrored.number + 1):
            inflow = begun(pair)
            if number:
                inflow.part(Part(0, [], last=True))
            inflow.part(Part(number, [bad], last=True))
            with pytest.raises(error):
                inflow.finish()
            assert here(pair) == before
    pair.close()


def test_a_gap_is_noticed(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Store(tmp_path / "store"))
    pair.follow()
    inflow = begun(pair)
    inflow.part(Part(0, [], last=True))
    inflow.part(Part(pair.mirrored.number + 2, [], last=True))
    with pytest.raises(FormatError, match="came after commit"):
        inflow.finish()
    there = pair.mirrored.number
    for line, number in ((bytes(16), there), (pair.line, there - 1)):
        with pytest.raises(FormatError, match="is not"):
            Inflow(pair.mirrored, pair.folder).begin(Begin(line, number, whole=False, waits=False))
    pair.close()


def test_what_is_kept_for_a_standby_is_bounded(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Store(tmp_path / "store"), kept_bytes=10_000)
    pair.follow()
    pair.recording.begin()
    number = pair.mirrored.number
    for _ in range(50):
        pair.primary.commit_now(lambda txn: txn.put("heads", b"a", bytes(1000)))
    kept = pair.recording.after(pair.recording.newest - 5)
    assert kept is not None and len(kept) == 5
    assert pair.recording.after(number) is None
    assert pair.recording.after(pair.recording.newest - 10) is None
    pair.recording.sent(pair.recording.newest - 2)
    kept = pair.recording.after(pair.recording.newest - 2)
    assert kept is not None and len(kept) == 2
    pair.follow()
    assert same(pair)
    assert pair.recording.after(pair.recording.newest) == []
    pair.primary.commit_now(lambda txn: txn.put("heads", b"a", b"unkept"))
    assert pair.recording.after(pair.recording.newest - 1) is None
    pair.close()


def test_only_what_changed_is_sent_again(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Store(tmp_path / "store"))
    for number in range(100):
        pair.primary.commit_now(partial(_write, made=[("heads", bytes([1, number]), b"1")]))
    sent = pair.follow()
    assert sent.whole and sent.rows > 100
    pair.start_again()
    assert pair.follow() == Sent(whole=False)
    pair.recording.begin()
    for number in range(50):  # nobody hears of it before both are killed
        value = str(number).encode()
        pair.primary.commit_now(partial(_write, made=[("heads", b"a", value)]))
    pair.primary.commit_now(partial(_write, made=[("heads", bytes([1, 7]), None)]))
    pair.start_again()
    assert pair.follow() == Sent(whole=False, rows=2)
    assert same(pair)
    pair.close()


def test_what_changed_is_noted_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed, "KEPT_BYTES", 64 * 1024)
    monkeypatch.setattr(changed, "DROPPED_BYTES", 8 * 1024)
    pair = Pair(tmp_path, Store(tmp_path / "store"))
    pair.follow()
    for number in range(400):
        keys = [("heads", b"%d" % (number * 20 + n), b"1") for n in range(20)]
        pair.primary.commit_now(partial(_write, made=keys))
        if number == 380:
            pair.follow()
    with pair.primary.read() as txn:
        assert 32 * 1024 < txn.table_bytes("changed") < 80 * 1024
        newest = pair.primary.number
        found = changed.changed_since(txn, newest - 10, newest)
        assert found is not None and len(found["heads"]) == 200
        assert changed.changed_since(txn, newest - 380, newest) is None
    assert pair.follow() == Sent(whole=False, rows=380)
    assert same(pair)
    pair.close()


def test_a_standby_with_nothing_is_filled_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "TOGETHER_BYTES", 1000)
    pair = Pair(tmp_path, Store(tmp_path / "store"))
    made: list[Row] = [("heads", b"%04d" % n, b"1") for n in range(200)]
    pair.primary.commit_now(partial(_write, made=[*made, ("peers", b"beta", b"1")]))
    opening = Opening(pair.primary, pair.ids, None)
    rows = [row for part in opening.parts() for row in part.rows]
    opening.close()

    def cut() -> Iterator[Row]:
        yield from rows[:-60]
        raise FormatError("the end is missing")

    with pytest.raises(FormatError, match="missing"):
        pair.mirrored.apply_whole(pair.line, opening.number, cut())
    with pair.store.read() as txn:
        assert 60 < txn.entries("heads") < 200
        assert not txn.entries("peers")
        with pytest.raises(InputError, match="never had everything"):
            check_mirrored(pair.store)
    assert pair.follow().whole
    assert same(pair)
    check_mirrored(pair.store)
    pair.close()
