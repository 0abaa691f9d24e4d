"""The job that people do with other tools, by those tools and by compare: one run, the same files.

Two CSV files of one period, first equal, then with planted differences: find what is added, missing
and changed, by key. Each tool runs in a process of its own, in an environment of its own under
`.bench/`, and writes what it found; that is held against what was planted.
"""

from __future__ import annotations

import csv
import os
import random
import shlex
import subprocess
import sys
import textwrap
import time
import venv
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".bench"
PACKAGES = {
    "reladiff": ("reladiff", "duckdb"),
    "datacompy": ("datacompy", "polars"),
    "duckdb": ("duckdb",),
    "polars": ("polars",),
}
PARTS = 10_000  # one row in so many has each of the planted differences
GAP = (0.6, 0.602)  # of the file: rows that a feed lost in a row
LATE_SECONDS = range(3000, 3900)  # how late a late row is, which takes it to the next hour

Planted = dict[str, set[str]]


class NotHere(Exception):
    """What is needed cannot be installed by its package's name from here; the text says how."""


def plant(theirs: Path, ours: Path, records: int) -> Planted:
    """Write ours from theirs, and say which ids have which difference."""
    planted: Planted = {"feed": set(), "missing": set(), "added": set(), "changed": set()}
    planted |= {"doubled": set(), "late": set()}
    kinds = ("missing", "added", "changed", "doubled", "late")
    many = max(records // PARTS, 1)
    chosen = random.Random(7).sample(range(records), many * len(kinds))
    fates = {row: kinds[n % len(kinds)] for n, row in enumerate(chosen)}
    gap = range(int(GAP[0] * records), int(GAP[1] * records))
    with theirs.open(newline="") as lines, ours.open("w", newline="") as out:
        out.write(next(lines))
        for row, line in enumerate(lines):
            at, id_, subject, quantity = line.rstrip("\n").split(",")
            fate = "feed" if row in gap else fates.get(row)
            if fate is None:
                out.write(line)
                continue
            planted[fate].add(f"new-{row}" if fate == "added" else id_)
            out.writelines(_changed(fate, row, (at, id_, subject, quantity)))
    return planted


def _changed(fate: str, row: int, cells: tuple[str, str, str, str]) -> Iterator[str]:
    at, id_, subject, quantity = cells
    match fate:
        case "added":
            yield f"{at},{id_},{subject},{quantity}\n"
            yield f"{at},new-{row},{subject},{quantity}\n"
        case "changed":
            yield f"{at},{id_},{subject},{int(quantity) + 1}\n"
        case "doubled":
            yield from [f"{at},{id_},{subject},{quantity}\n"] * 2
        case "late":
            seconds = LATE_SECONDS[row % len(LATE_SECONDS)]
            yield f"{_later(at, seconds)},{id_},{subject},{quantity}\n"


def _later(at: str, seconds: int) -> str:
    return (datetime.fromisoformat(at) + timedelta(seconds=seconds)).isoformat(sep=" ")


def has_environment(name: str, *packages: str) -> bool:
    """Whether a tool's own environment is there, with these packages in it."""
    stamp = FOLDER / name / ".installed"
    return stamp.exists() and stamp.read_text() == " ".join(packages)


def environment(name: str, *packages: str) -> Path:
    """The interpreter of a tool's own environment, made at the first use; `NotHere` if it cannot
    be.
    """
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if not has_environment(name, *packages):
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *packages]
        if subprocess.run(install, stdout=sys.stderr).returncode:
            raise NotHere(f"needs pip install {shlex.join(packages)}, which failed")
        (folder / ".installed").write_text(" ".join(packages))  # last: it says that all is there
    return python


def measured(command: list[str], output: Path) -> dict[str, Any]:
    """Run a command: its seconds, its peak memory, and the last line that it printed."""
    with output.open("w+") as out:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stdin=subprocess.DEVNULL)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()  # whoever interrupts this does not want it either
            child.wait()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        out.seek(0)
        lines = out.read().splitlines()
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "code": child.returncode,
        "said": lines[-1] if lines else "",
    }


def run_peer(name: str, ours: Path, theirs: Path, folder: Path) -> dict[str, Any]:
    """One tool on two files: what it took, and the ids that it found, by what it calls them."""
    found = folder / f"{name}.csv"
    (folder / f"{name}.duckdb").unlink(missing_ok=True)
    script = HERE / "bench_peers" / f"compare_{name}.py"
    python = environment(name, *PACKAGES[name])
    command = [str(python), str(script), str(ours), str(theirs), str(found)]
    result = measured(command, folder / f"{name}.out")
    ids: dict[str, set[str]] = {}
    if result["code"] == 0:
        with found.open(newline="") as rows:
            for row in csv.DictReader(rows):
                ids.setdefault(row["what"], set()).add(row["id"])
        found.unlink()
    return result | {"found": ids}


def read_events(file: Path) -> dict[str, set[str]]:
    """What compare found: ids by class."""
    ids: dict[str, set[str]] = {}
    with file.open(newline="") as rows:
        for row in csv.DictReader(rows):
            ids.setdefault(row["class"], set()).add(row["id"])
    return ids


def score(found: dict[str, set[str]], planted: Planted) -> dict[str, str]:
    """Of each planted difference how many were found at all, and under which names."""
    told = {}
    for kind, ids in planted.items():
        names = sorted(name for name, those in found.items() if those & ids)
        hit = len(ids & set().union(*found.values())) if found else 0
        told[kind] = f"{hit}/{len(ids)} {'+'.join(names)}".strip()
    everything = set().union(*planted.values())
    others = set().union(*found.values()) - everything if found else set()
    return told | {"wrong": str(len(others))}


def show(results: dict[str, Any]) -> str:
    """What each tool took, and what it found of each planted difference."""
    tools = [
        result for result in results.values() if isinstance(result, dict) and "equal" in result
    ]
    lines = [
        f"{'seconds by the clock, of processor':<36} {'equal':>14} {'differing':>14} {'memory':>11}"
    ]
    for tool in tools:
        equal, differing = tool["equal"], tool["differing"]
        peak = max(equal["peak_mb"], differing["peak_mb"])
        times = [
            f"{run['seconds']:.1f} s, {run['cpu_seconds']:.1f}"
            if run["code"] in (0, 1)
            else f"failed: {run['code']}"
            for run in (equal, differing)
        ]
        lines.append(f"{tool['version']:<36} {times[0]:>14} {times[1]:>14} {peak:>8,} MB")
    lines += ["", "of what was planted, and what the tool calls it:"]
    for tool in tools:
        lines.append(tool["version"])
        lines += [f"    {kind:<8} {told}" for kind, told in tool["differing"]["found"].items()]
        lines += [f"    says: {says}" for says in tool["differing"].get("causes", ())]
    for name, why in results.get("not_here", {}).items():
        lines += textwrap.wrap(f"{name}: left out, {why}", 80, subsequent_indent="    ")
    return "\n".join(lines)
