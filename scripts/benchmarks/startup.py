"""A start with a log, after a stop and after a kill: time until ready, processor, memory."""

from __future__ import annotations

import time

import nodes

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark
from benchmarks.figures import Figures
from benchmarks.homes import Pair
from benchmarks.memory import memory_mb

REPEATS = 5
KILLS = 3
UNWRITTEN = 20_000  # deltas before a kill, whose index entries and balances were in memory only


def started(party: nodes.Party) -> dict[str, float]:
    """Start a node: what it took until it was ready, and what it holds then."""
    began = time.perf_counter()
    party.start()
    ready = (time.perf_counter() - began) * 1000
    memory = memory_mb(party)
    return {
        "ready_ms": ready,
        "cpu_ms": party.cpu_seconds() * 1000,
        "own_mb": memory["own"],
        "resident_mb": memory["resident"],
    }


def put(figures: Figures, name: str, runs: list[dict[str, float]]) -> None:
    """Each figure of some starts, with its spread."""
    for figure in runs[0]:
        figures.repeated(f"{name}.{figure}", [run[figure] for run in runs])


def _killed(pair: Pair, deltas: int) -> dict[str, float]:
    with pair.running():
        pair.emit(deltas)
        pair.acme.kill()
        return started(pair.acme)


def startup(bench: Bench) -> None:
    """The provider's node, the peer's being away; after a kill the peer is there."""
    pair, figures = bench.homes.at(bench.records), bench.figures
    stopped = []
    for _ in range(REPEATS):
        try:
            stopped.append(started(pair.acme))
        finally:
            pair.acme.stop()
    deltas = min(UNWRITTEN, bench.records)
    killed = [_killed(pair, deltas) for _ in range(KILLS)]
    put(figures, "after_stop", stopped)
    put(figures, "after_kill", killed)
    python = bench.limit(limits.PYTHON)
    figures.put("ratios.of_bare_python", figures.get("after_stop.ready_ms") / python)


BENCHMARK = Benchmark("start-up", 500_000, startup, (limits.PYTHON, limits.FSYNC))
