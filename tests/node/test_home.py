"""Homes: made whole, for their owner only, locked, and refused when they are not ours to use."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.node.errors import HomeError
from tallystick.node.home import SOCKET_PATH_BYTES_MAX, create_home, open_home
from tallystick.node.template import TEMPLATE
from tallystick.protocol.errors import InputError
from tallystick.protocol.keys import Identity

SEED = bytes(range(32))


def test_a_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", SEED)
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    files = list(home.path.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert open_home(tmp_path / "h").identity() == Identity.from_seed("acme.example", SEED)
    assert home.config_path.read_text() == TEMPLATE


def test_a_second_init_refuses_and_changes_nothing(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", SEED)
    before = {file: file.read_bytes() for file in home.path.iterdir()}
    with pytest.raises(HomeError, match="there is a home"):
        create_home(tmp_path / "h", "other.example", bytes(32))
    assert {file: file.read_bytes() for file in home.path.iterdir()} == before


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thing").touch()
    with pytest.raises(HomeError, match="not empty"):
        create_home(tmp_path, "acme.example", SEED)
    assert [file.name for file in tmp_path.iterdir()] == ["thing"]


def test_a_wrong_name_makes_no_home(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not like a domain"):
        create_home(tmp_path / "h", "Acme Example", SEED)
    assert not list(tmp_path.iterdir())


def test_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(HomeError) as raised:
        open_home(tmp_path / "none")
    assert "tally init" in raised.value.advice


def test_a_newer_home_is_refused(tmp_path: Path) -> None:
    create_home(tmp_path / "h", "acme.example", SEED)
    (tmp_path / "h" / "version").write_text("3\n")
    with pytest.raises(HomeError, match="format '3'"):
        open_home(tmp_path / "h")


def test_a_seed_that_others_can_read_is_refused(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", SEED)
    (home.path / "seed").chmod(0o644)
    with pytest.raises(HomeError, match="read by others"):
        home.identity()


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "\u00e9"])
def test_a_damaged_seed_is_refused(tmp_path: Path, text: str) -> None:
    home = create_home(tmp_path / "h", "acme.example", SEED)
    (home.path / "seed").write_text(text)
    with pytest.raises(HomeError, match="damaged"):
        home.identity()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", SEED)
    hold = (
        "import sys; from pathlib import Path; from tallystick.node.home import open_home\n"
        "with open_home(Path(sys.argv[1])).lock(): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(HomeError, match=f"process {other.pid}"), home.lock():
            pass
        other.communicate("")
    with home.lock():
        assert (home.path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_deep_home_gets_a_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-long-folder-name"] * 6)
    home = create_home(deep, "acme.example", SEED)
    assert len(os.fsencode(home.socket_path)) <= SOCKET_PATH_BYTES_MAX
    assert home.socket_path == open_home(deep).socket_path


def test_a_socket_elsewhere_is_where_both_sides_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path.joinpath(*["a-long-folder-name"] * 6)
    home = create_home(deep, "acme.example", SEED)
    before = home.socket_path
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert home.socket_path == before
    assert len(os.fsencode(home.socket_path)) <= SOCKET_PATH_BYTES_MAX


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="cannot be made"):
        create_home(tmp_path / ("a" * 300), "acme.example", SEED)
    assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    home = create_home(tmp_path / "h", "acme.example", SEED)
    (home.path / "lock").mkdir()
    with pytest.raises(HomeError, match="lock cannot be opened"), home.lock():
        pass
