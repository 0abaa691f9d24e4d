"""A cold verification of a full bundle: every signature, record, hash and total."""

from __future__ import annotations

import peers

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark

REPEATS = 3


def audit(bench: Bench) -> None:
    """The whole verb `verify`, in a process of its own."""
    pair, figures = bench.homes.at(bench.records, "closed"), bench.figures
    with pair.running():
        period = pair.acme.json("derive")["lines"][0]["period"]
        pair.acme.tally("checkpoint", period, "--force")
        file = bench.folder / "full.tally"
        pair.acme.tally("bundle", period, "-o", str(file), "--full")
    command = pair.acme.command("verify", str(file))
    runs = [peers.measured(command, bench.folder / "said") for _ in range(REPEATS)]
    assert not any(run["code"] for run in runs), runs
    figures.repeated("seconds", [run["seconds"] for run in runs])
    figures.repeated("cpu_seconds.verifier", [run["cpu_seconds"] for run in runs])
    rate = figures.repeated("records_per_second", [pair.deltas / run["seconds"] for run in runs])
    cpu = [run["cpu_seconds"] / pair.deltas * 1e6 for run in runs]
    bench.in_hashes("verifier", figures.repeated("cpu_us_per_record", cpu))
    figures.put("peak_mb", max(run["peak_mb"] for run in runs))
    figures.put("bundle_bytes", file.stat().st_size)
    figures.put("ratios.of_sha256", rate / bench.limit(limits.HASH))
    figures.put("ratios.of_decode", rate / bench.limit(limits.DECODE))


BENCHMARK = Benchmark(
    "audit", 500_000, audit, (limits.HASH, limits.VERIFY, limits.ENCODE, limits.DECODE)
)
