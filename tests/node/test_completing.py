"""Completion in real shells: verbs, options, channels, periods and peers, and nothing written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import nodes
import pytest

Pair = tuple[nodes.Party, nodes.Party]


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `tally` is on the PATH."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "tally"
    script.write_text(f"#!{sys.executable}\n{nodes.MAIN}\n")
    script.chmod(0o755)
    found = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    found.pop("TALLYSTICK_HOME", None)
    return found


def _bash(shells: dict[str, str], *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    code = (
        'eval "$(tally completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        '"$(complete -p tally | sed "s/.*-F \\([^ ]*\\) .*/\\1/")" tally\n'
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", code, "bash", *words], env=shells, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_bash_completes_verbs(shells: dict[str, str]) -> None:
    assert _bash(shells, "tally", "der") == ["derive"]
    assert {"run", "emit", "config", "completion"} <= set(_bash(shells, "tally", ""))
    assert _bash(shells, "tally", "derive", "--per") == ["--period"]
    assert _bash(shells, "tally", "completion", "") == ["bash", "zsh", "fish"]


def test_bash_completes_what_is_in_the_home(shells: dict[str, str], pair: Pair) -> None:
    acme, beta = pair
    home = ("tally", "--home", str(acme.home))
    channel = acme.json("channels")["channels"][0]["channel"][:8]
    assert _bash(shells, *home, "derive", "--channel", "") == [channel, "beta.example"]
    assert _bash(shells, *home, "derive", "--channel", "bet") == ["beta.example"]
    assert _bash(shells, "tally", "derive", "--home", str(acme.home), "--channel", channel[:3]) == [
        channel
    ]
    assert _bash(shells, *home, "propose", "terms.toml", "--to", "") == ["beta.example"]
    assert _bash(shells, *home, "invite", "--replace", "b") == ["beta.example"]
    now = datetime.now(UTC)
    periods = _bash(shells, *home, "checkpoint", f"{now:%Y-%m-}")
    assert len(periods) >= 1
    assert all(len(period) == len("2026-11-29T20") for period in periods)
    assert set(periods) <= set(_bash(shells, *home, "--channel", channel, "bundle", "20"))
    assert _bash(shells, *home, "--channel", "nobody", "derive", "--period", "") == []
    assert beta.json("status")["running"]  # nothing was disturbed


def _files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock.mdb"  # where LMDB notes who reads
    }


def test_nothing_is_written(shells: dict[str, str], tmp_path: Path) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    party.tally("init", "--name", party.name)
    before = _files(party.home)
    for option in ("--channel", "--period"):
        assert _bash(shells, "tally", "--home", str(party.home), "derive", option, "") == []
    assert _files(party.home) == before


@pytest.mark.parametrize("damage", ["no home", "no store", "damaged", "no lock"])
def test_whatever_is_wrong_there_is_only_nothing_to_offer(
    shells: dict[str, str], tmp_path: Path, damage: str
) -> None:
    party = nodes.Party(tmp_path, "acme.example")
    if damage != "no home":
        party.tally("init", "--name", party.name)
    store = party.home / "store"
    if damage == "no store":
        shutil.rmtree(store)
    elif damage == "damaged":
        (store / "data.mdb").write_bytes(b"x" * 100_000)
    elif damage == "no lock":
        (store / "lock.mdb").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert _bash(shells, "tally", "--home", str(party.home), "derive", "--channel", "") == []
    assert sorted(tmp_path.rglob("*")) == before


def test_completing_loads_nothing_heavy(pair: Pair) -> None:
    code = (
        "import sys\n"
        "from tallystick.node.cli import _run\n"
        "_run([])\n"
        "heavy = {'trio', 'duckdb', 'pyarrow', 'numpy', 'rich', 'structlog', 'starlette'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    words = {
        "_TALLY_COMPLETE": "bash_complete",
        "COMP_WORDS": f"tally --home {pair[0].home} derive --channel ",
        "COMP_CWORD": "5",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **words}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "beta.example" in done.stdout


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(shells: dict[str, str], pair: Pair) -> None:
    line = f"tally --home {pair[0].home} derive --channel bet"
    code = f"tally completion fish | source; complete -C 'tally der'; complete -C '{line}'"
    done = subprocess.run(["fish", "-c", code], env=shells, capture_output=True, text=True)
    assert done.returncode == 0
    assert [row.split("\t")[0] for row in done.stdout.splitlines()] == ["derive", "beta.example"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script(shells: dict[str, str]) -> None:
    code = (
        'autoload -U compinit; compinit -u -D; eval "$(tally completion zsh)"; print $_comps[tally]'
    )
    done = subprocess.run(["zsh", "-f", "-c", code], env=shells, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "_tally_completion"), done.stderr
