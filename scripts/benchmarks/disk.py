"""Bytes on disk a delta, beside the bytes of its record."""

from __future__ import annotations

import nodes

from benchmarks.bench import Bench, Benchmark
from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.protocol.records import encode_record

SAMPLE = 8192  # records that are looked at for their mean size


def used_bytes(party: nodes.Party) -> int:
    """What a home takes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in party.home.rglob("*") if file.is_file())


def record_bytes(party: nodes.Party, deltas: int) -> float:
    """The mean size of a home's deltas as they are hashed."""
    books = Books.open(open_home(party.home), read_only=True)
    try:
        channel, _ = next(iter(books.channels.values()))
        batches = channel.own.records(1, 1 + min(deltas, SAMPLE))
        sizes = [len(encode_record(record)) for _, records in batches for record in records]
    finally:
        books.close()
    return sum(sizes) / len(sizes)


def disk(bench: Bench) -> None:
    """After a clean stop, at both parties."""
    pair, figures = bench.homes.at(bench.records), bench.figures
    mean = record_bytes(pair.acme, pair.deltas)
    figures.put("deltas", pair.deltas)
    figures.put("bytes_per_delta", used_bytes(pair.acme) / pair.deltas)
    figures.put("consumer_bytes_per_delta", used_bytes(pair.beta) / pair.deltas)
    figures.put("record_bytes", mean)
    figures.put("ratios.of_record", figures.get("bytes_per_delta") / mean)


BENCHMARK = Benchmark("disk", 500_000, disk)
