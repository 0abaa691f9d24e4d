"""Sealing and dropping: everything that could be asked before is answered alike afterwards."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import sealed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.node.doctor.child import examine_apart
from tallystick.node.errors import ArchiveError, HomeError
from tallystick.node.home import Home
from tallystick.node.segments import SEGMENT
from tallystick.node.segments.archive import Archive
from tallystick.node.store import disk
from tallystick.node.store.keyspace import index_key, tile_key
from tallystick.node.store.source import batches, kept_from, stored_parts
from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.merkle import Frontier
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import decode_batch


@pytest.fixture(scope="module")
def before(long_homes: tuple[Home, Home]) -> list[dict[Any, Any]]:
    """What both homes answer with nothing sealed."""
    return [sealed.answers(home) for home in long_homes]


@pytest.fixture(scope="module")
def dropped(
    long_homes: tuple[Home, Home], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Home, Home]:
    """Copies of both, sealed into an archive of each, and all but the newest period dropped."""
    made = []
    for home in long_homes:
        folder = tmp_path_factory.mktemp("dropped")
        copy = sealed.copied(home, folder, f"{folder}/archive")
        assert sealed.seal(copy, drop=False)["faults"] == []
        done = sealed.seal(copy, drop=True)
        assert done["faults"] == []
        assert sum(log["dropped_now"] for log in done["logs"]) > SEGMENT
        made.append(copy)
    return made[0], made[1]


def archive_of(home: Home) -> Archive:
    """The archive of such a copy."""
    return Archive(str(home.path.parent / "archive"))


def log_of_acme(home: Home) -> int:
    """The number of the provider's log in a home."""
    return 0 if home.name == "acme.example" else 1


def test_both_write_the_same_files_and_their_roots_are_the_trees(
    dropped: tuple[Home, Home],
) -> None:
    digests = []
    for home in dropped:
        folder = home.path.parent / "archive"
        files = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }
        digests.append(files)
        archive = archive_of(home)
        [channel] = archive.channels()
        assert archive.segments(channel, "provider") == [0, SEGMENT]
        assert archive.segments(channel, "consumer") == []
        with sealed.opened(home) as books, books.store.read() as txn:
            for first in (0, SEGMENT):
                with archive.segment(channel, "provider", first) as segment:
                    key = tile_key(log_of_acme(home), 2, first // SEGMENT)
                    assert segment.header.root == txn.get("tiles", key)
    assert digests[0] == digests[1]
    assert len([name for name in digests[0] if name.endswith(".note")]) == 3


def test_an_archive_alone_gives_the_roots_that_its_checkpoints_sign(
    dropped: tuple[Home, Home],
) -> None:
    with sealed.opened(dropped[0]) as books:
        [(channel, closer)] = books.channels.values()
        rows = closer.rows
        tops = [(row.provider_size, channel.own.root_at(row.provider_size)) for row in rows]
    archive = archive_of(dropped[0])
    [name] = archive.channels()
    for (size, root), checkpoint in zip(tops, archive.checkpoints(name), strict=True):
        roots = []
        for first in range(0, size // SEGMENT * SEGMENT, SEGMENT):
            with archive.segment(name, "provider", first) as segment:
                roots.append(segment.header.root)
        whole = Frontier.empty().extend(roots)
        peaks = (*whole.peaks, *checkpoint.edges[0])
        assert Frontier(size, peaks).root() == root
        signed = parse_checkpoint(parse_note(checkpoint.note).text)
        assert (signed.heads[0].size, signed.heads[0].root) == (size, root)


def test_what_was_dropped_is_gone_from_the_store_and_counts_no_more(
    long_homes: tuple[Home, Home], dropped: tuple[Home, Home]
) -> None:
    for home, copy in zip(long_homes, dropped, strict=True):
        held = []
        for one in (home, copy):
            with sealed.opened(one) as books, books.store.read() as txn:
                [(channel, _)] = books.channels.values()
                log = channel.provider_log
                held.append(log.held_bytes)
                first = kept_from(txn, log.number)
                assert log.dropped == first
                rows = [
                    *txn.scan("batches", index_key(log.number, 0), index_key(log.number, first))
                ]
                assert rows == []
        assert 2 * SEGMENT - max(sealed.SIZES) < first <= 2 * SEGMENT
        assert held[1] < held[0] / 2


def test_everything_is_answered_as_before(
    before: list[dict[Any, Any]], dropped: tuple[Home, Home]
) -> None:
    for home, wanted in zip(dropped, before, strict=True):
        found = sealed.answers(home)
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert found[name] == wanted[name], name


def test_the_doctor_finds_nothing(dropped: tuple[Home, Home]) -> None:
    for home in dropped:
        checks = examine_apart(home.store_path, home.path / "ids", home.name)
        assert [check for check in checks if not check.ok] == []
        assert any(check.name.endswith("acme.example: segments") for check in checks)


def test_an_older_tally_does_not_open_it(
    dropped: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "FORMATS", (2,))
    with pytest.raises(HomeError, match="format 4"):
        disk.Store(dropped[0].store_path, read_only=True)


@given(st.integers(0, 141_000), st.integers(0, 20_000))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_is_read_as_before(
    long_homes: tuple[Home, Home], dropped: tuple[Home, Home], start: int, count: int
) -> None:
    found = []
    for home in (long_homes[1], dropped[1]):
        with sealed.opened(home) as books, books.store.read() as txn:
            [(channel, _)] = books.channels.values()
            size = channel.peer.durable_size
            begin, stop = min(start, size - 1), min(start + count, size)
            parts = list(stored_parts(txn, 1, begin, stop))
            first, batch = next(batches(txn, 1, begin))
            sent = channel.peer.batch_from(begin, size)
            assert decode_batch(batch)[1][begin - first] == decode_batch(sent.data)[1][0]
            found.append((parts, first, batch, sent))
    assert found[0] == found[1]
    assert len(found[0][0]) == max(stop - begin, 0)


def test_nothing_more_is_sealed_or_dropped_twice(dropped: tuple[Home, Home]) -> None:
    done = sealed.seal(dropped[0], drop=True)
    assert (done["written"], done["checkpoints_written"], done["faults"]) == ([], 0, [])
    assert [log["dropped_now"] for log in done["logs"]] == [0, 0]


def test_kept_periods_stay_in_the_store(long_homes: tuple[Home, Home], tmp_path: Path) -> None:
    home = sealed.copied(long_homes[0], tmp_path, f"{tmp_path}/archive", keep=2)
    done = sealed.seal(home, drop=True)
    assert len(done["written"]) == 2
    kept = done["logs"][0]["in_store_from"]
    assert SEGMENT - max(sealed.SIZES) < kept <= SEGMENT
    many = sealed.copied(long_homes[0], tmp_path / "many", f"{tmp_path}/archive", keep=3)
    assert sealed.seal(many, drop=True)["logs"][0]["in_store_from"] == 0


def test_both_may_share_one_archive(long_homes: tuple[Home, Home], tmp_path: Path) -> None:
    first, second = (
        sealed.copied(home, tmp_path / home.name, f"{tmp_path}/archive") for home in long_homes
    )
    assert len(sealed.seal(first, drop=True)["written"]) == 2
    done = sealed.seal(second, drop=True)
    assert (done["written"], done["checkpoints_written"], done["faults"]) == ([], 0, [])
    assert done["logs"][1]["dropped_now"] > SEGMENT


def test_an_archive_in_memory_does_as_well(
    long_homes: tuple[Home, Home], before: list[dict[Any, Any]], tmp_path: Path
) -> None:
    home = sealed.copied(long_homes[1], tmp_path, f"memory://{tmp_path.name}")
    assert sealed.seal(home, drop=True)["faults"] == []
    assert sealed.answers(home) == before[1]


# What goes wrong


def test_a_file_that_is_not_what_was_sealed_is_written_again_before_anything_is_dropped(
    long_homes: tuple[Home, Home], before: list[dict[Any, Any]], tmp_path: Path
) -> None:
    home = sealed.copied(long_homes[0], tmp_path, f"{tmp_path}/archive")
    sealed.seal(home, drop=False)
    one, other = sorted((tmp_path / "archive").rglob("*.parquet"))
    flip(one, one.stat().st_size // 2)
    other.unlink()
    done = sealed.seal(home, drop=True)
    assert done["faults"] == []
    assert len(done["written"]) == 2
    assert sealed.answers(home) == before[0]


def flip(file: Path, place: int) -> None:
    """Change a byte of a file."""
    data = bytearray(file.read_bytes())
    data[place] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "flipped", "another", "cut"])
def test_a_segment_that_is_not_there_is_named_and_stops_nothing_else(
    long_homes: tuple[Home, Home], tmp_path: Path, how: str
) -> None:
    home = sealed.copied(long_homes[0], tmp_path, f"{tmp_path}/archive")
    sealed.seal(home, drop=True)
    one, other = sorted((tmp_path / "archive").rglob("*.parquet"))
    match how:
        case "missing":
            one.unlink()
        case "flipped":
            flip(one, one.stat().st_size // 3)
        case "another":
            one.write_bytes(other.read_bytes())
        case _:
            one.write_bytes(one.read_bytes()[:100_000])
    said = "missing" if how == "missing" else "altered"
    with sealed.opened(home) as books:
        [(channel, closer)] = books.channels.values()
        wrong = 0
        for index in range(1, SEGMENT, 8192):
            try:
                assert channel.own.record(index) is not None
            except ArchiveError as error:
                assert error.message.startswith(f"{one} is {said}")
                wrong += 1
        assert wrong == 8 if how != "flipped" else wrong >= 1
        assert channel.own.record(SEGMENT + 5) is not None  # the other segment's
        assert channel.own.record(channel.own.durable_size - 1) is not None
        assert closer.all_lines()
    checks = {c.name: c for c in examine_apart(home.store_path, home.path / "ids", home.name)}
    channel_name = channel.id.hex()[:8]
    assert str(one) in checks[f"{channel_name} acme.example: segments"].detail
    assert not checks[f"{channel_name} acme.example: records"].ok
    done = sealed.seal(home, drop=True)
    assert len(done["written"]) == 0
    assert (how == "missing") == any(str(one) in fault["message"] for fault in done["faults"])
