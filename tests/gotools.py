"""Go's own implementation of logs and notes, built where it is installed.

A test must not download anything: it needs Go and golang.org/x/mod as Debian installs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parent / "differential" / "tlog"
GO_PATH = Path("/usr/share/gocode")
MISSING = shutil.which("go") is None or not (GO_PATH / "src/golang.org/x/mod/sumdb/tlog").is_dir()
REASON = "needs Go and its x/mod: apt install golang-go golang-golang-x-mod-dev"


def build(folder: Path) -> Path:
    """The program of `differential/tlog`, built in a folder."""
    settings = {"GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOCACHE": str(folder / "cache")}
    built = folder / "tlog"
    subprocess.run(
        ["go", "build", "-o", str(built), "."],
        cwd=PROGRAM,
        env={**os.environ, **settings, "GOFLAGS": ""},
        check=True,
    )
    return built


def ask(program: Path, **question: object) -> dict[str, Any]:
    """What the program says to a question."""
    done = subprocess.run(
        [program], input=json.dumps(question).encode(), capture_output=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
