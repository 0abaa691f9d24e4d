"""A node under observation: what is counted, how it is, and who is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import trio
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from tallystick.node.node import Node
from tallystick.node.settings import flat
from tallystick.node.telemetry.collector import Labels, NodeCollector
from tallystick.node.telemetry.counts import SECONDS, Histogram
from tallystick.node.telemetry.following import Following
from tallystick.node.telemetry.health import Readiness, dead, health, readiness
from tallystick.node.telemetry.http import HttpCounts
from tallystick.node.telemetry.metrics import BY_NAME, Metric
from tallystick.node.telemetry.supervisor import Supervisor

BEAT_SECONDS = 1.0
HEALTH_SECONDS = 10.0
FOLLOW_SECONDS = 2.0  # how long a scrape waits for what is derived from records
CHANNELS_A_TURN = 20  # that are looked at before others may run

OPENMETRICS = "application/openmetrics-text"

Read = Callable[[], Mapping[Labels, float]]


class Monitor:
    """Observes one node. `lines` counts the log's lines by level; `flags` has the settings that
    the command line gave, and by which flags.
    """

    def __init__(
        self,
        node: Node,
        lines: Counter[str],
        flags: Mapping[str, str] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.node = node
        self.lines = lines
        self._flags = dict(flags or {})
        self.http = HttpCounts()
        self.loop_delay = Histogram(SECONDS)
        self.watched: list[tuple[Metric, Read]] = []
        self.following: dict[bytes, Following] = {}
        self.problems: list[str] = []  # as of the last look
        self._supervisor = supervisor or Supervisor()
        self._scraping = trio.Lock()
        self._thread = trio.CapacityLimiter(1)  # not one of those that the store needs
        self._looking = trio.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(self))
        ProcessCollector(registry=self._registry)

    def watch(self, metric: Metric, read: Read) -> None:
        """Have a metric of `metrics.METRICS` read at each scrape: values by their labels, in the
        order in which the metric has them; `{(): 7}` without labels.

        `read` is called in a thread: it must be quick, wait for nothing and change nothing.
        """
        assert BY_NAME.get(metric.name) is metric, "it is not in the list, so nobody knows it"
        self.watched.append((metric, read))

    @property
    def ready(self) -> bool:
        """Whether the node serves."""
        return readiness(self.node, names=False).ready

    def readiness(self, *, names: bool) -> Readiness:
        """Whether the node serves, in words."""
        return readiness(self.node, names=names)

    async def health(self) -> list[str]:
        """What is wrong here, looked at now; nothing if the node is healthy."""
        async with self._looking:
            self.problems = await health(self.node)
        return self.problems

    @property
    def methods(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """What the command line may ask."""
        return {"health": self.describe, "settings": self.settings}

    async def describe(self) -> dict[str, object]:
        """How the node is, in words."""
        problems, found = await self.health(), self.readiness(names=True)
        return {
            "healthy": not problems,
            "problems": problems,
            "ready": found.ready,
            "unready": found.problems,
            "degraded": found.degraded,
        }

    async def settings(self) -> dict[str, object]:
        """The settings in force, and those that flags gave."""
        return {"settings": flat(self.node.books.config), "flags": self._flags}

    async def expose(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the form that was asked for, and its content type."""
        # Not what the header says word for word: versions that are none make the client fail.
        encode, kind = choose_encoder(OPENMETRICS if OPENMETRICS in accept else "")
        async with self._scraping:
            with trio.move_on_after(FOLLOW_SECONDS):
                await self._follow()
            body = await trio.to_thread.run_sync(encode, self._registry, limiter=self._thread)
            return body, kind

    async def _follow(self) -> None:
        """Derive what changed, channel by channel; what is left is done at the next scrape."""
        channels = list(self.node.books.channels.values())
        for place, (channel, closer) in enumerate(channels):
            following = self.following.setdefault(channel.id, Following())
            if following.look(channel, closer) or not place % CHANNELS_A_TURN:
                await trio.lowlevel.checkpoint()

    # For as long as the node runs

    def serving(self, address: str) -> None:
        """The node serves: say so to who started it."""
        self._supervisor.ready(f"{self.node.identity.name} serves at {address}")

    def stopping(self) -> None:
        """The node was told to stop."""
        self._supervisor.stopping()

    async def run(self) -> None:
        """Look after the node, for as long as it runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            nursery.start_soon(self._look_after)
            if self._supervisor.ping_seconds:
                nursery.start_soon(self._ping)

    async def _beat(self) -> None:
        while True:
            due = trio.current_time() + BEAT_SECONDS
            await trio.sleep_until(due)
            self.loop_delay.observe(max(trio.current_time() - due, 0))

    async def _look_after(self) -> None:
        said = ""
        while True:
            await trio.sleep(HEALTH_SECONDS)
            now = "; ".join([*await self.health(), *self.readiness(names=True).degraded])
            if now != said:
                said = now
                self._supervisor.status(now or "healthy")

    async def _ping(self) -> None:
        """Say that we are not stuck, unless only a new start would help. A full disk is no reason
        to be killed: a new start frees none of it.
        """
        while True:
            if not dead(self.node):
                self._supervisor.alive()
            await trio.sleep(self._supervisor.ping_seconds)
