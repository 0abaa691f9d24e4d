"""Deltas a second in batches as an import sends them: durable and co-signed on both sides."""

from __future__ import annotations

import nodes
import peers_log

from benchmarks import limits, load
from benchmarks.bench import Bench, Benchmark
from benchmarks.memory import memory_mb

PARTS = 5


def throughput(bench: Bench) -> None:
    """The same again and again in one log; the deltas are made before the clock runs."""
    if bench.peers:
        found = peers_log.throughput_peers(bench.folder, bench.records, note=bench.progress.note)
        for name, value in found.items():
            bench.figures.put(name, value)
        return
    figures, part = bench.figures, max(bench.records // PARTS, 1)
    seconds, cpu = [], []
    with nodes.channel(bench.folder) as (acme, beta):
        load.emit(acme, load.batches(0, load.BATCH))  # warm up
        for n in range(PARTS):
            bodies = list(load.batches(load.BATCH + n * part, part))
            with bench.cpu(provider=acme, consumer=beta) as spent:
                seconds.append(load.emit(acme, bodies).seconds)
            cpu.append(spent)
        figures.put("memory_mb", {"provider": memory_mb(acme), "consumer": memory_mb(beta)})
    figures.put("seconds", sum(seconds))
    rate = figures.repeated("deltas_per_second", [part / taken for taken in seconds])
    for name in ("provider", "consumer"):
        each = [one[name] / part * 1e6 for one in cpu]
        bench.in_hashes(name, figures.repeated(f"cpu_us_per_delta.{name}", each))
    figures.put("ratios.of_sha256", rate / bench.limit(limits.HASH))
    figures.put("ratios.of_decode", rate / bench.limit(limits.DECODE))
    figures.put("ratios.of_encode", rate / bench.limit(limits.ENCODE))


BENCHMARK = Benchmark("throughput", 1_000_000, throughput, limits.EXCHANGE)
