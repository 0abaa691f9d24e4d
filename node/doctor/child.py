"""The process in which a store is examined or mended, so that its crash is a finding as well.

LMDB reads what its file says without a doubt, and a damaged one may end the process that does. The
pages are examined first; what they do not tell is still kept at this distance. Run with the work to
do, the store, the index's folder, the party's name and where to set things aside; it prints JSON.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tallystick.node.doctor.findings import Check, Findings
from tallystick.node.errors import StoreError
from tallystick.node.home import Home

_MAIN = "from tallystick.node.doctor.child import main; main()"


def examine_apart(store: Path, index_folder: Path, party: str) -> list[Check]:
    """The checks of a store, made in a process of their own."""
    done = _start("examine", store, index_folder, party, "")
    if done.returncode:
        return [Check("store", False, _death(done))]
    return [Check(**check) for check in json.loads(done.stdout)["checks"]]


def mend_apart(home: Home, aside: Path) -> list[str]:
    """Mend a store in a process of its own; what was done, in sentences."""
    done = _start("mend", home.store_path, home.path / "ids", home.name, str(aside))
    if done.returncode:
        raise StoreError(f"the store was not mended: {_death(done)}", "See tally doctor")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise StoreError(*answer["error"])
    return list(answer["mended"])


def _start(
    work: str, store: Path, index_folder: Path, party: str, aside: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _MAIN, work, str(store), str(index_folder), party, aside]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _death(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"reading it ended the process that read it ({name})"
    last = done.stderr.strip().splitlines()[-1:] or ["nothing was said"]
    return f"reading it failed: {last[0]}"


def main() -> None:
    """Do the work that the command line names."""
    work, store, index_folder, party, aside = sys.argv[1:]
    print(json.dumps(_WORK[work](Path(store), Path(index_folder), party, Path(aside))))  # noqa: T201


def _examine(store: Path, index_folder: Path, party: str, _: Path) -> dict[str, Any]:
    import lmdb

    from tallystick.node.doctor.examination import examine_running
    from tallystick.node.doctor.structure import check_structure

    findings = Findings()
    try:
        if check_structure(store, findings):
            findings.checks += examine_running(store, index_folder, party).checks
    except StoreError as error:
        findings.checks.append(Check("store", False, error.message))
    except lmdb.Error as error:
        findings.checks.append(Check("store", False, f"it cannot be read: {error}"))
    return {"checks": [asdict(check) for check in findings.checks]}


def _mend(store: Path, index_folder: Path, party: str, aside: Path) -> dict[str, Any]:
    from tallystick.node.doctor.mending import mend

    try:
        return {"mended": mend(store, index_folder, party, aside)}
    except StoreError as error:
        return {"error": [error.message, error.advice]}


_WORK = {"examine": _examine, "mend": _mend}
