"""The work of two nodes by what people use for it now, and by two nodes: one run, in turns.

An author appends records of about 180 bytes in batches, and the other side has them on its disk,
says so, and the author knows. Then single records, each waited for. Each way is a script in
`bench_peers`, in an environment of its own under `.bench/`. What they give differs more than what
they take: `GIVES` says it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nodes
import peers
import trio
from benchmarks import load
from peers import NotHere

from tallystick.node.home import open_home
from tallystick.node.rpc import RpcClient

RECORDS = 100_000
SINGLES = 200
ROUNDS = 3
LIMIT_SECONDS = 900
SCRIPTS = peers.HERE / "bench_peers"
OURS = "tallystick"

DISKS, DISK, IDS = "on both disks", "on one disk", "each id once"
CHAIN, CHECKED = "order fixed by hashes", "checked there"
PROOFS, BLOCKS = "proofs of records", "proofs of batches"
SIGNED, COSIGNED = "author signs", "other side signs"
RULES, ENCRYPTED = "rules checked there", "encrypted link"


@dataclass(frozen=True)
class Way:
    """One way to do the work: its script's arguments, how to get what it needs, what it gives."""

    label: str
    script: str
    arguments: tuple[str, ...]
    gives: tuple[str, ...]
    # The start of the command, and what to add to the environment. Installs what is missing if
    # told to, and raises `NotHere` if something is missing then.
    prepare: Callable[[bool], tuple[list[str], dict[str, str]]]


def _node(install: bool) -> tuple[list[str], dict[str, str]]:
    node, npm, folder = shutil.which("node"), shutil.which("npm"), peers.FOLDER / "hypercore"
    complete = folder / "node_modules" / ".package-lock.json"  # npm writes it last
    if not node:
        raise NotHere("needs Node.js; on Debian: apt-get install nodejs npm")
    if install and npm and not complete.exists():
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--prefix", str(folder), "--no-fund", "--no-audit"]
        subprocess.run([npm, "install", *options, "hypercore@11"], stdout=sys.stderr)
    if not complete.exists():
        raise NotHere("needs hypercore: npm install --prefix .bench/hypercore hypercore@11")
    return [node], {"NODE_PATH": str(folder / "node_modules")}


def _postgres(install: bool) -> tuple[list[str], dict[str, str]]:
    if not shutil.which("initdb") and not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        raise NotHere("needs PostgreSQL; on Debian: apt-get install postgresql")
    packages = ("psycopg[binary]>=3.2", "cryptography")
    if install or peers.has_environment("postgres", *packages):
        return [str(peers.environment("postgres", *packages))], {}
    raise NotHere(f"needs a driver: pip install {shlex.join(packages)}")


def _python(install: bool) -> tuple[list[str], dict[str, str]]:
    return [sys.executable], {}


def _pymerkle(install: bool) -> tuple[list[str], dict[str, str]]:
    if not find_spec("pymerkle"):
        raise NotHere("needs pymerkle: pip install pymerkle")
    return [sys.executable], {}


EVERYTHING = (DISKS, IDS, CHAIN, CHECKED, RULES, PROOFS, SIGNED, COSIGNED, ENCRYPTED)
WAYS = {
    "hypercore": Way(
        "hypercore, a block each, unsynced",
        "log_hypercore.js",
        ("plain",),
        (CHAIN, CHECKED, PROOFS, SIGNED, ENCRYPTED),
        _node,
    ),
    "hypercore-synced": Way(
        "hypercore, a block each, synced",
        "log_hypercore.js",
        ("synced",),
        (DISKS, CHAIN, CHECKED, PROOFS, SIGNED, ENCRYPTED),
        _node,
    ),
    "hypercore-blocks": Way(
        "hypercore, a block a batch, synced",
        "log_hypercore.js",
        ("blocks",),
        (DISKS, CHAIN, CHECKED, BLOCKS, SIGNED, ENCRYPTED),
        _node,
    ),
    "postgres": Way(
        "PostgreSQL, replicated",
        "log_postgres.py",
        ("replicated",),
        (DISKS, IDS, CHAIN),
        _postgres,
    ),
    "postgres-acknowledged": Way(
        "PostgreSQL, acknowledged",
        "log_postgres.py",
        ("acknowledged",),
        (DISKS, IDS, CHAIN, CHECKED, SIGNED, COSIGNED),
        _postgres,
    ),
    "sqlite": Way(
        "SQLite at both ends, a socket",
        "log_sqlite.py",
        (),
        (DISKS, IDS, CHAIN, CHECKED),
        _python,
    ),
    "pymerkle": Way(
        "pymerkle in SQLite, one side",
        "log_pymerkle.py",
        ("sqlite",),
        (DISK, CHAIN, PROOFS),
        _pymerkle,
    ),
    "pymerkle-memory": Way(
        "pymerkle in memory, one side",
        "log_pymerkle.py",
        ("memory",),
        (CHAIN, PROOFS),
        _pymerkle,
    ),
}


def run_way(name: str, records: int, singles: int, folder: Path, install: bool) -> dict[str, Any]:
    """One run of one way; `NotHere` if what it needs is missing."""
    way = WAYS[name]
    start, environment = way.prepare(install)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder) as place:
        command = [*start, str(SCRIPTS / way.script), place, str(records), str(singles)]
        with subprocess.Popen(
            [*command, *way.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
        ) as child:
            try:
                said, errors = child.communicate(timeout=LIMIT_SECONDS)
            except BaseException:
                child.terminate()  # and not kill: it has processes to stop, too
                raise
    if child.returncode:
        raise RuntimeError(f"{way.script} {' '.join(way.arguments)}:\n{errors[-2000:]}")
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def run_ours(records: int, singles: int, folder: Path) -> dict[str, Any]:
    """The same by two nodes, with the program that emits on the author's side."""
    with tempfile.TemporaryDirectory(prefix=f"{OURS}-", dir=folder) as place:
        with nodes.channel(Path(place)) as (acme, beta):

            def used() -> list[float]:
                return [time.process_time() + acme.cpu_seconds(), beta.cpu_seconds()]

            load.emit(acme, load.batches(0, load.BATCH))  # warm up
            before = used()
            seconds = load.emit(acme, load.batches(load.BATCH, records)).seconds
            after = used()
            taken = trio.run(_singles, acme, load.BATCH + records, singles)
            last = used()
        disk = [
            sum(file.stat().st_blocks * 512 for file in party.home.rglob("*") if file.is_file())
            for party in (acme, beta)
        ]
    return {
        "version": f"tallystick, Python {sys.version.split()[0]}",
        "held": load.BATCH + records + singles,
        "seconds": seconds,
        "cpu": [b - a for a, b in zip(before, after, strict=True)],
        "disk": disk,
        "single_ms": taken,
        "single_cpu": [b - a for a, b in zip(after, last, strict=True)],
    }


async def _singles(party: nodes.Party, start: int, count: int) -> list[float]:
    taken = []
    async with RpcClient.connect(open_home(party.home)) as client:
        for n in range(start, start + count):
            began = time.perf_counter()
            answer = await client.call("emit", channel=None, drafts=load.drafts([n]))
            await client.call("wait", channel=None, size=answer["size"], seconds=30.0)
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def throughput_peers(
    folder: Path,
    records: int,
    *,
    singles: int = SINGLES,
    rounds: int = ROUNDS,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """All ways in turns, so that each meets what else the machine does; medians of the rounds."""
    runs: dict[str, list[dict[str, Any]]] = {OURS: []}
    absent = {}
    for name, way in WAYS.items():
        try:
            way.prepare(True)
            runs[name] = []
        except NotHere as error:
            absent[name] = str(error)
    for n in range(rounds):
        names = deque(runs)
        names.rotate(n)
        for name in names:
            note(f"throughput: round {n + 1} of {rounds}, {name}")
            if name == OURS:
                runs[name].append(run_ours(records, singles, folder))
            else:
                runs[name].append(run_way(name, records, singles, folder, True))
    summaries = {name: _summary(found, records, singles) for name, found in runs.items()}
    ours = summaries[OURS]["cpu_us"]["both"]
    for name, summary in summaries.items():
        summary["cpu_to_ours"] = round(summary["cpu_us"]["both"] / ours, 2)
        summary["gives"] = list(EVERYTHING if name == OURS else WAYS[name].gives)
    return {"records": records, "rounds": rounds, "ways": summaries, "not_here": absent}


def _summary(runs: list[dict[str, Any]], records: int, singles: int) -> dict[str, Any]:
    rates = [records / run["seconds"] for run in runs]
    summary: dict[str, Any] = {
        "version": runs[0]["version"],
        "cpu_us": _sides([run["cpu"] for run in runs], records / 1e6),
        "cpu_us_range": [
            round(most(_sum(run["cpu"]) for run in runs) / records * 1e6, 2) for most in (min, max)
        ],
        "records_per_second": round(statistics.median(rates)),
        "records_per_second_range": [round(min(rates)), round(max(rates))],
        "bytes_a_record": _sides([run["disk"] for run in runs], runs[0]["held"]),
        "single_p50_ms": _median(ms for run in runs for ms in run["single_ms"]),
        "single_cpu_us": _sides([run["single_cpu"] for run in runs], singles / 1e6),
    }
    if "wal" in runs[0]:
        summary["wal_bytes_a_record"] = _median(run["wal"] for run in runs)
    if "proof_ms" in runs[0]:
        summary["proof_p50_ms"] = _median(ms for run in runs for ms in run["proof_ms"])
    return summary


def _sum(pair: list[float | None]) -> float:
    return sum(side or 0 for side in pair)


def _sides(pairs: list[list[float | None]], parts: float) -> dict[str, float | None]:
    """The medians of the author's side, of the other's, and of both together, each a part."""
    found: dict[str, float | None] = {}
    for n, name in enumerate(("author", "other")):
        values = [side for pair in pairs if (side := pair[n]) is not None]
        found[name] = round(statistics.median(values) / parts, 2) if values else None
    found["both"] = round(statistics.median(map(_sum, pairs)) / parts, 2)
    return found


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


def show(result: dict[str, Any]) -> str:
    """What each way took, in 80 columns, and what it gives."""
    lines = [
        f"{result['records']:,} records in batches, then single ones; medians of rounds:"
        f" {result['rounds']}",
        f"{'':<34}{'cpu us a record':>20}{'records':>8}{'bytes':>6}{'one alone':>12}",
        f"{'':<34}{'author':>7}{'other':>7}{'ratio':>6}{'a sec':>8}{'each':>6}{'ms':>6}{'us':>6}",
    ]
    for name, way in result["ways"].items():
        author, other = way["cpu_us"]["author"], way["cpu_us"]["other"]
        used = way["bytes_a_record"]["author"]
        lines.append(
            f"{OURS if name == OURS else WAYS[name].label:<34}"
            f"{author:>7.1f}{'-' if other is None else format(other, '.1f'):>7}"
            f"{way['cpu_to_ours']:>6.2f}{way['records_per_second']:>8,}"
            f"{'-' if used is None else format(used, '.0f'):>6}{way['single_p50_ms']:>6.1f}"
            f"{way['single_cpu_us']['both']:>6.0f}"
        )
    lines += [
        "cpu: of the author's side with the program that appends, and of the other",
        "side; ratio: their sum to ours. bytes: on the author's disk. one alone: until",
        "the other side has it, by the clock, and processor time of both sides.",
        "",
        "what each gives:",
    ]
    for name, way in result["ways"].items():
        label = OURS if name == OURS else WAYS[name].label
        text = f"{label} ({way['version']}): {', '.join(way['gives'])}"
        lines += textwrap.wrap(text, 80, subsequent_indent="    ")
    for name, why in result["not_here"].items():
        text = f"{WAYS[name].label}: left out, {why}"
        lines += textwrap.wrap(text, 80, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines)
