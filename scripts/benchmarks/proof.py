"""The proof of a delta under the newest co-signed head: time and bytes."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.home import open_home
from tallystick.node.proving import prove_record

PROOFS = 200


@dataclass(slots=True)
class Proved:
    """Of each proof its milliseconds, by the clock and of the processor, and its bytes."""

    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)


def prove_some(channel: Channel, deltas: int, seed: int = 7) -> Proved:
    """Prove deltas all over our log."""
    found = Proved()
    for index in random.Random(seed).sample(range(1, deltas + 1), min(PROOFS, deltas)):
        began, cpu = time.perf_counter(), time.process_time()
        made = prove_record(channel, channel.own, index)
        found.cpu_ms.append((time.process_time() - cpu) * 1000)
        found.ms.append((time.perf_counter() - began) * 1000)
        found.sizes.append(len(made.proof) + len(made.leaf))
    return found


def proof(bench: Bench) -> None:
    """Made from the provider's store."""
    pair, figures = bench.homes.at(bench.records), bench.figures
    books = Books.open(open_home(pair.acme.home), read_only=True)
    try:
        channel, _ = next(iter(books.channels.values()))
        with bench.cpu():
            proved = prove_some(channel, pair.deltas)
    finally:
        books.close()
    figures.repeated("p50_ms", proved.ms)
    median = figures.repeated("p50_cpu_ms", proved.cpu_ms)
    figures.repeated("bytes", proved.sizes)
    figures.put("ratios.hashes", median / 1000 * bench.limit(limits.HASH))


BENCHMARK = Benchmark("proof", 500_000, proof, (limits.HASH,))
