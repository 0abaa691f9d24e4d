"""The ledger of a watched folder: what it knows survives, and what a crash cut off is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.node.errors import HomeError
from tallystick.node.intake.ledger import Entry, Ledger

ENTRY = Entry("a.csv", (1, 2, 3), "c1", "m1")


def test_what_was_added_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "watch" / "x.jsonl"
    with Ledger.open(path) as ledger:
        assert not ledger.has("a.csv", (1, 2, 3), "m1")
        ledger.add(ENTRY)
    with Ledger.open(path) as ledger:
        assert ledger.has("a.csv", (1, 2, 3), "m1")
        assert not ledger.has("a.csv", (1, 2, 4), "m1")
        assert not ledger.has("a.csv", (1, 2, 3), "m2")
        assert ledger.same_as("c1", "m1") == "a.csv"
        assert ledger.same_as("c1", "m2") is None
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "watch" / "x.jsonl"
    with Ledger.open(path) as ledger:
        ledger.add(ENTRY)
        ledger.add(Entry("b.csv", (4, 5, 6), "c2", "m1"))
    path.write_bytes(path.read_bytes()[:-cut])
    with Ledger.open(path) as ledger:
        assert ledger.has("a.csv", (1, 2, 3), "m1")
        assert ledger.has("b.csv", (4, 5, 6), "m1") == (cut == 1)
        ledger.add(Entry("c.csv", (7, 8, 9), "c3", "m1"))
    with Ledger.open(path) as ledger:
        assert ledger.has("a.csv", (1, 2, 3), "m1")
        assert ledger.has("c.csv", (7, 8, 9), "m1")


def test_a_folder_has_one_watcher(tmp_path: Path) -> None:
    path = tmp_path / "watch" / "x.jsonl"
    with Ledger.open(path), pytest.raises(HomeError, match="another tally watch"):
        Ledger.open(path).__enter__()
