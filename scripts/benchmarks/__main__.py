"""Measures real nodes on this machine, and holds results against earlier ones."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nodes
import peers_log

from benchmarks import against, compare, limits, machine, showing
from benchmarks.bench import Bench, Benchmark
from benchmarks.catalog import catalog
from benchmarks.homes import Homes, NoRoom
from benchmarks.progress import Progress
from tallystick.protocol.errors import TallyError, lone_error

PEERS_RECORDS = {"compare": compare.PEERS_RECORDS, "throughput": peers_log.RECORDS}


def _options(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark")
    parser.add_argument("--records", type=int, help="size (default: each benchmark's own)")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with earlier --json")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="measure nothing: take results from this file"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="build homes here and use them again next time"
    )
    parser.add_argument("--peers", action="store_true", help="compare, throughput: beside others")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    if options.records is not None and options.records < 1:
        parser.error("--records takes 1 or more")
    return options


def run(benchmark: Benchmark, records: int, homes: Homes, progress: Progress, peers: bool) -> Any:
    """One benchmark's result."""
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as name:
        bench = Bench(records, Path(name), homes, progress, peers)
        facts, before = machine.facts(bench.folder), machine.load_average()
        began = time.monotonic()
        limits.measure(benchmark.limits, bench.folder, bench.figures)
        benchmark.measure(bench)
    return {
        "benchmark": benchmark.name,
        "records": records,
        **bench.figures.document,
        "spread": bench.figures.spread,
        "took_seconds": round(time.monotonic() - began, 1),
        "machine": {**facts, "load_before": before, "load_after": machine.load_average()},
    }


def main() -> None:
    """Run the benchmarks that are named, or all; 130 when it was interrupted."""
    # To be told to end is an interruption, too, which stops what was started; in the background a
    # shell has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    known = catalog()
    options = _options(list(known))
    try:
        _run(known, options)
    except BaseException as found:  # what a task raised is in a group
        match error := lone_error(found):
            case NoRoom() | against.Unreadable() | nodes.Failed() | TallyError() | TimeoutError():
                print(f"error: {error}", file=sys.stderr)
                raise SystemExit(2) from None
            case KeyboardInterrupt():
                raise SystemExit(130) from None
            case _:
                raise


def _run(known: dict[str, Benchmark], options: argparse.Namespace) -> None:
    results: list[dict[str, Any]] = []
    earlier = against.read(options.against) if options.against else None
    if options.results:
        results = against.read(options.results)
        results = [r for r in results if not options.names or r["benchmark"] in options.names]
        for result in results if earlier is None else ():
            print(json.dumps(result)) if options.json else showing.show(result)
    else:
        _measure(known, options, results)
    if earlier is not None:
        rows = against.compare(earlier, results)
        if options.json:
            print(json.dumps({"against": options.against.name, "figures": rows}))
        else:
            against.show(rows, earlier, results)


def _measure(
    known: dict[str, Benchmark], options: argparse.Namespace, results: list[dict[str, Any]]
) -> None:
    progress = Progress()
    with ExitStack() as stack:
        folder = options.keep
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="tallystick-bench-homes-")
            folder = Path(stack.enter_context(made))
        machine.warn_of_memory_disk(Path(tempfile.gettempdir()))
        homes = Homes(folder.resolve(), progress)
        if not options.json:
            showing.show_machine(machine.facts(folder if folder.exists() else Path.cwd()))
        names = options.names or list(known)
        for place, name in enumerate(names, 1):
            records = known[name].records
            if options.peers:
                records = PEERS_RECORDS.get(name, records)
            records = options.records or records
            progress.note(f"{place} of {len(names)}: {name}, {records:,} records")
            result = run(known[name], records, homes, progress, options.peers)
            results.append(result)
            progress.end()
            if options.json:
                print(json.dumps(result), flush=True)
            else:
                showing.show(result)


if __name__ == "__main__":
    main()
