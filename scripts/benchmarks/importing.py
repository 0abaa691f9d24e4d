"""The whole verb `import --wait` of a CSV, with the peak memory of all three processes."""

from __future__ import annotations

import nodes
import peers

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark
from benchmarks.exports import MAP, export
from benchmarks.memory import memory_mb

PARTS = 3


def importing(bench: Bench) -> None:
    """Parts of the records one after the other, each a file."""
    figures, folder, part = bench.figures, bench.folder, max(bench.records // PARTS, 1)
    mapping = folder / "map.toml"
    mapping.write_text(MAP)
    runs = []
    with nodes.channel(folder) as (acme, beta):
        for n in range(PARTS):
            file = folder / f"export-{n}.csv"
            export(file, part, n * part)
            command = acme.command("import", str(file), "--map", str(mapping), "--wait")
            with bench.cpu(provider=acme, consumer=beta):
                runs.append(peers.measured(command, folder / "said"))
        figures.put("memory_mb", {"provider": memory_mb(acme), "consumer": memory_mb(beta)})
    assert not any(run["code"] for run in runs), runs
    figures.put("seconds", sum(run["seconds"] for run in runs))
    figures.put("cpu_seconds.importer", sum(run["cpu_seconds"] for run in runs))
    rate = figures.repeated("deltas_per_second", [part / run["seconds"] for run in runs])
    figures.put("importer_peak_mb", max(run["peak_mb"] for run in runs))
    figures.put("ratios.of_sha256", rate / bench.limit(limits.HASH))


BENCHMARK = Benchmark("import", 500_000, importing, limits.EXCHANGE)
