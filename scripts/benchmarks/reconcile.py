"""Sessions between two private sets of all records that differ in more and more rows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nodes

from benchmarks.bench import Bench, Benchmark
from benchmarks.exports import MAP
from benchmarks.load import START_US, iso
from tallystick.protocol.sketch import CELL_BYTES

DIFFERENCES = (10, 100, 1000, 10_000)  # of the rows, as far as there are more
HOUR_US = 3_600_000_000


def _rows(file: Path, records: int, differences: int) -> None:
    """A CSV of rows of one hour, of which some have other quantities than without differences."""
    step = records // differences if differences else 0
    with file.open("w") as out:
        out.write("time,id,subject,quantity\n")
        for n in range(records):
            quantity = 7000 if step and n % step == 0 and n // step < differences else n % 5000
            at = iso(START_US // HOUR_US * HOUR_US + n * HOUR_US // records)
            out.write(f"{at},request-{n:012},project-{n % 50:03},{quantity}\n")


def reconcile(bench: Bench) -> None:
    """Each row that differs is one at either side, so a session's difference counts it twice."""
    folder, records = bench.folder, bench.records
    ours, other, mapping = (folder / name for name in ("ours.csv", "theirs.csv", "map.toml"))
    mapping.write_text(MAP)
    _rows(other, records, 0)
    with nodes.channel(folder) as (acme, beta):
        period = time.strftime("%Y-%m-%dT%H", time.gmtime(START_US // 1_000_000))
        options = ["--period", period, "--map", str(mapping), "--open", "100000"]
        for differences in (count for count in DIFFERENCES if count <= records):
            _rows(ours, records, differences // 2)
            beta.tally("reconcile", "--offer", str(other), *options)
            with bench.cpu(provider=acme, consumer=beta) as spent:
                began = time.perf_counter()
                verb = ("reconcile", beta.name, str(ours), *options, "--json")
                done = acme.tally(*verb, check=False)
                seconds = time.perf_counter() - began
            result = json.loads(done.stdout)
            assert result["opened_ours"] + result["opened_theirs"] == differences
            found = {
                "cells": result["cells"],
                "cells_per_difference": round(result["cells"] / differences, 2),
                "sketch_bytes": result["cells"] * CELL_BYTES,
                "bytes": result["bytes_sent"] + result["bytes_received"],
                "cpu_seconds": {
                    "asker": round(spent["provider"], 2),
                    "consenter": round(spent["consumer"], 2),
                },
                "session_seconds": result["seconds"],
                "seconds_with_reading": round(seconds, 3),
            }
            bench.figures.put(f"differences.{differences}", found)


BENCHMARK = Benchmark("reconcile", 200_000, reconcile)
