"""Width: one provider's node with thousands of channels, each to a consumer of its own.

A home is made with all channels founded (`wide`); the node is a process of `tally run`, the
consumers are simulated in other processes and connect over TLS on loopback (`wide_peers`).
"""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nodes
import trio
import watched
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
IDLE_SECONDS = 60  # in which every peer pings, and says once in gossip that it is there
EMITS = 1000
AT_ONCE = 64  # callers that emit
BUSY, QUIET = 0, 1  # two of the channels
LOOKS = 60  # at the quiet one
BUSY_BATCH, BUSY_IN_FLIGHT = 4096, 6
START_US = 1_790_900_000_000_000
_SENT_ITEMS = 'tallystick_gossip_sent_total{what="items"}'
_SENT_MESSAGES = 'tallystick_gossip_sent_total{what="messages"}'
_REFUSED = "tallystick_gossip_refused_total"
_encode = msgspec.msgpack.Encoder().encode


def channels(bench: Bench) -> None:
    """As many channels as the size says."""
    for name, value in measured(bench.folder, bench.records).items():
        bench.figures.put(name, value)


def measured(folder: Path, records: int) -> dict[str, Any]:
    """So many channels: start-up, memory, sessions at once, shared commits, fairness; first with a
    node that does not gossip, then with one that does.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sessions = min(records, most - FILES_BESIDE)
    wide.make(folder, records)
    party = watched.party(folder, wide.PROVIDER)
    home = open_home(party.home)
    home.config_path.write_text(wide.CONFIG + "[gossip]\nenabled = false\n")
    result: dict[str, Any] = {"channels": records}
    try:
        result |= _start(party, folder, records)
        silent_kb = _anonymous_kb(party)
        with _sessions(party, folder, sessions) as found:
            result["sessions"] = _live(party, folder, sessions, found, silent_kb)
    finally:
        party.stop()
    home.config_path.write_text(wide.CONFIG)
    try:
        party.start()
        result["gossip"] = _published(party, folder, records, silent_kb)
        spoken_kb = _anonymous_kb(party)
        with _sessions(party, folder, sessions, "gossip") as found:
            result["gossip"]["sessions"] = _live(party, folder, sessions, found, spoken_kb)
            result["gossip"]["all_speak"] = _spoken(party, folder, found)
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


class Sessions:
    """Consumers that are connected, in processes of their own."""

    def __init__(self, running: list[subprocess.Popen[str]]) -> None:
        self._running = running
        self.seconds = 0.0  # until all were live

    def hear(self) -> None:
        """Wait until each process has said something."""
        for one in self._running:
            assert one.stdout is not None
            if not one.stdout.readline():
                raise nodes.Failed("consumers ended before they were all connected")

    def speak(self) -> None:
        """Have all consumers say at once that they are there."""
        for one in self._running:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        self.hear()


@contextmanager
def _sessions(party: nodes.Party, folder: Path, sessions: int, *how: str) -> Iterator[Sessions]:
    """So many live sessions, with consumers that gossip or not."""
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    script = Path(__file__).parent.parent / "wide_peers.py"
    began = time.perf_counter()
    # The busy one is alone in its process, so that what it does keeps no other consumer waiting.
    firsts = [BUSY, *range(BUSY + 1, sessions, SESSIONS_A_PROCESS), sessions]
    running = []
    for first, after in pairwise(firsts):
        what = [party.address, str(first), str(after - first), str(keys), *how]
        running.append(
            subprocess.Popen(
                [sys.executable, str(script), *what],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    found = Sessions(running)
    try:
        found.hear()
        found.seconds = time.perf_counter() - began
        yield found
    finally:
        for one in running:
            one.communicate("")


def _live(
    party: nodes.Party, folder: Path, sessions: int, found: Sessions, kb: int
) -> dict[str, Any]:
    """What the sessions cost the provider's node, idle; `kb` is what it took without them."""
    assert party.process is not None
    connecting = watched.ask(party, folder)
    before = _metrics(open_home(party.home))["tallystick_peer_connected"]
    connected = party.cpu_seconds()
    watched.ask(party, folder)
    time.sleep(IDLE_SECONDS)
    idle = party.cpu_seconds() - connected
    return {
        "at_once": sessions,
        "connected_by_the_node": round(before),
        "seconds": round(found.seconds, 2),
        "files": len(list(Path(f"/proc/{party.process.pid}/fd").iterdir())),
        "mb_of_the_node": round(_anonymous_kb(party) / 1024, 1),
        "kb_a_session": round((_anonymous_kb(party) - kb) / sessions, 2),
        "idle_cpu_percent": round(idle / IDLE_SECONDS * 100, 1),
        "connecting": connecting,
        "idle": watched.ask(party, folder),
    }


def _published(party: nodes.Party, folder: Path, channels: int, silent_kb: int) -> dict[str, Any]:
    """How long it takes until a head of each channel is published, and what gossip then takes of
    memory beside the same node without it.
    """
    home, began, cpu = open_home(party.home), time.perf_counter(), party.cpu_seconds()
    watched.ask(party, folder)
    # Our presence is one more; a scrape of ten thousand channels is no light thing.
    while _metrics(home)["tallystick_gossip_items"] <= channels:
        time.sleep(SETTLE_SECONDS)
    return {
        "all_published_seconds": round(time.perf_counter() - began, 1),
        "all_published_cpu_seconds": round(party.cpu_seconds() - cpu, 2),
        "kb_a_channel": round((_anonymous_kb(party) - silent_kb) / channels, 2),
        "publishing": watched.ask(party, folder),
    }


def _spoken(party: nodes.Party, folder: Path, found: Sessions) -> dict[str, Any]:
    """What becomes of it when all peers speak at once, within a moment."""
    home = open_home(party.home)
    before, cpu = _metrics(home), party.cpu_seconds()
    watched.ask(party, folder)
    found.speak()
    time.sleep(IDLE_SECONDS)
    spent = party.cpu_seconds() - cpu
    held = watched.ask(party, folder)
    after = _metrics(home)
    return {
        "cpu_percent": round(spent / IDLE_SECONDS * 100, 1),
        "sent_items": round(after[_SENT_ITEMS] - before[_SENT_ITEMS]),
        "sent_messages": round(after[_SENT_MESSAGES] - before[_SENT_MESSAGES]),
        "refused": round(after[_REFUSED] - before[_REFUSED]),
        "items_held": round(after["tallystick_gossip_items"]),
        "held_up": held,
    }


def _metrics(home: Home) -> dict[str, float]:
    """Metrics of the node, from itself: by name, over all their labels, and those of gossip by
    what they are of.
    """
    transport = httpx.HTTPTransport(uds=str(home.socket_path))
    with httpx.Client(transport=transport, timeout=120) as client:
        text = client.get("http://node/metrics").text
    found: Counter[str] = Counter()
    for name, labels, value in re.findall(r"^(\w+)({[^}]*})? (\S+)$", text, re.MULTILINE):
        found[name] += float(value)
        if labels:
            found[name + labels] += float(value)
    return found


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
    before = _metrics(home)["tallystick_store_fsync_seconds_count"]
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
    commits = _metrics(home)["tallystick_store_fsync_seconds_count"] - before
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
