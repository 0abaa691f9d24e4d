"""The consumer's node was away: how fast it gets what came meanwhile, and what both hold for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import trio

from benchmarks import limits, load
from benchmarks.bench import Bench, Benchmark
from benchmarks.homes import Pair
from benchmarks.memory import peaks
from tallystick.node.home import open_home
from tallystick.node.rpc import RpcClient

REPEATS = 3


@dataclass(slots=True)
class Caught:
    """One absence and its end."""

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)


def absence(bench: Bench, pair: Pair, records: int) -> Caught:
    """Both nodes run. The consumer's is stopped, the provider's records deltas, and the consumer's
    starts again; the clock runs from when it is ready until it has co-signed them all.
    """
    pair.beta.stop()
    size = pair.emit(records, wait=False).size
    found = Caught()
    pair.beta.start()
    with (
        peaks(provider=pair.acme, consumer=pair.beta) as found.memory,
        bench.cpu(provider=pair.acme, consumer=pair.beta) as found.cpu,
    ):
        began = time.perf_counter()
        trio.run(_cosigned, pair, size)
        found.seconds = time.perf_counter() - began
    return found


async def _cosigned(pair: Pair, size: int) -> None:
    async with RpcClient.connect(open_home(pair.acme.home)) as client:
        await client.call("wait", channel=None, size=size, seconds=load.WAIT_SECONDS)


def catchup(bench: Bench) -> None:
    """Several absences one after the other, of the size each."""
    pair, figures = bench.homes.at(bench.records), bench.figures
    with pair.running():
        found = [absence(bench, pair, bench.records) for _ in range(REPEATS)]
    rate = figures.repeated("records_per_second", [bench.records / one.seconds for one in found])
    figures.put("seconds", sum(one.seconds for one in found))
    for name in ("provider", "consumer"):
        cpu = [one.cpu[name] / bench.records * 1e6 for one in found]
        bench.in_hashes(name, figures.repeated(f"cpu_us_per_record.{name}", cpu))
        for figure in ("own_before", "own_peak", "resident_peak"):
            memory = [one.memory[name][figure] for one in found]
            figures.repeated(f"memory_mb.{name}.{figure}", memory)
    figures.put("ratios.of_sha256", rate / bench.limit(limits.HASH))
    figures.put("ratios.of_decode", rate / bench.limit(limits.DECODE))


BENCHMARK = Benchmark("catch-up", 300_000, catchup, limits.EXCHANGE)
