"""tally seal at the terminal: what it says, with a node and without, and when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nodes
import pytest
import sealed

from tallystick.node.config import load_config
from tallystick.node.home import Home
from tallystick.protocol.errors import InputError


def tally(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A verb in a home."""
    command = [sys.executable, "-c", nodes.MAIN, "--home", str(home.path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_it_says_what_it_sealed_and_dropped(long_homes: tuple[Home, Home], tmp_path: Path) -> None:
    home = sealed.copied(long_homes[0], tmp_path, f"{tmp_path}/archive")
    first = tally(home, "seal")
    assert (first.returncode, first.stderr) == (0, "")
    assert "acme.example: 139,953 records, 131,072 of them sealed" in first.stdout
    assert "now: 2 segments and 3 checkpoints written, 0 records dropped" in first.stdout
    second = json.loads(tally(home, "seal", "--drop", "--json").stdout)
    [channel] = second["channels"]
    assert second["ok"] and not channel["written"]
    assert channel["logs"][0]["dropped_now"] == channel["logs"][0]["in_store_from"] > 120_000
    assert all(len(line) <= 80 for line in tally(home, "seal").stdout.splitlines())


def test_what_cannot_be_sealed_is_said_and_the_exit_code_is_1(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = sealed.copied(long_homes[0], tmp_path, f"{tmp_path}/archive")
    (tmp_path / "archive").write_text("a file, and no folder")
    done = tally(home, "seal", "--drop")
    assert done.returncode == 1
    assert "NOT SEALED" in done.stdout
    assert "Traceback" not in done.stderr
    away = sealed.copied(long_homes[0], tmp_path / "s3", "nonsense://bucket")
    refused = tally(away, "seal")
    assert refused.returncode == 3
    assert "nonsense" in refused.stderr


def test_without_an_archive_there_is_nothing_to_seal_into(
    long_homes: tuple[Home, Home], tmp_path: Path
) -> None:
    home = sealed.copied(long_homes[0], tmp_path, "")
    done = tally(home, "seal")
    assert done.returncode == 2
    assert "has no archive" in done.stderr


def test_a_place_that_depends_on_where_one_stands_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[archive]\nlocation = "some/folder"\n')
    with pytest.raises(InputError, match=r"archive\.location is 'some/folder'"):
        load_config(file)
