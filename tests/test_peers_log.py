"""Every way that the benchmark runs beside two nodes does the work, where its parts are there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import peers
import peers_log
import pytest
from benchmarks import load

RECORDS = 300
SINGLES = 5


def _check(result: dict[str, Any], name: str) -> None:
    alone = name.startswith("pymerkle")
    assert result["held"] == load.BATCH + RECORDS + SINGLES
    assert len(result["single_ms"]) == SINGLES and min(result["single_ms"]) > 0
    assert result["seconds"] > 0
    for key in ("cpu", "single_cpu", "disk"):
        author, other = result[key]
        assert (other is None) is alone
        assert author is None or author >= 0
        assert other is None or other >= 0
    if name != "pymerkle-memory":
        # A record has 170 bytes that are its own; nobody compresses them before they are on disk.
        assert result["disk"][0] > result["held"] * 170


@pytest.mark.parametrize("name", peers_log.WAYS)
def test_a_way_does_the_work(name: str, tmp_path: Path) -> None:
    try:
        result = peers_log.run_way(name, RECORDS, SINGLES, tmp_path, install=False)
    except peers_log.NotHere as error:
        pytest.skip(f"{name} {error}; scripts/bench throughput --peers installs what it can")
    _check(result, name)
    assert result["version"]
    assert list(tmp_path.iterdir()) == []


def test_two_nodes_do_the_same_work(tmp_path: Path) -> None:
    _check(peers_log.run_ours(RECORDS, SINGLES, tmp_path), peers_log.OURS)


def test_what_is_missing_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr(peers, "FOLDER", empty)
    monkeypatch.setenv("PATH", str(empty))
    with pytest.raises(peers_log.NotHere, match="apt-get install nodejs npm"):
        peers_log.run_way("hypercore", 1, 1, tmp_path, install=True)
    (empty / "node").write_text("")
    (empty / "node").chmod(0o755)
    with pytest.raises(peers_log.NotHere, match="npm install --prefix"):
        peers_log.run_way("hypercore", 1, 1, tmp_path, install=True)
    with pytest.raises(peers_log.NotHere, match=r"apt-get install postgresql|pip install '"):
        peers_log.run_way("postgres", 1, 1, tmp_path, install=False)


def test_a_way_that_fails_is_told_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('the copies differ')")
    way = dataclasses.replace(peers_log.WAYS["sqlite"], script=str(broken))
    monkeypatch.setitem(peers_log.WAYS, "sqlite", way)
    with pytest.raises(RuntimeError, match="the copies differ"):
        peers_log.run_way("sqlite", 1, 1, tmp_path, install=False)


def _run(author: float, other: float | None, seconds: float) -> dict[str, Any]:
    disk = [1000 * 200, None if other is None else 1000 * 100]
    return {
        "version": "1",
        "held": 1000,
        "seconds": seconds,
        "cpu": [author, other],
        "disk": disk,
        "single_ms": [1.0, 2.0, 9.0],
        "single_cpu": [0.003, other and 0.006],
    }


def test_rounds_become_medians_and_a_ratio_to_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = iter([_run(0.01, 0.02, 0.5), _run(0.02, 0.02, 0.1), _run(0.09, 0.02, 0.2)])
    turns: list[str] = []

    def run_ours(*_: object) -> dict[str, Any]:
        turns.append(peers_log.OURS)
        return next(ours)

    def run_way(name: str, *_: object) -> dict[str, Any]:
        turns.append(name)
        return _run(0.02, None, 1.0)

    def absent(install: bool) -> tuple[list[str], dict[str, str]]:
        raise peers_log.NotHere("needs patience; on Debian: apt-get install patience")

    monkeypatch.setattr(peers_log, "run_ours", run_ours)
    monkeypatch.setattr(peers_log, "run_way", run_way)
    for name, way in list(peers_log.WAYS.items()):
        if name == "postgres":
            monkeypatch.setitem(peers_log.WAYS, name, dataclasses.replace(way, prepare=absent))
        elif name != "sqlite":
            monkeypatch.delitem(peers_log.WAYS, name)
    result = peers_log.throughput_peers(tmp_path, 1000, singles=3, rounds=3)
    # Each comes first in its turn.
    assert turns == [peers_log.OURS, "sqlite", "sqlite", peers_log.OURS, peers_log.OURS, "sqlite"]
    nodes, sqlite = result["ways"][peers_log.OURS], result["ways"]["sqlite"]
    assert nodes["cpu_us"] == {"author": 20.0, "other": 20.0, "both": 40.0}
    assert nodes["cpu_us_range"] == [30.0, 110.0]
    assert nodes["records_per_second"] == 5000
    assert nodes["records_per_second_range"] == [2000, 10_000]
    assert nodes["bytes_a_record"] == {"author": 200.0, "other": 100.0, "both": 300.0}
    assert nodes["single_p50_ms"] == 2.0
    assert nodes["single_cpu_us"] == {"author": 1000.0, "other": 2000.0, "both": 3000.0}
    assert nodes["cpu_to_ours"] == 1.0
    assert sqlite["cpu_us"] == {"author": 20.0, "other": None, "both": 20.0}
    assert sqlite["cpu_to_ours"] == 0.5
    assert result["not_here"].keys() == {"postgres"}
    shown = peers_log.show(result)
    assert max(map(len, shown.splitlines())) <= 80
    assert "left out, needs patience; on Debian: apt-get install" in shown
    row = next(line for line in shown.splitlines() if line.startswith("SQLite at both ends"))
    assert row.split()[-7:] == ["20.0", "-", "0.50", "1,000", "200", "2.0", "1000"]
