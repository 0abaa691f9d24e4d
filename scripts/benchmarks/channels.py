"""Width: one provider's node with thousands of channels, each to a consumer of its own.

A home is made with all channels founded (`wide`); the node is a process of `tally run`, the
consumers are simulated in other processes and connect over TLS on loopback (`wide_peers`).
"""

from __future__ import annotations

import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nodes
import trio
import wide

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark
from tallystick.node.home import Home, open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rpc import RpcClient
from tallystick.protocol.terms import channel_id

SESSIONS_A_PROCESS = 2500
FILES_BESIDE = 2048  # that are not sessions
SETTLE_SECONDS = 5
EMITS = 1000
AT_ONCE = 64  # callers that emit
BUSY, QUIET = 0, 1  # two of the channels
LOOKS = 60  # at the quiet one
BUSY_BATCH, BUSY_IN_FLIGHT = 4096, 6
START_US = 1_790_900_000_000_000
_encode = msgspec.msgpack.Encoder().encode


def channels(bench: Bench) -> None:
    """As many channels as the size says."""
    for name, value in measured(bench.folder, bench.records).items():
        bench.figures.put(name, value)


def measured(folder: Path, records: int) -> dict[str, Any]:
    """So many channels: start-up, memory, sessions at once, shared commits, fairness."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sessions = min(records, most - FILES_BESIDE)
    wide.make(folder, records)
    party = nodes.Party(folder, wide.PROVIDER)
    home = open_home(party.home)
    result: dict[str, Any] = {"channels": records}
    try:
        result |= _start(party, folder, records)
        with _sessions(party, folder, sessions) as seconds:
            result["sessions"] = _live(party, sessions, seconds)
            result["across"] = trio.run(_across, home, sessions)
            result["fairness"] = trio.run(_fairness, home)
        began = time.perf_counter()
    finally:
        party.stop()
    result["stop_seconds"] = round(time.perf_counter() - began, 2)
    return result


def _anonymous_kb(party: nodes.Party) -> int:
    """Resident memory of a node that is its own."""
    assert party.process is not None
    text = Path(f"/proc/{party.process.pid}/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+)", text)[0])


def _start(party: nodes.Party, folder: Path, records: int) -> dict[str, Any]:
    """Start-up, beside that of a node with one channel: the rest is what the channels cost."""
    (folder / "narrow").mkdir()
    wide.make(folder / "narrow", 1)
    narrow = nodes.Party(folder / "narrow", wide.PROVIDER)
    try:
        narrow.start()
        time.sleep(SETTLE_SECONDS)
        least, least_cpu = _anonymous_kb(narrow), narrow.cpu_seconds()
    finally:
        narrow.stop()
    began = time.perf_counter()
    party.start()
    seconds, cpu = time.perf_counter() - began, party.cpu_seconds()
    time.sleep(2 * SETTLE_SECONDS)  # the feed looks at every channel once
    settled = party.cpu_seconds()
    time.sleep(2 * SETTLE_SECONDS)
    return {
        "start_seconds": round(seconds, 2),
        "start_cpu_seconds": round(cpu, 2),
        "start_cpu_seconds_of_one_channel": round(least_cpu, 2),
        "kb_a_channel_idle": round((_anonymous_kb(party) - least) / max(records - 1, 1), 2),
        "idle_cpu_percent": round((party.cpu_seconds() - settled) * 10 / SETTLE_SECONDS * 5, 2),
    }


@contextmanager
def _sessions(party: nodes.Party, folder: Path, sessions: int) -> Iterator[float]:
    """So many live sessions; how long it took until all were."""
    keys = folder / "keys"
    keys.mkdir()
    script = Path(__file__).parent.parent / "wide_peers.py"
    began = time.perf_counter()
    # The busy one is alone in its process, so that what it does keeps no other consumer waiting.
    firsts = [BUSY, *range(BUSY + 1, sessions, SESSIONS_A_PROCESS), sessions]
    running = [
        subprocess.Popen(
            [sys.executable, str(script), party.address, str(first), str(after - first), str(keys)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first, after in pairwise(firsts)
    ]
    try:
        for one in running:
            assert one.stdout is not None
            json.loads(one.stdout.readline())
        yield time.perf_counter() - began
    finally:
        for one in running:
            one.communicate("")


def _live(party: nodes.Party, sessions: int, seconds: float) -> dict[str, Any]:
    """What the sessions cost the provider's node, idle."""
    assert party.process is not None
    before = _metric(open_home(party.home), "tallystick_peer_connected")
    connected = party.cpu_seconds()
    time.sleep(3 * SETTLE_SECONDS)
    idle = party.cpu_seconds() - connected
    return {
        "at_once": sessions,
        "connected_by_the_node": round(before),
        "seconds": round(seconds, 2),
        "files": len(list(Path(f"/proc/{party.process.pid}/fd").iterdir())),
        "mb_of_the_node": round(_anonymous_kb(party) / 1024, 1),
        "idle_cpu_percent": round(idle / (3 * SETTLE_SECONDS) * 100, 1),
    }


def _metric(home: Home, name: str) -> float:
    """The sum of a metric, from the node itself."""
    transport = httpx.HTTPTransport(uds=str(home.socket_path))
    with httpx.Client(transport=transport, timeout=120) as client:
        text = client.get("http://node/metrics").text
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, values))


def _channel(number: int) -> str:
    ours = wide.provider()
    return channel_id(wide.terms_of(number, ours, wide.consumer(number))).hex()


def _drafts(first: int, count: int) -> bytes:
    return _encode(
        [
            Draft(f"request-{n:012}", "input-tokens", f"project-{n % 50}", n % 5000, START_US + n)
            for n in range(first, first + count)
        ]
    )


async def _across(home: Home, sessions: int) -> dict[str, Any]:
    """Single deltas in as many channels: how many share a commit, until all are co-signed."""
    count = min(EMITS, sessions)
    names = [_channel(number) for number in range(count)]
    limit = trio.CapacityLimiter(AT_ONCE)
    before = _metric(home, "tallystick_store_fsync_seconds_count")
    async with RpcClient.connect(home) as client:

        async def one(name: str) -> None:
            async with limit:
                answer = await client.call("emit", channel=name, drafts=_drafts(0, 1))
                await client.call("wait", channel=name, size=answer["size"], seconds=120.0)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(one, name)
        seconds = time.perf_counter() - began
    commits = _metric(home, "tallystick_store_fsync_seconds_count") - before
    return {
        "emits": count,
        "channels": count,
        "callers": AT_ONCE,
        "seconds": round(seconds, 2),
        "fsyncs_per_1000_emits": round(commits * 1000 / count, 1),
    }


async def _fairness(home: Home) -> dict[str, Any]:
    """Milliseconds until a delta in a quiet channel is co-signed: alone, and beside a channel that
    imports as fast as it can.
    """
    quiet, busy = _channel(QUIET), _channel(BUSY)
    alone = await _looks(home, quiet, 1_000)
    emitted = 0
    async with trio.open_nursery() as nursery, RpcClient.connect(home) as client:

        async def caller(number: int) -> None:
            nonlocal emitted
            first = 10_000_000 * (number + 1)
            while True:
                await client.call("emit", channel=busy, drafts=_drafts(first, BUSY_BATCH))
                first += BUSY_BATCH
                emitted += BUSY_BATCH

        for number in range(BUSY_IN_FLIGHT):
            nursery.start_soon(caller, number)
        await trio.sleep(2)
        before, began = emitted, time.perf_counter()
        beside = await _looks(home, quiet, 2_000)
        rate = (emitted - before) / (time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    return {
        "quiet_alone_ms": alone,
        "quiet_beside_busy_ms": beside,
        "busy_deltas_per_second": round(rate),
    }


async def _looks(home: Home, channel: str, first: int) -> dict[str, float]:
    taken = []
    async with RpcClient.connect(home) as client:
        for n in range(LOOKS):
            began = time.perf_counter()
            answer = await client.call("emit", channel=channel, drafts=_drafts(first + n, 1))
            await client.call("wait", channel=channel, size=answer["size"], seconds=60.0)
            taken.append((time.perf_counter() - began) * 1000)
            await trio.sleep(0.02)
    taken.sort()
    return {
        "p50": round(statistics.median(taken), 2),
        "p90": round(taken[len(taken) * 9 // 10], 2),
        "max": round(taken[-1], 2),
    }


BENCHMARK = Benchmark("channels", 2_000, channels, (limits.FSYNC, limits.PYTHON))
