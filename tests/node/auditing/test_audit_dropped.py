"""Audits of homes that dropped records: what is in segments alone is audited where it is."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import sealed
from auditing import failing

from tallystick.node.auditing.checks import run_audit
from tallystick.node.auditing.pools import InProcess
from tallystick.node.auditing.readers import StoreReader
from tallystick.node.auditing.sources import Source, of_archive, of_home
from tallystick.node.auditing.work import Task, examine
from tallystick.node.errors import ClusterError
from tallystick.node.home import Home
from tallystick.node.segments import SEGMENT
from tallystick.node.segments.archive import Archive
from tallystick.protocol.audit import Piece
from tallystick.protocol.checks import Check
from tallystick.protocol.records import decode_batch


def run(source: Source) -> list[Check]:
    """The checks of a source, in this process."""
    return list(run_audit(lambda: source, lambda _: InProcess(), lambda *_: None))


def source(home: Home) -> Source:
    """The one channel of a home."""
    with sealed.opened(home) as books:
        return of_home(books, books.select(None), 1)


@pytest.fixture(scope="module")
def dropped(long_homes: tuple[Home, Home], tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The provider's home, its October in segments alone."""
    folder = tmp_path_factory.mktemp("dropped")
    home = sealed.copied(long_homes[0], folder, f"{folder}/archive")
    assert sealed.seal(home, drop=True)["faults"] == []
    return home


def test_a_home_is_audited_alike_before_and_after_dropping(
    long_homes: tuple[Home, Home], dropped: Home
) -> None:
    before, after = run(source(long_homes[0])), run(source(dropped))
    assert failing(before) == failing(after) == {}
    same = ("validity", "ids", "heads", "signatures", "closed", "derivation", "balances")
    for one, other in zip(before, after, strict=True):
        assert one.detail == other.detail or one.name not in same
    said = {check.name: check.detail for check in after}
    assert said["files"].startswith("columns and footers of ")
    assert said["derivation"].endswith("of 3 closed periods")


def test_what_was_sealed_is_audited_without_the_home(dropped: Home) -> None:
    archive = Archive(f"{dropped.path.parent}/archive")
    [channel] = archive.channels()
    checks = run(of_archive(archive, channel))
    assert failing(checks) == {}
    said = {check.name: check.detail for check in checks}
    assert said["records"].startswith(f"{2 * SEGMENT:,} and 0 records")


def test_records_that_were_dropped_meanwhile_are_read_where_they_went(
    long_homes: tuple[Home, Home], dropped: Home
) -> None:
    for first in (0, 8192, 65_000):
        piece = Piece("provider", first, 9000, b"")
        found = []
        for home in (long_homes[0], dropped):
            chunks = StoreReader(str(home.store_path), 0).chunks(piece)
            records = [part for chunk in chunks for part in decode_batch(chunk.data())[1]]
            found.append(records[: piece.count])
        assert found[0] == found[1]
        assert len(found[0]) == piece.count


def test_a_missing_segment_of_a_home_is_named(dropped: Home, tmp_path: Path) -> None:
    home = sealed.copied(dropped, tmp_path, str(tmp_path / "nowhere"))
    said = failing(run(source(home)))["records"]
    assert said.startswith("in the provider's log, record 0: ")
    assert "000000000000.parquet is missing" in said


def test_a_worker_without_a_way_to_the_home_finds_nothing(tmp_path: Path) -> None:
    task = Task(0, b"", StoreReader(str(tmp_path / "no"), 0), (), (), 0, 1)
    with pytest.raises(ClusterError, match="a worker cannot read the home") as caught:
        examine(task)
    sent = pickle.loads(pickle.dumps(caught.value))
    assert (sent.message, sent.advice) == (caught.value.message, caught.value.advice)
