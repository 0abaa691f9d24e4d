"""The command line: quick to start, options anywhere, and no traceback for anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.node.cli import VERBS

_MAIN = "from tallystick.node.cli import main; main()"


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _MAIN, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, io, contextlib\n"
        "from tallystick.node.cli import _run\n"
        "with contextlib.redirect_stdout(io.StringIO()): _run(['--help'])\n"
        "heavy = {'trio', 'lmdb', 'nacl', 'duckdb', 'pyarrow', 'numpy', 'rich', 'msgspec'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_in_80_columns(verb: str) -> None:
    done = _run(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert "--home" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_global_options_before_and_after_the_verb(tmp_path: Path) -> None:
    home = str(tmp_path / "h")
    made = _run("--home", home, "init", "--name", "acme.example", "--json")
    assert json.loads(made.stdout)["name"] == "acme.example"
    for arguments in (
        ("--home", home, "--json", "status"),
        ("status", "--json", "--home", home),
        ("--json", "status", "--home", home),
    ):
        assert json.loads(_run(*arguments).stdout)["running"] is False
    assert json.loads(_run("status", "--json", TALLYSTICK_HOME=home).stdout)["name"]


def test_a_second_init_refuses(tmp_path: Path) -> None:
    home = str(tmp_path / "h")
    assert _run("--home", home, "init", "--name", "acme.example").returncode == 0
    again = _run("--home", home, "init", "--name", "acme.example")
    assert again.returncode == 2
    assert "there is a home" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("emitt",), 2, "Did you mean emit?"),
        (("derive", "--perriod", "x"), 2, "No such option"),
        (("--home", "/nonexistent/home", "status"), 2, "tally init"),
        (("--home", "/nonexistent/home", "run"), 2, "tally init"),
        (("verify", "/nonexistent"), 2, "No such file"),
    ],
)
def test_mistakes_get_a_sentence(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = _run(*arguments)
    assert done.returncode == code
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_without_a_node_what_writes_says_how_to_start_it(tmp_path: Path) -> None:
    home = str(tmp_path / "h")
    _run("--home", home, "init", "--name", "acme.example")
    done = _run("--home", home, "invite")
    assert done.returncode == 3
    assert "no node is running" in done.stderr
    assert "run" in done.stderr


def test_a_command_in_an_advice_stays_whole(tmp_path: Path) -> None:
    home = str(tmp_path.joinpath(*["a-folder-with-hyphens"] * 5))
    _run("--home", home, "init", "--name", "acme.example")
    assert home in _run("--home", home, "invite").stderr.split()


@pytest.mark.parametrize(("debug", "traced"), [("", False), ("1", True)])
def test_a_bug_has_its_own_exit_code(debug: str, traced: bool) -> None:
    code = (
        "import sys\n"
        "from tallystick.node.cli import _fail\n"
        "sys.exit(_fail(ZeroDivisionError('x'), json=False))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TALLYSTICK_DEBUG": debug},
    )
    assert done.returncode == 70
    assert "internal error: ZeroDivisionError" in done.stderr
    assert done.stderr.startswith("ZeroDivisionError") == traced


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -c '{_MAIN}' --help | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        capture_output=True,
        text=True,
        executable="/bin/bash",
    )
    assert done.stderr == ""
