"""Benchmarks of real nodes: two processes on loopback, everything durable and co-signed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_http
import msgspec
import nodes
import peers
import trio

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.proving import prove_record
from tallystick.node.rpc import RpcClient
from tallystick.protocol.sketch import CELL_BYTES

BATCH = 4096
IN_FLIGHT = 6
START_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
_encode = msgspec.msgpack.Encoder().encode


def _drafts(first: int, count: int) -> bytes:
    """Drafts whose records have about 180 bytes, over fifty subjects."""
    return _encode(
        [
            Draft(
                f"request-{n:012}-{'x' * 60}",
                "context-tokens",
                f"project-{n % 50:03}-{'y' * 48}",
                n % 5000,
                START_US + n * 100,
            )
            for n in range(first, first + count)
        ]
    )


def _memory_mb(party: nodes.Party) -> dict[str, float]:
    """Resident memory of a node: its own, and with the files that it maps."""
    assert party.process is not None
    text = Path(f"/proc/{party.process.pid}/status").read_text()
    rows = dict(line.split(":", 1) for line in text.splitlines())
    names = {"own": "RssAnon", "resident": "VmRSS", "peak": "VmHWM"}
    return {name: round(int(rows[key].split()[0]) / 1024, 1) for name, key in names.items()}


async def _load(party: nodes.Party, start: int, records: int) -> float:
    """Emit deltas, several batches in flight; seconds until the peer co-signed them all."""
    async with RpcClient.connect(open_home(party.home)) as client:
        waiting: deque[trio.Event] = deque()
        size = 0

        async def send(first: int, done: trio.Event) -> None:
            nonlocal size
            drafts = _drafts(first, min(BATCH, start + records - first))
            answer = await client.call("emit", channel=None, drafts=drafts)
            size = max(size, answer["size"])
            done.set()

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for first in range(start, start + records, BATCH):
                while len(waiting) >= IN_FLIGHT:
                    await waiting.popleft().wait()
                done = trio.Event()
                waiting.append(done)
                nursery.start_soon(send, first, done)
        await client.call("wait", channel=None, size=size, seconds=600.0)
        return time.perf_counter() - began


def throughput(folder: Path, records: int) -> dict[str, Any]:
    """Deltas a second in import-like batches, durable and co-signed on both sides."""
    with nodes.channel(folder) as (acme, beta):
        trio.run(_load, acme, 0, BATCH)  # warm up
        seconds = trio.run(_load, acme, BATCH, records)
        memory = {"provider": _memory_mb(acme), "consumer": _memory_mb(beta)}
    return {
        "records": records,
        "seconds": round(seconds, 3),
        "deltas_per_second": round(records / seconds),
        "memory_mb": memory,
    }


async def _singles(party: nodes.Party, count: int) -> list[float]:
    """Milliseconds from emit to co-signed, one delta at a time."""
    taken = []
    async with RpcClient.connect(open_home(party.home)) as client:
        for n in range(count):
            drafts = _drafts(n, 1)
            began = time.perf_counter()
            answer = await client.call("emit", channel=None, drafts=drafts)
            await client.call("wait", channel=None, size=answer["size"], seconds=30.0)
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def latency(folder: Path, records: int) -> dict[str, Any]:
    """Milliseconds until a delta alone is co-signed, beside what an fsync takes here."""
    count = min(records, 2000)
    with nodes.channel(folder) as (acme, _):
        taken = sorted(trio.run(_singles, acme, count + 50)[50:])
    return {
        "records": count,
        "p50_ms": round(statistics.median(taken), 3),
        "p99_ms": round(taken[int(count * 0.99)], 3),
        "fsync_p50_ms": round(_fsync_ms(folder), 3),
    }


def _fsync_ms(folder: Path) -> float:
    """The median time of a small write and its fsync."""
    taken = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def disk(folder: Path, records: int) -> dict[str, Any]:
    """Bytes on disk a delta, at the provider, after a clean stop."""
    with nodes.channel(folder) as (acme, _):
        trio.run(_load, acme, 0, records)
    used = sum(file.stat().st_blocks * 512 for file in acme.home.rglob("*") if file.is_file())
    return {"records": records, "bytes_per_delta": round(used / records, 1)}


def proof(folder: Path, records: int) -> dict[str, Any]:
    """Time and size of a delta's proof."""
    with nodes.channel(folder) as (acme, _):
        trio.run(_load, acme, 0, records)
    books = Books.open(open_home(acme.home), read_only=True)
    channel, _ = next(iter(books.channels.values()))
    taken, sizes = [], []
    for n in range(200):
        began = time.perf_counter()
        made = prove_record(channel, channel.own, 1 + n * (records - 1) // 200)
        taken.append((time.perf_counter() - began) * 1000)
        sizes.append(len(made.proof) + len(made.leaf))
    books.close()
    return {
        "records": records,
        "p50_ms": round(statistics.median(taken), 3),
        "bytes": round(statistics.median(sizes)),
    }


def audit(folder: Path, records: int) -> dict[str, Any]:
    """A cold verification of a full bundle: every signature, record, hash and total."""
    with nodes.channel(folder) as (acme, _):
        trio.run(_load, acme, 0, records)
        period = acme.json("derive")["lines"][0]["period"]
        acme.tally("checkpoint", period)
        file = folder / "full.tally"
        acme.tally("bundle", period, "-o", str(file), "--full")
    began = time.perf_counter()
    acme.tally("verify", str(file))
    seconds = time.perf_counter() - began
    return {
        "records": records,
        "seconds": round(seconds, 3),
        "records_per_second": round(records / seconds),
        "bundle_bytes": file.stat().st_size,
    }


_MAP = """\
time = { column = "time", zone = "UTC" }
id = { column = "id" }
subject = { column = "subject" }
[[meter]]
meter = "context-tokens"
quantity = { column = "quantity" }
"""


def _export(file: Path, records: int) -> None:
    """A CSV of the deltas that `_load` emits."""
    with file.open("w") as out:
        out.write("time,id,subject,quantity\n")
        for first in range(0, records, BATCH):
            drafts = msgspec.msgpack.decode(
                _drafts(first, min(BATCH, records - first)), type=list[Draft]
            )
            out.writelines(
                f"{_iso(d.occurred_at)},{d.id},{d.subject},{d.quantity}\n" for d in drafts
            )


def _iso(instant_us: int) -> str:
    second, rest = divmod(instant_us, 1_000_000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second)) + f".{rest:06}"


def compare(folder: Path, records: int) -> dict[str, Any]:
    """The whole verb `compare`: an export of all records against the record."""
    export, mapping = folder / "export.csv", folder / "map.toml"
    _export(export, records)
    mapping.write_text(_MAP)
    with nodes.channel(folder) as (acme, beta):
        trio.run(_load, acme, 0, records)
        period = acme.json("derive")["lines"][0]["period"]
        verb = ("compare", str(export), "--period", period, "--map", str(mapping))
        result = peers.measured(beta.command(*verb), folder / "said")
    return {
        "records": records,
        "seconds": result["seconds"],
        "rows_per_second": round(records / result["seconds"]),
        "peak_mb": result["peak_mb"],
    }


def compare_peers(folder: Path, records: int) -> dict[str, Any]:
    """What other tools do of `compare`'s work, and compare: the same two files, in one run."""
    theirs, ours, mapping = folder / "theirs.csv", folder / "ours.csv", folder / "map.toml"
    _export(theirs, records)
    planted = peers.plant(theirs, ours, records)
    mapping.write_text(_MAP)
    results: dict[str, Any] = {
        "records": records,
        "planted": {k: len(v) for k, v in planted.items()},
    }
    events, said = folder / "events.csv", folder / "said"
    with nodes.channel(folder) as (acme, beta):
        trio.run(_load, acme, 0, records)
        period = acme.json("derive")["lines"][0]["period"]
        tool: dict[str, Any] = {"version": "tally compare (against the record)"}
        for name, file in (("equal", theirs), ("differing", ours)):
            verb = ("compare", str(file), "--period", period, "--map", str(mapping))
            command = beta.command(*verb, "--csv", str(events), "--json")
            tool[name] = peers.measured(command, said)
            document = json.loads(tool[name].pop("said"))
            tool[name]["found"] = peers.score(peers.read_events(events), planted)
            tool[name]["causes"] = [cause["says"] for cause in document["causes"]]
        results["tally"] = tool
    for name in peers.PACKAGES:
        tool = {}
        for size, file in (("equal", theirs), ("differing", ours)):
            tool[size] = peers.run_peer(name, file, theirs, folder)
            tool["version"] = tool[size].pop("said") or name
            tool[size]["found"] = peers.score(tool[size]["found"], planted)
        results[name] = tool
    return results


def importing(folder: Path, records: int) -> dict[str, Any]:
    """The whole verb `import --wait` of a CSV, with the peak memory of all three processes."""
    export, mapping = folder / "export.csv", folder / "map.toml"
    _export(export, records)
    mapping.write_text(_MAP)
    with nodes.channel(folder) as (acme, beta):
        began = time.perf_counter()
        acme.tally("import", str(export), "--map", str(mapping), "--wait")
        seconds = time.perf_counter() - began
        memory = {"provider": _memory_mb(acme), "consumer": _memory_mb(beta)}
    client_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "records": records,
        "seconds": round(seconds, 3),
        "deltas_per_second": round(records / seconds),
        "memory_mb": memory,
        "largest_process_mb": round(client_kb / 1024, 1),
    }


DIFFERENCES = (10, 100, 1000, 10_000)  # of the rows of a reconciliation, as far as there are more


def _rows(file: Path, records: int, differences: int) -> None:
    """A CSV of rows of one hour, of which some have other quantities than without differences."""
    step = records // differences if differences else 0
    with file.open("w") as out:
        out.write("time,id,subject,quantity\n")
        for n in range(records):
            quantity = 7000 if step and n % step == 0 and n // step < differences else n % 5000
            at = _iso(START_US // HOUR_US * HOUR_US + n * HOUR_US // records)
            out.write(f"{at},request-{n:012},project-{n % 50:03},{quantity}\n")


def reconcile(folder: Path, records: int) -> dict[str, Any]:
    """Sessions between two nodes over sets of all records that differ in more and more rows; each
    row that differs is one at either side, so a session's difference counts it twice.
    """
    export, other, mapping = (folder / name for name in ("ours.csv", "theirs.csv", "map.toml"))
    mapping.write_text(_MAP)
    _rows(other, records, 0)
    found: dict[int, dict[str, Any]] = {}
    with nodes.channel(folder) as (acme, beta):
        period = time.strftime("%Y-%m-%dT%H", time.gmtime(START_US // 1_000_000))
        options = ["--period", period, "--map", str(mapping), "--open", "100000"]
        for differences in (count for count in DIFFERENCES if count <= records):
            _rows(export, records, differences // 2)
            beta.tally("reconcile", "--offer", str(other), *options)
            before = [party.cpu_seconds() for party in (acme, beta)]
            began = time.perf_counter()
            done = acme.tally("reconcile", beta.name, str(export), *options, "--json", check=False)
            seconds = time.perf_counter() - began
            result = json.loads(done.stdout)
            assert result["opened_ours"] + result["opened_theirs"] == differences
            asked, consented = (
                round(party.cpu_seconds() - start, 2)
                for party, start in zip((acme, beta), before, strict=True)
            )
            found[differences] = {
                "cells": result["cells"],
                "cells_per_difference": round(result["cells"] / differences, 2),
                "sketch_bytes": result["cells"] * CELL_BYTES,
                "bytes": result["bytes_sent"] + result["bytes_received"],
                "cpu_seconds": {"asker": asked, "consenter": consented},
                "session_seconds": result["seconds"],
                "seconds_with_reading": round(seconds, 3),
            }
    return {"records": records, "differences": found}


BENCHMARKS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int]] = {
    "throughput": (throughput, 1_000_000),
    "latency": (latency, 1000),
    "audit": (audit, 500_000),
    "disk": (disk, 500_000),
    "proof": (proof, 500_000),
    "compare": (compare, 500_000),
    "import": (importing, 500_000),
    "reconcile": (reconcile, 1_000_000),
    "http": (bench_http.http, 100_000),
}


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description="Measure real nodes on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark")
    parser.add_argument("--records", type=int, help="size (default: each benchmark's own)")
    parser.add_argument("--peers", action="store_true", help="compare: beside other tools")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if not options.json:
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in options.names or BENCHMARKS:
        measure, records = BENCHMARKS[name]
        if name == "compare" and options.peers:
            measure, records = compare_peers, 1_000_000
        with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder:
            result = {"benchmark": name, **measure(Path(folder), options.records or records)}
        if options.json:
            print(json.dumps(result), flush=True)
        elif measure is compare_peers:
            print(peers.show(result))
        else:
            print(
                f"{name}: " + ", ".join(f"{k} {v}" for k, v in result.items() if k != "benchmark")
            )


if __name__ == "__main__":
    main()
