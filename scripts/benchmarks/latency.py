"""Milliseconds until a delta is durable, and until it is co-signed: alone, and at offered loads.

The loads are an open loop: when each delta is to be sent is fixed beforehand (at random, as calls
of many users come), and its latency counts from then, also if the node or this driver is late.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import nodes
import trio

from benchmarks import limits, load
from benchmarks.asking import Asker, ticks
from benchmarks.bench import Bench, Benchmark
from benchmarks.figures import Figures, percentile
from tallystick.node.home import open_home

RATES = (1, 10, 100, 1000)  # deltas offered a second
SECONDS = 20  # at each of them
WARM_UP = 50
ALONE = 1000
LEAD_SECONDS = 0.2
SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


@dataclass(slots=True)
class Taken:
    """Milliseconds of each delta, from when it should have been sent."""

    sent: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)
    cosigned: list[float] = field(default_factory=list)


class Watch:
    """Who waits for co-signatures. It asks for the next one before there is one to wait for, so an
    answer is on its way as soon as the node has it; on a way of its own, that no emit stands in.
    """

    def __init__(self, path: Path, size: int, taken: Taken) -> None:
        self._asker = Asker(path)
        self._size = size
        self._taken = taken
        self._waiting: list[tuple[float, int]] = []  # when it was due, and the log's size with it
        self.noted = trio.Event()  # set, and replaced, whenever some are co-signed

    def add(self, due: float, size: int) -> None:
        """A delta is durable, and with it the log of this size."""
        self._waiting.append((due, size))
        self._note()

    def _note(self) -> None:
        now = time.perf_counter()
        done = [(now - due) * 1000 for due, size in self._waiting if size <= self._size]
        if done:
            self._waiting = [one for one in self._waiting if one[1] > self._size]
            self._taken.cosigned += done
            self.noted.set()
            self.noted = trio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            answer = await self._asker.ask(
                "wait", channel=None, size=self._size + 1, seconds=load.WAIT_SECONDS
            )
            self._size = answer["cosigned"]
            self._note()

    async def until(self, count: int) -> None:
        """Return when so many are co-signed."""
        while len(self._taken.cosigned) < count:
            await self.noted.wait()


async def _send(asker: Asker, watch: Watch, taken: Taken, n: int, due: float) -> None:
    taken.sent.append((time.perf_counter() - due) * 1000)
    answer = await asker.ask("emit", channel=None, drafts=load.drafts([n]))
    taken.durable.append((time.perf_counter() - due) * 1000)
    watch.add(due, answer["size"])


async def _offered(party: nodes.Party, first: int, waits: list[float]) -> Taken:
    """Send deltas from a number on, each so long after the one before; when all are co-signed."""
    path = open_home(party.home).socket_path
    taken, asker = Taken(), Asker(path)
    watch = Watch(path, await _size(asker), taken)
    at = time.perf_counter() + LEAD_SECONDS
    schedule = [at := at + wait for wait in waits]
    async with trio.open_nursery() as nursery, ticks(schedule) as ticking:
        nursery.start_soon(watch.run)
        n = 0
        while n < len(schedule):
            for _ in await ticking.receive_some():
                nursery.start_soon(_send, asker, watch, taken, first + n, schedule[n])
                n += 1
        await watch.until(len(schedule))
        nursery.cancel_scope.cancel()
    await asker.close()
    return taken


async def _alone(party: nodes.Party, first: int, count: int) -> Taken:
    """One delta after the other, each when the one before is co-signed."""
    path = open_home(party.home).socket_path
    taken, asker = Taken(), Asker(path)
    watch = Watch(path, await _size(asker), taken)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        for n in range(count):
            await _send(asker, watch, taken, first + n, time.perf_counter())
            await watch.until(n + 1)
        nursery.cancel_scope.cancel()
    await asker.close()
    return taken


async def _size(asker: Asker) -> int:
    """How much of the log is co-signed."""
    answer = await asker.ask("wait", channel=None, size=1, seconds=load.WAIT_SECONDS)
    size: int = answer["cosigned"]
    return size


def _put(figures: Figures, name: str, samples: list[float]) -> None:
    ordered = sorted(samples)
    for share, value in SHARES.items():
        figures.put(f"{name}.{share}", percentile(ordered, value))
    figures.put(f"{name}.max_ms", ordered[-1])


def latency(bench: Bench) -> None:
    """Over the provider's local socket, one delta a request."""
    figures, first = bench.figures, WARM_UP
    dice = random.Random(7)
    with nodes.channel(bench.folder) as (acme, beta):
        trio.run(_alone, acme, 0, WARM_UP)
        count = max(min(bench.records, ALONE), 2)  # a median needs two
        with bench.cpu(provider=acme, consumer=beta):
            alone = trio.run(_alone, acme, first, count)
        first += count
        for rate in RATES:
            count = min(rate * SECONDS, bench.records)
            waits = [dice.expovariate(rate) for _ in range(count)]
            with bench.cpu(provider=acme, consumer=beta) as spent:
                taken = trio.run(_offered, acme, first, waits)
            first += count
            name = f"offered.{rate}"
            figures.put(f"{name}.deltas", count)
            for kind in ("durable", "cosigned"):
                _put(figures, f"{name}.{kind}", getattr(taken, kind))
            figures.put(f"{name}.sent_late_p50_ms", percentile(sorted(taken.sent), 0.5))
            for who in ("provider", "consumer", "driver"):
                figures.put(f"{name}.cpu_us_per_delta.{who}", spent[who] / count * 1e6)
    for kind in ("durable", "cosigned"):
        _put(figures, f"alone.{kind}", getattr(alone, kind))
    fsync, turn = bench.limit(limits.FSYNC), bench.limit(limits.TURN)
    # One turn over the wire and two fsyncs, one after the other.
    figures.put("p50_ms", figures.get("alone.cosigned.p50_ms"))
    figures.put("p99_ms", figures.get("alone.cosigned.p99_ms"))
    figures.put("fsync_p50_ms", fsync)
    figures.put("ratios.of_turn_and_two_fsyncs", figures.get("p50_ms") / (turn + 2 * fsync))


NEEDED = (limits.FSYNC, limits.TURN, limits.SIGN, limits.VERIFY)
BENCHMARK = Benchmark("latency", 20_000, latency, NEEDED)
