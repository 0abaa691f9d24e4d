"""What the benchmark beside other tools plants is there, once each, and scoring it can fail."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import peers
import pytest

RECORDS = 2_000


def _files(folder: Path) -> tuple[Path, Path, peers.Planted]:
    theirs, ours = folder / "theirs.csv", folder / "ours.csv"
    rows = [
        f"2023-11-14 22:{n // 60:02}:{n % 60:02}.000000,r-{n},s-{n % 7},{n}" for n in range(RECORDS)
    ]
    theirs.write_text("\n".join(["time,id,subject,quantity", *rows]) + "\n")
    return theirs, ours, peers.plant(theirs, ours, RECORDS)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_what_is_planted_is_what_differs(tmp_path: Path) -> None:
    theirs, ours, planted = _files(tmp_path)
    there = {row["id"]: row for row in _rows(theirs)}
    here: dict[str, list[dict[str, str]]] = {}
    for row in _rows(ours):
        here.setdefault(row["id"], []).append(row)
    assert {i for i in there if i not in here} == planted["feed"] | planted["missing"]
    assert {i for i in here if i not in there} == planted["added"]
    assert {i for i, rows in here.items() if len(rows) > 1} == planted["doubled"]
    changed = {i for i, rows in here.items() if i in there and rows[0] != there[i]}
    assert changed == planted["changed"] | planted["late"]
    assert all(planted.values())


def test_a_tool_s_script_does_the_job_and_is_scored(tmp_path: Path) -> None:
    theirs, ours, planted = _files(tmp_path)
    script = peers.HERE / "bench_peers" / "compare_duckdb.py"
    out = tmp_path / "found.csv"
    result = peers.measured(
        [sys.executable, str(script), str(ours), str(theirs), str(out)], tmp_path / "said"
    )
    assert result["code"] == 0
    assert result["said"].startswith("duckdb ")
    assert result["peak_mb"] > 0
    found: dict[str, set[str]] = {}
    for row in _rows(out):
        found.setdefault(row["what"], set()).add(row["id"])
    scored = peers.score(found, planted)
    assert scored["missing"] == "1/1 missing"
    assert scored["late"] == "1/1 changed"
    assert scored["doubled"] == "0/1"
    assert scored["wrong"] == "0"
    assert peers.score({"missing": {"nobody"}}, planted)["wrong"] == "1"
    assert peers.score({}, planted)["missing"] == "0/1"


def test_a_tool_that_fails_is_not_taken_for_one_that_finds_nothing(tmp_path: Path) -> None:
    result = peers.measured([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "said")
    assert result["code"] == 3


def test_a_tool_that_cannot_be_installed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "FOLDER", tmp_path)
    with pytest.raises(peers.NotHere, match=r"^needs pip install \./nothing, which failed$"):
        peers.environment("nothing", "./nothing")
    assert not peers.has_environment("nothing", "./nothing")
    run = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mb": 1, "code": 0, "found": {}}
    ours = {"version": "tally compare", "equal": run, "differing": run}
    shown = peers.show({"tally": ours, "not_here": {"nothing": "needs patience"}})
    assert shown.endswith("nothing: left out, needs patience")
