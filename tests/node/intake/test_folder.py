"""Which files of a folder count, and when they are complete."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tallystick.node.importing.mapping import Mapping, load_mapping
from tallystick.node.intake.folder import Folder, shown
from tallystick.protocol.errors import InputError

MAP = """\
time = { column = "t" }
subject = { value = "s" }
[[meter]]
meter = "tokens"
quantity = { column = "n" }
"""


def _mapping(folder: Path, text: str = MAP) -> Mapping:
    (folder / "map.toml").write_text(text)
    return load_mapping(folder / "map.toml")


class _Looking:
    """A folder with a clock that stands still until it is moved."""

    def __init__(self, tmp_path: Path, settle: float = 5.0) -> None:
        self.path = tmp_path / "in"
        self.path.mkdir()
        self.passed: list[tuple[str, str]] = []
        self.later = 0.0
        note = lambda name, why: self.passed.append((name, why))  # noqa: E731
        self.folder = Folder(
            self.path,
            _mapping(tmp_path),
            settle,
            note,
            lambda: max(p.lstat().st_ctime for p in self.path.iterdir()) + self.later,
        )

    def settled(self) -> dict[str, bool]:
        return {file.name: file.settled for file in self.folder.look()}


def test_only_files_of_a_format_that_are_done_count(tmp_path: Path) -> None:
    looking = _Looking(tmp_path)
    good = ["a.csv", "b.CSV.gz", "c.jsonl", "d.ndjson", "e.parquet", "f.tsv", "ä ö.csv", "-rf.csv"]
    bad = [
        ".a.csv",
        "a.csv.part",
        "b.csv.TMP",
        "c.csv~",
        "x.csv.rejects.csv",
        "notes.txt",
        "README",
    ]
    for name in good + bad:
        (looking.path / name).write_text("t,n\n")
    (looking.path / "empty.csv").touch()
    (looking.path / "dir.csv").mkdir()
    (looking.path / "link.csv").symlink_to(looking.path / "a.csv")
    (looking.path / "broken.csv").symlink_to(looking.path / "nowhere")
    os.mkfifo(looking.path / "pipe.csv")
    assert sorted(looking.settled()) == sorted(good)
    assert sorted(looking.settled()) == sorted(good)
    assert sorted(looking.passed) == [
        ("README", "its name does not tell a format"),
        ("broken.csv", "it is a link"),
        ("empty.csv", "it is empty"),
        ("link.csv", "it is a link"),
        ("notes.txt", "its name does not tell a format"),
        ("pipe.csv", "it is no file"),
    ]


def test_a_file_is_complete_when_its_times_say_so(tmp_path: Path) -> None:
    looking = _Looking(tmp_path)
    (looking.path / "a.csv").write_text("t,n\n")
    looking.later = 4.9
    assert looking.settled() == {"a.csv": False}
    looking.later = 5.1
    assert looking.settled() == {"a.csv": True}
    # A copy that keeps the time of its original is as new as its arrival.
    os.utime(looking.path / "a.csv", (1, 1))
    looking.later = 4.9
    assert looking.settled() == {"a.csv": False}


def test_a_clock_ahead_of_ours_does_not_hold_a_file_back(tmp_path: Path) -> None:
    looking = _Looking(tmp_path, settle=0.05)
    (looking.path / "a.csv").write_text("t,n\n")
    looking.later = -3600
    assert looking.settled() == {"a.csv": False}
    for _ in range(200):
        if looking.settled() == {"a.csv": True}:
            break
        time.sleep(0.005)
    else:
        pytest.fail("it was never complete")
    (looking.path / "a.csv").write_text("t,n\n1,2\n")  # it goes on growing
    assert looking.settled() == {"a.csv": False}


def test_names_that_are_no_text_stay_apart(tmp_path: Path) -> None:
    looking = _Looking(tmp_path)
    names = [b"\xff.csv", b"\xfe.csv", b"a\nb.csv", b"a\\nb.csv", b"\x1b[2J.csv"]
    for name in names:
        (looking.path / os.fsdecode(name)).write_text("t,n\n")
    found = list(looking.settled())
    assert len(set(found)) == len(names)
    assert all(name.isprintable() and name.isascii() for name in found)
    assert shown("a\nb") == r"a\nb"
    assert shown(r"a\nb") == r"a\\nb"


def test_a_folder_that_is_gone_says_so(tmp_path: Path) -> None:
    looking = _Looking(tmp_path)
    looking.path.rmdir()
    with pytest.raises(InputError, match="cannot be read"):
        looking.folder.look()


def test_a_mapping_with_a_format_takes_any_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "USAGE.DAT").write_text("t,n\n")
    folder = Folder(tmp_path / "in", _mapping(tmp_path, 'format = "csv"\n' + MAP), 0, print)
    assert [file.name for file in folder.look()] == ["USAGE.DAT"]
