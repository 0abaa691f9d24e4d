"""Sessions between two private sets of all records that differ in more and more rows."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import nodes

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark
from benchmarks.exports import MAP
from benchmarks.load import START_US, iso
from tallystick.protocol.sketch import CELL_BYTES

DIFFERENCES = (10, 100, 1000, 10_000)  # of the rows, as far as there are more
HOUR_US = 3_600_000_000
REPEATS = 3

Samples = dict[str, list[float]]


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
    folder, records, figures = bench.folder, bench.records, bench.figures
    ours, other, mapping = (folder / name for name in ("ours.csv", "theirs.csv", "map.toml"))
    mapping.write_text(MAP)
    _rows(other, records, 0)
    with nodes.channel(folder) as (acme, beta):
        period = time.strftime("%Y-%m-%dT%H", time.gmtime(START_US // 1_000_000))
        options = ["--period", period, "--map", str(mapping), "--open", "100000"]
        for differences in (count for count in DIFFERENCES if count <= records):
            _rows(ours, records, differences // 2)
            found: Samples = defaultdict(list)
            for turn in range(REPEATS):
                bench.progress.note(f"reconcile: {differences} differ, {turn + 1} of {REPEATS}")
                beta.tally("reconcile", "--offer", str(other), *options)
                with bench.cpu(provider=acme, consumer=beta) as spent:
                    began = time.perf_counter()
                    verb = ("reconcile", beta.name, str(ours), *options, "--json")
                    done = acme.tally(*verb, check=False)
                    found["seconds_with_reading"].append(time.perf_counter() - began)
                result = json.loads(done.stdout)
                assert result["opened_ours"] + result["opened_theirs"] == differences
                found["session_seconds"].append(result["seconds"])
                for role, side in (("asker", "provider"), ("consenter", "consumer")):
                    found[f"cpu_seconds.{role}"].append(spent[side])
                found["cells"].append(result["cells"])
                found["cells_per_difference"].append(result["cells"] / differences)
                found["sketch_bytes"].append(result["cells"] * CELL_BYTES)
                found["bytes"].append(result["bytes_sent"] + result["bytes_received"])
            for name, samples in found.items():
                figures.repeated(f"differences.{differences}.{name}", samples)


NEEDED = (limits.HASH, limits.DECODE, limits.FSYNC, limits.TURN)
BENCHMARK = Benchmark("reconcile", 200_000, reconcile, NEEDED)
