"""The whole verb `compare`: an export of all records against the record; beside other tools."""

from __future__ import annotations

import json

import nodes
import peers

from benchmarks import limits, load
from benchmarks.bench import Bench, Benchmark
from benchmarks.exports import MAP, export

REPEATS = 3
PEERS_RECORDS = 1_000_000  # beside other tools, unless told otherwise
RECORDS = 500_000


def compare(bench: Bench) -> None:
    """Nothing differs: what it costs to find that out."""
    if bench.peers:
        _beside_others(bench)
        return
    figures, folder = bench.figures, bench.folder
    file, mapping = folder / "export.csv", folder / "map.toml"
    export(file, bench.records)
    mapping.write_text(MAP)
    with nodes.channel(folder) as (acme, beta):
        load.emit(acme, load.batches(0, bench.records))
        period = acme.json("derive")["lines"][0]["period"]
        verb = ("compare", str(file), "--period", period, "--map", str(mapping))
        runs = [peers.measured(beta.command(*verb), folder / "said") for _ in range(REPEATS)]
    assert not any(run["code"] for run in runs), runs
    figures.repeated("seconds", [run["seconds"] for run in runs])
    figures.repeated("cpu_seconds.verb", [run["cpu_seconds"] for run in runs])
    rate = figures.repeated("rows_per_second", [bench.records / run["seconds"] for run in runs])
    figures.put("ratios.of_decode", rate / bench.limit(limits.DECODE))
    figures.put("peak_mb", max(run["peak_mb"] for run in runs))


def _beside_others(bench: Bench) -> None:
    """What other tools do of `compare`'s work, and compare: the same two files, in one run."""
    records, folder, figures = bench.records, bench.folder, bench.figures
    theirs, ours, mapping = folder / "theirs.csv", folder / "ours.csv", folder / "map.toml"
    export(theirs, records)
    planted = peers.plant(theirs, ours, records)
    mapping.write_text(MAP)
    figures.put("planted", {k: len(v) for k, v in planted.items()})
    events, said = folder / "events.csv", folder / "said"
    with nodes.channel(folder) as (acme, beta):
        load.emit(acme, load.batches(0, records))
        period = acme.json("derive")["lines"][0]["period"]
        tool: dict[str, object] = {"version": "tally compare (against the record)"}
        for name, file in (("equal", theirs), ("differing", ours)):
            verb = ("compare", str(file), "--period", period, "--map", str(mapping))
            command = beta.command(*verb, "--csv", str(events), "--json")
            run = peers.measured(command, said)
            document = json.loads(run.pop("said"))
            run["found"] = peers.score(peers.read_events(events), planted)
            run["causes"] = [cause["says"] for cause in document["causes"]]
            tool[name] = run
        figures.put("tally", tool)
    for name, packages in peers.PACKAGES.items():
        tool = {}
        bench.progress.note(f"compare: {name}")
        try:
            peers.environment(name, *packages)
        except peers.NotHere as error:
            figures.put(f"not_here.{name}", str(error))
            continue
        for size, file in (("equal", theirs), ("differing", ours)):
            run = peers.run_peer(name, file, theirs, folder)
            tool["version"] = run.pop("said") or name
            run["found"] = peers.score(run["found"], planted)
            tool[size] = run
        figures.put(name, tool)


BENCHMARK = Benchmark("compare", RECORDS, compare, (limits.DECODE, limits.PYTHON))
