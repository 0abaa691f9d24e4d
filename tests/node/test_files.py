"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tallystick.node.errors import StoreError
from tallystick.node.files import one_at_a_time, whole_file, write_whole


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), whole_file(tmp_path / "page.html") as part:
        part.write_text("half")
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_until_it_is_whole_the_file_is_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120)
    write_whole(path, b"before")
    with whole_file(path) as part:
        part.write_bytes(b"after")
        assert path.read_bytes() == b"before"
    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(path, b"after")]


def test_who_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_whole(path, b"1")
    assert _mode(path) == 0o644
    path.chmod(0o640)
    write_whole(path, b"2")
    assert _mode(path) == 0o640
    write_whole(path, b"3", 0o600)
    assert _mode(path) == 0o600


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/f")
    write_whole(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "f").read_bytes() == b"1"


def test_what_is_no_file_is_written_itself(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_whole, args=(pipe, b"through"))
    writer.start()
    assert pipe.read_bytes() == b"through"
    writer.join()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("name", ["gone/f", "folder", "x" * 300])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match=f"{name} cannot be written"):
        write_whole(tmp_path / name, b"1")
    assert sorted(tmp_path.iterdir()) == before


def test_changes_come_one_after_another(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(20):
            with one_at_a_time(tmp_path):
                write_whole(count, str(int(count.read_text()) + 1).encode())

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_text() == "80"
    with pytest.raises(StoreError, match="gone cannot be opened"), one_at_a_time(tmp_path / "gone"):
        pass
