"""The balance: what both parties get from what their nodes keep, and from the bare records."""

from __future__ import annotations

import time

import peers

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark
from benchmarks.homes import Pair
from tallystick.node import queries
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.home import open_home
from tallystick.protocol.derive import LineKey, Tally

REPEATS = 5


def derive_ms(pair: Pair) -> tuple[float, float]:
    """Milliseconds of this process to open the provider's books, and to derive from them."""
    started = time.process_time()
    books = Books.open(open_home(pair.acme.home), read_only=True)
    try:
        opened = time.process_time()
        channel, closer = next(iter(books.channels.values()))
        queries.derive(channel, closer)
        done = time.process_time()
    finally:
        books.close()
    return (opened - started) * 1000, (done - opened) * 1000


def _fold(channel: Channel) -> dict[LineKey, tuple[int, int]]:
    """Totals and counts by line from every record of our log, as if nothing else was kept."""
    found: dict[LineKey, tuple[int, int]] = {}
    for _, records in channel.own.records(0, channel.own.durable_size):
        for key, change in channel.own.folder.fold(records).items():
            total, deltas = found.get(key, (0, 0))
            found[key] = total + change.quantity, deltas + change.deltas
    return found


def _plain(tallies: dict[LineKey, Tally]) -> dict[LineKey, tuple[int, int]]:
    return {key: (tally.total, tally.deltas) for key, tally in tallies.items()}


def derive(bench: Bench) -> None:
    """Without a node: the store of either party is enough."""
    pair, figures = bench.homes.at(bench.records), bench.figures
    mine, theirs = (party.json("derive") for party in (pair.acme, pair.beta))
    assert mine["digest"] == theirs["digest"]
    figures.put("lines", len(mine["lines"]))
    command, said = pair.acme.command("derive"), bench.folder / "said"
    runs = [peers.measured(command, said) for _ in range(REPEATS)]
    figures.repeated("verb_seconds", [run["seconds"] for run in runs])
    figures.repeated("cpu_seconds.verb", [run["cpu_seconds"] for run in runs])
    times = [derive_ms(pair) for _ in range(REPEATS)]
    figures.repeated("open_cpu_ms", [opening for opening, _ in times])
    figures.repeated("derive_cpu_ms", [deriving for _, deriving in times])
    books = Books.open(open_home(pair.acme.home), read_only=True)
    try:
        channel, _ = next(iter(books.channels.values()))
        began = time.process_time()
        found = _fold(channel)
        rate = pair.deltas / (time.process_time() - began)
        assert found == _plain(channel.own.tallies())
    finally:
        books.close()
    figures.put("from_records_per_second", rate)
    figures.put("ratios.of_decode", rate / bench.limit(limits.DECODE))


BENCHMARK = Benchmark("derive", 500_000, derive, (limits.DECODE, limits.PYTHON))
