"""What grows with a log's age: the same work in a small and in a large log, and the ratios.

Everything is measured in turn in both, so that what else the machine does meets both alike. A ratio
says how many times dearer the large log is; those of processor time mean most. They should stay
below 1.5.
"""

from __future__ import annotations

import random
from collections import defaultdict
from statistics import median

from benchmarks import limits, load
from benchmarks.bench import Bench, Benchmark
from benchmarks.catchup import absence
from benchmarks.derive import derive_ms
from benchmarks.disk import record_bytes, used_bytes
from benchmarks.figures import tidy
from benchmarks.homes import Pair
from benchmarks.proof import prove_some
from benchmarks.startup import started
from tallystick.node.books import Books
from tallystick.node.home import open_home

ROUNDS = 3
SMALLER = 100  # the small log has so many times fewer deltas,
LEAST = 100_000  # but not fewer than these, if that leaves a difference
WORK = 50_000  # deltas of each piece of work, but no more than a quarter of the small log
SCATTERED = 1_000  # repeated ones from all over the log
DERIVES = 5

Samples = dict[str, list[float]]


def sizes(records: int) -> tuple[int, int]:
    """The small log's deltas and the large one's."""
    large = max(records, 2)
    return min(max(large // SMALLER, LEAST), large // 2), large


def _repeat(bench: Bench, pair: Pair, found: Samples, name: str, numbers: list[int]) -> None:
    """Emit deltas that are in the log already."""
    groups = [numbers[start : start + load.BATCH] for start in range(0, len(numbers), load.BATCH)]
    bodies = [load.drafts(group) for group in groups]
    with bench.cpu(provider=pair.acme, consumer=pair.beta) as spent:
        sent = load.emit(pair.acme, bodies, wait=False)
    assert sent.duplicates == len(numbers)
    found[f"{name}.per_second"].append(len(numbers) / sent.seconds)
    found[f"{name}.cpu_us"].append(spent["provider"] / len(numbers) * 1e6)


def _round(bench: Bench, pair: Pair, found: Samples, dice: random.Random) -> None:
    """Every kind of work once."""
    work = max(min(WORK, sizes(bench.records)[0] // 4), 1)
    try:
        for name, value in started(pair.acme).items():
            found[f"start_up.{name}"].append(value)
        pair.beta.start()
        pair.connected()
        with bench.cpu(provider=pair.acme, consumer=pair.beta) as spent:
            seconds = pair.emit(work).seconds
        found["emit.per_second"].append(work / seconds)
        for name in ("provider", "consumer"):
            found[f"emit.cpu_us_{name}"].append(spent[name] / work * 1e6)
        first = dice.randrange(pair.deltas - work + 1)
        scattered = dice.sample(range(pair.deltas), min(SCATTERED, work))
        for name, numbers in (
            ("dedupe_in_a_row", list(range(first, first + work))),
            ("dedupe_scattered", scattered),
        ):
            for time in (name, f"{name}_again"):
                _repeat(bench, pair, found, time, numbers)
        caught = absence(bench, pair, work)
        found["catch_up.per_second"].append(work / caught.seconds)
        for name in ("provider", "consumer"):
            found[f"catch_up.cpu_us_{name}"].append(caught.cpu[name] / work * 1e6)
            found[f"catch_up.own_peak_mb_{name}"].append(caught.memory[name]["own_peak"])
    finally:
        pair.beta.stop()
        pair.acme.stop()
    derived = [derive_ms(pair) for _ in range(DERIVES)]
    found["open.cpu_ms"].append(median(opening for opening, _ in derived))
    found["derive.cpu_ms"].append(median(deriving for _, deriving in derived))
    books = Books.open(open_home(pair.acme.home), read_only=True)
    try:
        channel, _ = next(iter(books.channels.values()))
        which = dice.randrange(2**32)
        for time in ("proof", "proof_again"):
            proved = prove_some(channel, pair.deltas, which)
            found[f"{time}.cpu_ms"].append(median(proved.cpu_ms))
    finally:
        books.close()
    found["proof.bytes"].append(median(proved.sizes))


def _tenths(pair: Pair) -> list[dict[str, float]]:
    """What a delta took while the log was built, by tenths of it or larger parts: so the merges of
    an index, which come rarely, are in it.
    """
    pieces, found = pair.pieces(), []
    parts = min(10, len(pieces))
    for n in range(parts):
        of = pieces[n * len(pieces) // parts : (n + 1) * len(pieces) // parts]
        deltas = sum(piece["deltas"] for piece in of)
        found.append(
            {
                "per_second": tidy(deltas / sum(piece["seconds"] for piece in of)),
                "cpu_us_provider": tidy(sum(piece["provider"] for piece in of) / deltas * 1e6),
                "cpu_us_consumer": tidy(sum(piece["consumer"] for piece in of) / deltas * 1e6),
            }
        )
    return found


def age(bench: Bench) -> None:
    """Builds two pairs of homes, or goes on with those that were kept."""
    figures, dice = bench.figures, random.Random(7)
    pairs = dict(zip(("small", "large"), map(bench.homes.at, sizes(bench.records)), strict=True))
    found: dict[str, Samples] = {name: defaultdict(list) for name in pairs}
    for turn in range(ROUNDS):
        for name, pair in pairs.items():
            bench.progress.note(f"age: round {turn + 1} of {ROUNDS}, {name} log")
            _round(bench, pair, found[name], dice)
    for name, pair in pairs.items():
        figures.put(f"{name}.deltas", pair.deltas)
        tenths = _tenths(pair)
        figures.put(f"{name}.build_tenths", tenths)
        for figure, value in tenths[-1].items():
            figures.put(f"{name}.build.{figure}", value)
        for figure, samples in found[name].items():
            figures.repeated(f"{name}.{figure}", samples)
        for side, party in (("provider", pair.acme), ("consumer", pair.beta)):
            figures.put(f"{name}.disk.bytes_per_delta_{side}", used_bytes(party) / pair.deltas)
        figures.put(f"{name}.disk.record_bytes", record_bytes(pair.acme, pair.deltas))
    build = [f"build.{figure}" for figure in _tenths(pairs["large"])[-1]]
    for figure in (*build, *found["large"], "disk.bytes_per_delta_provider"):
        small, large = (figures.get(f"{name}.{figure}") for name in pairs)
        if small and large:
            dearer = small / large if figure.endswith("per_second") else large / small
            figures.put(f"ratios.{figure}", dearer)
    # A store may take 1.3 times the record's bytes and 40 more.
    allowed = 1.3 * figures.get("large.disk.record_bytes") + 40
    taken = figures.get("large.disk.bytes_per_delta_provider")
    figures.put("ratios.bytes_of_allowed", taken / allowed)


BENCHMARK = Benchmark("age", 1_000_000, age, (limits.HASH, limits.DECODE, limits.FSYNC))
