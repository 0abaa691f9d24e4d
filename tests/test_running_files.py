"""The units and the image: what they run exists, is accepted, and does what operating.md says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nodes
import pytest

from tallystick.node.cli import VERBS

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "docs" / "systemd"
SERVICE = "tallystick@.service"
BACKUP = "tallystick-backup@.service"
CONTAINERFILE = (ROOT / "docs" / "container" / "Containerfile").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()

_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@pytest.fixture
def tally(tmp_path: Path) -> Path:
    """A program `tally`."""
    script = tmp_path / "tally"
    script.write_text(f"#!{sys.executable}\n{nodes.MAIN}\n")
    script.chmod(0o755)
    return script


@pytest.fixture
def units(tmp_path: Path, tally: Path) -> Path:
    """The units as they would be installed, for one node, where this `tally` is."""
    folder = tmp_path / "units"
    folder.mkdir()
    for file in UNITS.iterdir():
        text = file.read_text().replace("/opt/tallystick/bin/tally", str(tally))
        (folder / file.name.replace("@.", "@acme.")).write_text(text)
    return folder


@_SYSTEMD
@pytest.mark.parametrize("unit", sorted(file.name for file in UNITS.iterdir()))
def test_systemd_takes_each_unit(units: Path, unit: str) -> None:
    file = units / unit.replace("@.", "@acme.")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@_SYSTEMD
@pytest.mark.parametrize(("unit", "most"), [(SERVICE, 1.2), (BACKUP, 1.2)])
def test_what_a_unit_may_do_is_bounded(units: Path, unit: str, most: float) -> None:
    file = units / unit.replace("@.", "@acme.")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)],
        capture_output=True, text=True,
    )  # fmt: skip
    rated = re.search(r"exposure level for .*: ([0-9.]+)", done.stdout)
    assert rated is not None, done.stderr
    assert float(rated[1]) <= most
    assert "rates that exposure\n1.2 of 10" in OPERATING


def test_the_node_is_started_as_documented() -> None:
    text = (UNITS / SERVICE).read_text()
    assert "Type=notify" in text  # tests/node/telemetry/test_supervisor.py has the other end
    (start,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert shlex.split(start)[-1] in VERBS


def _shell(line: str, lib: Path, backups: Path, tally: Path) -> str:
    """The script of a unit's line, as systemd would hand it to the shell."""
    for written, meant in (
        ("/opt/tallystick/bin/tally", str(tally)),
        ("/var/lib/tallystick", str(lib)),
        ("/var/backups/tallystick", str(backups)),
        ("%i", "acme"),
        ("%%", "%"),
        ("$$", "$"),
    ):
        line = line.replace(written, meant)
    shell, option, script = shlex.split(line)
    assert (shell, option) == ("/bin/sh", "-c")
    return script


def test_the_backup_is_made_and_seven_are_kept(tmp_path: Path, tally: Path) -> None:
    lib, backups = tmp_path / "lib", tmp_path / "backups"
    lib.mkdir()
    backups.mkdir()
    party = nodes.Party(lib, "acme")
    party.tally("init", "--name", "acme.example")
    text = (UNITS / BACKUP).read_text()
    make, tidy = (
        _shell(line, lib, backups, tally)
        for line in re.findall(r"^ExecStart(?:Post)?=(.*)$", text, re.MULTILINE)
    )
    subprocess.run(["sh", "-c", make], check=True, capture_output=True)
    (made,) = backups.iterdir()
    assert re.fullmatch(r"acme-\d{4}-\d\d-\d\dT\d{6}Z", made.name)
    assert not (made / "seed").exists()
    others = [f"acme-2020-01-{day:02}T000000Z" for day in range(1, 10)]
    kept = ["acme-2-2020-01-01T000000Z", "acme-before-0.2.0", "notes.txt"]
    for name in (*others, *kept):
        (backups / name).mkdir()
        (backups / name / "a file").write_text("x")
    subprocess.run(["sh", "-c", tidy], check=True, capture_output=True)
    left = {path.name for path in backups.iterdir()}
    assert left == {made.name, *others[-6:], *kept}
    tried = tmp_path / "tried"
    seed = str(party.home / "seed")
    done = subprocess.run(
        [tally, "--home", tried, "restore", made, "--seed-file", seed], capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_tidying_when_there_is_little_removes_nothing(tmp_path: Path, tally: Path) -> None:
    text = (UNITS / BACKUP).read_text()
    (line,) = re.findall(r"^ExecStartPost=(.*)$", text, re.MULTILINE)
    (tmp_path / "acme-2020-01-01T000000Z").mkdir()
    script = _shell(line, tmp_path, tmp_path, tally)
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert (tmp_path / "acme-2020-01-01T000000Z").is_dir()


def test_the_image_is_made_of_what_there_is() -> None:
    lines = CONTAINERFILE.replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    known = {"FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
             "ENTRYPOINT", "CMD"}  # fmt: skip
    assert {step for step, _ in steps} == known
    copied = [rest.split()[:-1] for step, rest in steps if step == "COPY" and "--from" not in rest]
    sources = [source for one in copied for source in one]
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    folders = project["tool"]["setuptools"]["package-dir"].values()
    needed |= {folder.partition("/")[0] for folder in folders}
    assert needed <= set(sources)
    for step, rest in steps:
        if step in ("HEALTHCHECK", "CMD", "ENTRYPOINT"):
            words = re.findall(r'"([^"]+)"', rest)
            assert [word for word in words if word in VERBS or word == "tally"]
    assert steps[[step for step, _ in steps].index("USER")][1].split(":")[0].isdigit()


def test_what_operating_shows_is_there() -> None:
    for path in re.findall(r"docs/(?:systemd|container)/[A-Za-z@.-]+", OPERATING):
        assert list(ROOT.glob(path)) or list(ROOT.glob(f"{path}*")), path
    named = re.findall(r"`?\btally (?:--home \S+ )?([a-z][a-z-]+)", OPERATING)
    assert {"init", "run", "config", "health", "completion", "backup"} <= set(named)
    assert [name for name in named if name not in VERBS] == []


def test_the_home_is_inside_the_volume() -> None:
    (home,) = re.findall(r"TALLYSTICK_HOME=(\S+)", CONTAINERFILE)
    (volume,) = re.findall(r"^VOLUME (\S+)", CONTAINERFILE, re.MULTILINE)
    assert home != volume
    assert os.path.commonpath([home, volume]) == volume
