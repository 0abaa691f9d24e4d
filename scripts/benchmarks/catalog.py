"""Every benchmark: the modules here that have a `BENCHMARK`, in the order in which all run."""

from __future__ import annotations

import importlib
import pkgutil

import benchmarks
from benchmarks.bench import Benchmark

# Quick and central ones first; what is not named comes after these, by name.
ORDER = (
    "throughput", "stages", "latency", "import", "derive", "proof", "disk", "start-up", "catch-up",
    "audit", "compare", "reconcile", "http", "channels", "age",
)  # fmt: skip


def catalog() -> dict[str, Benchmark]:
    """The benchmarks by name."""
    found = {}
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("__"):
            continue
        benchmark = getattr(importlib.import_module(f"benchmarks.{module.name}"), "BENCHMARK", None)
        if isinstance(benchmark, Benchmark):
            found[benchmark.name] = benchmark

    def place(name: str) -> tuple[int, str]:
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    return {name: found[name] for name in sorted(found, key=place)}
