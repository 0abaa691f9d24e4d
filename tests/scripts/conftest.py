"""Benchmarks in small: each is what a run gives it, repeated once, and all share their homes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks import age, audit, catchup, compare, derive, importing, latency, startup, throughput
from benchmarks.__main__ import run
from benchmarks.catalog import catalog
from benchmarks.homes import Homes
from benchmarks.progress import Progress

Measure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def homes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the homes that the benchmarks of these tests share are."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="session")
def homes(homes_folder: Path) -> Homes:
    """The homes there."""
    return Homes(homes_folder, Progress(quiet=True))


@pytest.fixture
def measure(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Runs a benchmark by its name, with so many records."""
    for module in (audit, catchup, compare, derive, startup):
        monkeypatch.setattr(module, "REPEATS", 1)
    for module in (importing, throughput):
        monkeypatch.setattr(module, "PARTS", 2)
    monkeypatch.setattr(age, "ROUNDS", 1)
    monkeypatch.setattr(startup, "KILLS", 1)
    monkeypatch.setattr(latency, "SECONDS", 3)
    monkeypatch.setattr(latency, "WARM_UP", 2)
    known = catalog()

    def measured(name: str, records: int) -> dict[str, Any]:
        result: dict[str, Any] = run(known[name], records, homes, Progress(quiet=True), False)
        return result

    return measured
