"""A channel that lives on although its oldest records are in segments alone."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import homes
import pytest
import sealed
import trio

from tallystick.node.backup import make_backup, restore_backup
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.doctor.child import examine_apart, mend_apart
from tallystick.node.errors import ArchiveError, StoreError
from tallystick.node.home import Home, open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.segments import GROUP, SEGMENT
from tallystick.node.segments.keeper import Keeper
from tallystick.node.segments.reading import Segments, have_at_hand
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    COVERED_NOTHING,
    DerivedRow,
    encode_row,
    index_key,
    log_key,
)
from tallystick.node.upkeep import tend
from tallystick.protocol.errors import PeerBreach
from tallystick.protocol.messages import Append
from tallystick.protocol.records import Correction, Delta, batch_bytes, encode_record
from tallystick.protocol.statement import encode_line


@asynccontextmanager
async def living(home: Home) -> AsyncIterator[tuple[Books, Channel, Closer]]:
    """The books of a home with its store and its channel at work."""
    books = Books.open(home, read_only=False)
    [(channel, closer)] = books.channels.values()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(books.store.run)
            channel.errands.start(nursery)
            yield books, channel, closer
            nursery.cancel_scope.cancel()
    finally:
        books.close()


def dropped(home: Home, folder: Path) -> Home:
    """A copy whose old records are in segments alone."""
    copy = sealed.copied(home, folder, f"{folder}/archive")
    assert sealed.seal(copy, drop=True)["faults"] == []
    return copy


def segments_of(home: Home) -> list[Path]:
    """The files of the segments of such a copy."""
    return sorted((home.path.parent / "archive").rglob("*.parquet"))


async def _live_on(home: Home) -> dict[str, Any]:
    """Emit what is there and what is not, correct what is old; what came of it."""
    async with living(home) as (_, channel, closer):
        size = channel.own.durable_size
        again = [sealed.draft(0, number) for number in range(0, 60_000, 999)]
        result = await channel.emit([*again, Draft("new", "tokens", "s1", 5, 7)])
        other = await channel.emit([Draft("m0-3", "tokens", "s1", 5, 7)])
        for number, quantity in ((300, 1), (301, None), (302, 10**6), (305, None)):
            record = Correction(
                f"m0-{number}",
                sealed.METERS[number % 3],
                quantity,
                "wrong",
                channel.now_recorded_at(),
            )
            await channel.append_own(record)
        assert result.problems == []
        assert result.indexes[-1] == size
        return {
            "indexes": result.indexes,
            "repeated": result.repeated,
            "conflict": other.problems,
            "lines": [encode_line(line) for line in closer.open_lines()],
            "effective": channel.own.effective("calls", "m0-301"),
            "earlier": channel.own.tallies_at(size),
        }


async def test_what_is_old_is_known_and_corrected_as_before(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    found = []
    for name in ("whole", "dropped"):
        home = sealed.copied(long_homes[0], tmp_path / name, f"{tmp_path}/{name}/archive")
        if name == "dropped":
            sealed.seal(home, drop=True)
        found.append(await _live_on(home))
    assert found[0] == found[1]
    assert len(found[0]["repeated"]) == 61
    assert found[0]["conflict"][0][1] == "conflict"


async def test_who_needs_a_segment_that_is_gone_is_told_and_nobody_else(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    one, _ = segments_of(home)
    one.unlink()
    async with living(home) as (_, channel, _):
        told: list[str] = []

        async def repeat() -> None:
            with pytest.raises(ArchiveError) as caught:
                await channel.emit([sealed.draft(0, 5), Draft("beside", "tokens", "s", 1, 1)])
            told.append(caught.value.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(repeat)
            result = await channel.emit([Draft("other", "tokens", "s1", 5, 7)])
        assert told == [f"{one} is missing"]
        assert result.problems == []
        assert channel.own.find("tokens", "beside") is None
        record = Correction("m0-300", "tokens", 1, "wrong", channel.now_recorded_at())
        with pytest.raises(ArchiveError, match="is missing"):
            await channel.append_own(record)
        highest = Correction("m1-66002", "peak", 1, "wrong", channel.now_recorded_at())
        with pytest.raises(ArchiveError, match="is missing"):
            await channel.append_own(highest)  # the rest of its line is in the segment
        later = Correction("m1-66000", "tokens", 1, "wrong", channel.now_recorded_at())
        assert await channel.append_own(later) == channel.own.durable_size - 1


async def test_a_start_does_not_need_what_a_correction_needed(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    async with living(home) as (_, channel, closer):
        record = Correction("m0-300", "tokens", 1, "wrong", channel.now_recorded_at())
        await channel.append_own(record)
        await tend(channel.own)
        assert channel.own.covered == channel.own.durable_size
        lines = closer.open_lines()
    shutil.rmtree(tmp_path / "archive")
    with sealed.opened(home) as books:
        [(_, again)] = books.channels.values()
        assert again.open_lines() == lines


async def test_a_repeated_id_of_the_peers_is_found_in_a_segment(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[1], tmp_path)
    async with living(home) as (_, channel, _):
        at = channel.peer.state.facts.recorded_at
        delta = Delta("m0-3", "tokens", "s1", 1, 1, at, None)
        message = Append(
            channel.id, channel.peer.durable_size, batch_bytes([encode_record(delta)]), bytes(64)
        )
        with pytest.raises(PeerBreach, match="m0-3 is there twice"):
            channel.receive(message, lambda size, cosignature: None)


async def test_what_follows_from_records_is_made_anew_from_segments(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    before = sealed.answers(home)

    def forget(txn: Txn) -> None:
        for log in (0, 1):
            txn.put("derived", log_key(log), encode_row(DerivedRow(COVERED_NOTHING, [])))

    store = Store(home.store_path)
    store.commit_now(forget)
    store.close()
    with sealed.opened(home, read_only=False):
        pass
    assert sealed.answers(home) == before


async def test_the_node_seals_by_itself_once_a_period_is_closed(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = sealed.copied(long_homes[0], tmp_path, f"{tmp_path}/archive")
    with (home.path / "config.toml").open("a") as file:
        file.write("drop = true\n")
    async with living(home) as (books, channel, _):
        keeper = Keeper(books)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            emitted = 0
            while not channel.own.dropped:  # while it works, the channel goes on
                await channel.emit([Draft(f"while-{emitted}", "tokens", "s", 1, 1)])
                emitted += 1
            while channel.own.dropped < 2 * SEGMENT - max(sealed.SIZES):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert channel.own.sealed == 2 * SEGMENT
        assert channel.own.find("tokens", "while-0") is not None
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [check for check in checks if not check.ok] == []


async def test_a_group_is_fetched_once_and_then_at_hand(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    async with living(home) as (books, channel, _):
        segments = books.store.segments
        assert segments.missing(0, [5, GROUP + 5]) == {0, 1}
        await channel.emit([sealed.draft(0, 5), sealed.draft(0, GROUP + 5)])
        assert segments.missing(0, [5, GROUP + 5]) == set()
        for file in segments_of(home):
            file.unlink()
        again = await channel.emit([sealed.draft(0, 6)])
        assert again.repeated == [0]


async def test_the_loop_goes_on_while_the_archive_is_slow(
    long_homes: tuple[Home, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = dropped(long_homes[0], tmp_path)
    async with living(home) as (_, channel, _):
        asked, answered = threading.Event(), threading.Event()
        read = Segments._read

        def slow(self: Segments, *arguments: Any) -> list[bytes]:
            asked.set()
            assert answered.wait(30), "the loop waits for the archive"
            return read(self, *arguments)

        monkeypatch.setattr(Segments, "_read", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.emit, [sealed.draft(0, 5)])
            while not asked.is_set():
                await trio.sleep(0.001)
            answered.set()  # only the loop does so


async def test_no_altered_byte_of_a_segment_is_believed(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    one, _ = segments_of(home)
    with sealed.opened(home) as books, books.store.read() as txn:
        wanted = books.store.segments.parts(txn, 0, 0, SEGMENT)
        good, dice = one.read_bytes(), random.Random(7)
        refused = 0
        for _ in range(60):
            bad = bytearray(good)
            bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
            one.write_bytes(bad)
            fresh = Segments()
            fresh.location = books.archive
            for number in range(SEGMENT // GROUP):
                try:
                    found = fresh.group(txn, 0, number)
                except ArchiveError as error:
                    assert error.message.startswith(f"{one} is altered: ")
                    refused += 1
                else:
                    assert found == wanted[number * GROUP : (number + 1) * GROUP]
        assert refused > 10


async def test_a_peer_that_lost_all_gets_our_log_from_segments(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    async with living(home) as (_, channel, closer), trio.open_nursery() as nursery:
        channel.live = True
        other = homes.Side(tmp_path / "new", "beta.example")
        nursery.start_soon(other.books.store.run)
        await other.found("acme.example")
        own, peer = channel.own, other.channel.peer
        while own.durable_size > peer.state.size:
            stop = closer.next_head(own, peer.state.size)
            await have_at_hand(own, range(peer.state.size, stop, GROUP))
            batch = await channel.signed_batch(peer.state.size, stop)
            message = Append(channel.id, batch.first, batch.data, batch.signature)
            await other.channel.receive(message, lambda size, cosignature: None).wait()
        for size in (1, 4097, SEGMENT, SEGMENT + 7, own.durable_size):
            assert peer.root_at(size) == own.root_at(size)
        nursery.cancel_scope.cancel()
    other.books.close()


# Backups and mending


def test_a_restored_home_finds_its_archive(long_homes: tuple[Home, Home], tmp_path: Path) -> None:
    home = dropped(long_homes[0], tmp_path)
    before = sealed.answers(home)
    [channel] = make_backup(home, tmp_path / "backup", with_seed=True).channels
    assert channel["own"]["in_archive_alone"] > SEGMENT > channel["theirs"]["in_archive_alone"]
    restore_backup(tmp_path / "backup", tmp_path / "restored", None)
    assert sealed.answers(open_home(tmp_path / "restored")) == before
    away = tmp_path / "away"
    shutil.move(tmp_path / "archive", away)
    with pytest.raises(ArchiveError, match=r"in its archive alone: .* is missing"):
        restore_backup(tmp_path / "backup", tmp_path / "again", None)
    assert not (tmp_path / "again").exists()


def test_nothing_is_mended_while_a_segment_is_missing(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    before = sealed.answers(home)
    one, _ = segments_of(home)
    one.rename(tmp_path / "away")
    with pytest.raises(StoreError, match=r"not mended: .*000000000000\.parquet is missing"):
        mend_apart(home, tmp_path / "damaged")
    (tmp_path / "away").rename(one)
    assert sealed.answers(home) == before


def test_a_store_that_begins_in_segments_is_mended(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = dropped(long_homes[0], tmp_path)
    before = sealed.answers(home)
    store = Store(home.store_path)

    def harm(txn: Txn) -> None:
        for key, _ in list(txn.scan("tiles", index_key(0, 0), index_key(1, 0)))[:5]:
            txn.delete("tiles", key)
        key, value = next(txn.scan("lines", log_key(0), log_key(1)))
        txn.put("lines", key, value[:-1] + b"\1")

    store.commit_now(harm)
    store.close()
    said = mend_apart(home, tmp_path / "damaged")
    assert any("were made anew" in sentence for sentence in said)
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [check for check in checks if not check.ok] == []
    assert sealed.answers(home) == before


@pytest.mark.parametrize("place", [0, 3, 20])
def test_damage_behind_what_was_dropped_is_cut_back_to_a_sound_head(
    long_homes: tuple[Home, Home], tmp_path: Path, place: int
) -> None:
    home = dropped(long_homes[0], tmp_path)
    store = Store(home.store_path)

    def harm(txn: Txn) -> None:
        rows = list(txn.scan("batches", index_key(0, 0), index_key(1, 0)))
        txn.put_raw("batches", *rows[place])  # without its sum

    store.commit_now(harm)
    store.close()
    said = mend_apart(home, tmp_path / "damaged")
    assert any("our log in channel" in sentence for sentence in said)
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [check for check in checks if not check.ok] == []
    with sealed.opened(home) as books:
        [(channel, _)] = books.channels.values()
        assert 2 * SEGMENT - 8192 < channel.own.durable_size < 140_000
        assert channel.own.record(5) is not None


def test_a_bad_segment_of_what_is_in_the_store_is_mended_by_sealing_again(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = sealed.copied(long_homes[0], tmp_path, f"{tmp_path}/archive")
    sealed.seal(home, drop=False)
    one, _ = segments_of(home)
    one.write_bytes(one.read_bytes()[:-9])
    name = f"{next(iter(Path(tmp_path / 'archive').iterdir())).name[:8]} acme.example: segments"
    [check] = [c for c in examine_apart(home.store_path, home.path / "ids", home.name) if not c.ok]
    assert check.name == name
    assert str(one) in check.detail
    assert mend_apart(home, tmp_path / "damaged")
    assert len(sealed.seal(home, drop=False)["written"]) == 1
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [check for check in checks if not check.ok] == []
