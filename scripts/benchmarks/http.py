"""Deltas a second over HTTP, beside the command line's direct path: each durable when answered."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import nodes
import trio

from benchmarks import limits
from benchmarks.bench import Bench, Benchmark
from tallystick.client import Client
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft, DraftBatch
from tallystick.node.importing.sending import Sender
from tallystick.node.rpc import RpcClient

ROUNDS = 3
BATCH = 1000
IN_FLIGHT = 4
THREADS = 16
START_US = 1_700_000_000_000_000
AT = "2023-11-14T22:13:20Z"
CHANNEL = "beta.example"
DELTAS = f"/v1/channels/{CHANNEL}/deltas"
RULES = """\
[[intake.cloudevents]]
type = "bench"
channel = "beta.example"
map = "bench.toml"
"""
MAP = '[[meter]]\nmeter = "context-tokens"\nquantity = { column = "data.n" }\n'


def _delta(kind: str, n: int) -> dict[str, Any]:
    fields = {"id": f"{kind}-{n:012}-{'x' * 40}", "meter": "context-tokens"}
    subject = f"project-{n % 50:03}-{'y' * 48}"
    return {**fields, "quantity": str(n % 5000), "subject": subject, "occurred_at": AT}


def _event(n: int) -> dict[str, Any]:
    subject = f"project-{n % 50:03}-{'y' * 48}"
    return {
        "specversion": "1.0", "id": f"{n:012}-{'x' * 32}", "source": "/bench", "type": "bench",
        "time": AT, "subject": subject, "data": {"n": n % 5000},
    }  # fmt: skip


async def _direct(party: nodes.Party, first: int, records: int) -> float:
    """What `tally import` does: MessagePack on the home's socket, a few batches in flight."""
    batches = []
    for deltas in _groups(lambda n: _delta("direct", n), first, records):
        drafts = [
            Draft(d["id"], d["meter"], d["subject"], int(d["quantity"]), START_US) for d in deltas
        ]
        batches.append(DraftBatch(len(drafts), 0, drafts))
    began = time.perf_counter()
    async with RpcClient.connect(open_home(party.home)) as client:
        sender = Sender(client, CHANNEL, lambda reject: None)
        await sender.send(iter(batches))
    seconds = time.perf_counter() - began
    assert sender.counts.recorded == records
    return seconds


def _posted(party: nodes.Party, key: str, kind: str, bodies: list[bytes], at_once: int) -> float:
    """Seconds until all bodies are answered, some on their way at once."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
    url = party.json("status")["http"]
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:

        def post(body: bytes) -> None:
            client.post(DELTAS, content=body).raise_for_status()

        began = time.perf_counter()
        with ThreadPoolExecutor(at_once) as threads:
            list(threads.map(post, bodies))
        return time.perf_counter() - began


def _streamed(party: nodes.Party, key: str, first: int, records: int) -> float:
    numbers = range(first, first + records)
    lines = [json.dumps(_delta("stream", n)).encode() + b"\n" for n in numbers]
    pieces = [b"".join(lines[start : start + 400]) for start in range(0, records, 400)]

    def content() -> Iterator[bytes]:
        yield from pieces

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
    url = party.json("status")["http"]
    with httpx.Client(base_url=url, headers=headers, timeout=600) as client:
        began = time.perf_counter()
        report = client.post(DELTAS, content=content()).raise_for_status().json()
        seconds = time.perf_counter() - began
    assert report["recorded"] == records
    return seconds


def _batched(party: nodes.Party, key: str, first: int, records: int) -> float:
    with Client(party.json("status")["http"], key=key, channel=CHANNEL) as client:
        began = time.perf_counter()
        with client.batcher() as batcher:
            for n in range(first, first + records):
                delta = _delta("batcher", n)
                batcher.emit(
                    delta["meter"], n % 5000, delta["subject"], id=delta["id"], occurred_at=AT
                )
        return time.perf_counter() - began


def _groups(made: Callable[[int], Any], first: int, records: int) -> Iterator[list[Any]]:
    end = first + records
    for start in range(first, end, BATCH):
        yield [made(n) for n in range(start, min(start + BATCH, end))]


def http(bench: Bench) -> None:
    """Deltas a second: one a request, in batches, as CloudEvents, in a stream, by the client; every
    way with a part of the records, in turns.
    """
    figures, part = bench.figures, max(bench.records // ROUNDS, 1)
    singles = max(part // 50, 1)
    figures.put("singles", singles * ROUNDS)
    found: dict[str, list[float]] = defaultdict(list)
    with nodes.channel(bench.folder) as (acme, beta):
        acme.stop()
        (acme.home / "bench.toml").write_text(MAP)
        acme.configure(RULES)
        acme.start()
        key = acme.json("keys", "add", "bench", "--scope", "emit")["key"]
        for turn in range(ROUNDS):
            bench.progress.note(f"http: round {turn + 1} of {ROUNDS}")
            for name, (count, work) in _ways(acme, key, turn, part, singles).items():
                with bench.cpu(provider=acme, consumer=beta) as spent:
                    seconds = work()
                found[f"{name}.deltas_per_second"].append(count / seconds)
                found[f"{name}.node_cpu_us_per_delta"].append(spent["provider"] / count * 1e6)
    for name, samples in found.items():
        figures.repeated(name, samples)


def _ways(
    party: nodes.Party, key: str, turn: int, records: int, singles: int
) -> dict[str, tuple[int, Callable[[], float]]]:
    """Each way in: how many deltas it takes, and what sends them and returns the seconds."""
    first, as_json = turn * records, "application/json"

    def posted(kind: str, bodies: list[bytes], at_once: int) -> Callable[[], float]:
        return lambda: _posted(party, key, kind, bodies, at_once)

    ways: dict[str, tuple[int, Callable[[], float]]] = {}
    for name, at_once in (("single", 1), (f"single_{THREADS}_at_once", THREADS)):
        numbers = range(first, first + singles)
        bodies = [json.dumps(_delta(name, n)).encode() for n in numbers]
        ways[name] = singles, posted(as_json, bodies, at_once)
    batches = [
        json.dumps({"deltas": group}).encode()
        for group in _groups(lambda n: _delta("batch", n), first, records)
    ]
    ways["batch"] = records, posted(as_json, batches, IN_FLIGHT)
    events = [json.dumps(group).encode() for group in _groups(_event, first, records)]
    of_events = "application/cloudevents-batch+json"
    ways["cloudevents_batch"] = records, posted(of_events, events, IN_FLIGHT)
    ways["stream"] = records, lambda: _streamed(party, key, first, records)
    ways["client_batcher"] = records, lambda: _batched(party, key, first, records)
    ways["direct"] = records, lambda: trio.run(_direct, party, first, records)
    return ways


BENCHMARK = Benchmark("http", 100_000, http, (limits.ENCODE, limits.DECODE, limits.FSYNC))
