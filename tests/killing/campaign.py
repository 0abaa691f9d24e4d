"""A campaign of kills: two real nodes, load on both, SIGKILL at moments drawn from a seed.

What is killed and when is drawn from the seed; what the nodes are doing then is the machine's
business, so a seed gives the same pressure again and not the same run.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import nodes
import trio

from killing.audit import audit
from killing.ledger import TERMS, Findings, Ledger
from killing.load import Closing, Emitter, Hours, Source
from killing.observer import Observer
from killing.saying import People
from tallystick.protocol.errors import TallyError

EMITTERS = 3  # a party
READY_SECONDS = 60
REVEAL_SECONDS = 30
REST_SECONDS = 90  # until all is co-signed after the last kill
LOOK_SECONDS = 0.05
DERIVE_LOOKS = 5  # every so many looks
TOLD_SECONDS = 5.0
FINDINGS_MAX = 20
# What a node that only died has no reason to log.
ALARMS = (
    "Traceback",
    '"level": "error"',
    "halt",
    "broke the protocol",
    "fetching ours back",
    "set aside",
)


@dataclass(slots=True)
class Summary:
    """What a campaign did and found."""

    seed: int
    kills: int = 0
    restarts: int = 0
    acknowledged: int = 0
    repeats: int = 0
    corrections: int = 0
    matters: int = 0
    declarations: int = 0
    checkpoints: int = 0
    heads: int = 0
    looks: int = 0
    derived: int = 0
    seconds: float = 0.0
    findings: tuple[str, ...] = ()


class Target:
    """A party's node, which is killed and started again."""

    def __init__(self, party: nodes.Party, findings: Findings, nursery: trio.Nursery) -> None:
        assert party.process is not None
        self.party = party
        self.ready = trio.Event()
        self.ready.set()
        self._process = party.process
        self._read = trio.Event()  # nobody reads from the process's output any more
        self._read.set()
        self._struck = False
        self._findings = findings
        self._nursery = nursery

    def strike(self) -> None:
        """SIGKILL, now."""
        self._struck = True
        code = self._process.poll()
        if code is not None:
            self._findings.add(f"{self.party.name}'s node ended by itself with code {code}")
        self._process.kill()

    async def bury(self) -> None:
        """Wait until the process is gone."""
        await trio.to_thread.run_sync(self._process.wait)
        await self._read.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(self) -> None:
        """Start the node; `ready` is set once it serves."""
        self._struck = False
        self.ready, self._read = trio.Event(), trio.Event()
        self._process = self.party.launch()
        self._nursery.start_soon(self._await, self._process, self.ready, self._read)

    async def _await(
        self, process: subprocess.Popen[str], ready: trio.Event, read: trio.Event
    ) -> None:
        served = await trio.to_thread.run_sync(self.party.wait_ready, process)
        read.set()
        if served:
            ready.set()
        elif not self._struck:
            self._findings.add(f"{self.party.name}'s node did not start; see its log")

    async def wait_ready(self) -> None:
        """Wait until the node serves, or has had long enough."""
        with trio.move_on_after(READY_SECONDS) as waiting:
            await self.ready.wait()
        if waiting.cancelled_caught:
            self._findings.add(f"{self.party.name}'s node is not ready after {READY_SECONDS} s")


class Campaign:
    """Kills until enough is enough, then rests and audits. `tell` is given progress lines."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        kills: int,
        tell: Callable[[str], None] = lambda line: None,
        code: str = nodes.MAIN,
        enough: int = FINDINGS_MAX,
    ) -> None:
        self.summary = Summary(seed)
        self._folder = folder
        self._wanted = kills
        self._tell = tell
        self._code = code
        self._enough = enough  # with so many findings it ends at once
        self._dice = Random(seed)
        self._findings = Findings()
        self._hours = Hours()
        self._stop = trio.Event()

    def run(self) -> Summary:
        """Do it all, in real time."""
        began = time.monotonic()
        with nodes.channel(self._folder, TERMS, self._code) as parties:
            self._parties = parties
            self._ledgers = {p.name: Ledger(p.name, self._findings) for p in parties}
            self._observer = Observer(self._ledgers, self._findings)
            try:
                trio.run(self._run)
                if len(self._findings) < self._enough:
                    self._finish()
            except (RuntimeError, TimeoutError) as error:
                self._findings.add(" ".join(str(error).split()))
        self._read_logs()
        summary = self.summary
        summary.seconds = round(time.monotonic() - began, 1)
        ledgers = self._ledgers.values()
        summary.repeats = sum(ledger.repeats for ledger in ledgers)
        summary.corrections = sum(len(ledger.corrections) for ledger in ledgers)
        summary.matters = sum(m.index >= 0 for one in ledgers for m in one.matters.values())
        summary.declarations = sum(d.index >= 0 for one in ledgers for d in one.declarations)
        summary.checkpoints = self._hours.closed
        summary.heads = sum(len(heads) for heads in self._observer.seen.values())
        summary.looks = self._observer.looks
        summary.derived = len(self._observer.derived)
        summary.findings = tuple(self._findings)
        return summary

    async def _run(self) -> None:
        async with trio.open_nursery() as watching, trio.open_nursery() as loading:
            watching.start_soon(self._observe)
            watching.start_soon(self._report)
            targets = [Target(party, self._findings, watching) for party in self._parties]
            self._load(loading)
            await self._kill(targets)
            for target in targets:
                await target.wait_ready()
            if len(self._findings) < self._enough:
                with trio.move_on_after(REST_SECONDS) as waiting:
                    await self._rest()
                if waiting.cancelled_caught:
                    self._findings.add(f"the nodes are not at rest after {REST_SECONDS} s")
            loading.cancel_scope.cancel()
            watching.cancel_scope.cancel()

    def _load(self, nursery: trio.Nursery) -> None:
        self._sources: list[Source] = []
        for party in self._parties:
            ledger = self._ledgers[party.name]
            given = (party.home, ledger)
            for number in range(EMITTERS):
                dice = Random(self._dice.random())
                self._sources.append(Emitter(f"e{number}", self._hours, *given, dice, self._stop))
            other = next(self._ledgers[p.name] for p in self._parties if p is not party)
            for source in (
                Closing(self._hours, *given, Random(self._dice.random()), self._stop),
                People(self._hours, other, *given, Random(self._dice.random()), self._stop),
            ):
                self._sources.append(source)
        self._running = len(self._sources)
        for source in self._sources:
            nursery.start_soon(self._emit, source)

    async def _emit(self, source: Source) -> None:
        await source.run()
        self._running -= 1

    # Kill

    async def _kill(self, targets: list[Target]) -> None:
        while self.summary.kills < self._wanted and len(self._findings) < self._enough:
            victims = self._choose(targets)
            await self._choose_moment(victims)
            for victim in victims:
                victim.strike()
            for victim in victims:
                await victim.bury()
            self.summary.kills += len(victims)
            if self._dice.random() < 0.4:
                await trio.sleep(self._dice.uniform(0.05, 0.8))
            for victim in victims:
                victim.start()
                self.summary.restarts += 1

    def _choose(self, targets: list[Target]) -> list[Target]:
        left = self._wanted - self.summary.kills
        if left > 1 and self._dice.random() < 0.2:
            return targets
        return [self._dice.choice(targets)]

    async def _choose_moment(self, victims: list[Target]) -> None:
        """While it starts, while it catches up with the peer, or in the middle of work."""
        moment = self._dice.choices(("start", "catch up", "work"), (3, 3, 4))[0]
        if moment == "start":
            await trio.sleep(self._dice.uniform(0, 0.8))
            return
        for victim in victims:
            await victim.wait_ready()
        await trio.sleep(self._dice.uniform(0, 0.3) if moment == "catch up" else
                         self._dice.uniform(0.3, 1.3))  # fmt: skip

    # Watch

    async def _observe(self) -> None:
        """Look into both stores in turn, and now and then derive, whatever becomes of the nodes."""
        for look in count():
            for party in self._parties:
                try:
                    await trio.to_thread.run_sync(self._observer.look, party)
                    if look % DERIVE_LOOKS == 0:
                        await trio.to_thread.run_sync(self._observer.derive, party)
                except TallyError as error:
                    self._findings.add(f"{party.name}'s store: {error}")
                await trio.sleep(LOOK_SECONDS)

    async def _report(self) -> None:
        while True:
            await trio.sleep(TOLD_SECONDS)
            acknowledged = sum(len(ledger.acknowledged) for ledger in self._ledgers.values())
            heads = sum(len(seen) for seen in self._observer.seen.values())
            self._tell(
                f"{self.summary.kills} of {self._wanted} kills;"
                f" {acknowledged:,} deltas acknowledged, {self._hours.closed} hours closed,"
                f" {heads:,} heads seen"
            )

    # Rest

    async def _rest(self) -> None:
        """Let the sources end, and wait until each side has co-signed all of the other's log."""
        self._stop.set()
        while self._running:
            await trio.sleep(0.05)
        while not all([await self._at_rest(party) for party in self._parties]):
            await trio.sleep(0.2)
        with trio.move_on_after(REVEAL_SECONDS):
            while any([self._observer.unrevealed(party) for party in self._parties]):
                await trio.sleep(0.2)
        for party in self._parties:
            for label in self._observer.unrevealed(party):
                self._findings.add(f"{party.name}: both declared {label}, and nothing is revealed")
        while not all([await self._at_rest(party) for party in self._parties]):
            await trio.sleep(0.2)

    async def _at_rest(self, party: nodes.Party) -> bool:
        status = await trio.to_thread.run_sync(party.json, "status")
        channel = status["channels"][0]
        own, theirs = channel["own"], channel["theirs"]
        peer = next(p.name for p in self._parties if p is not party)
        return bool(
            channel["state"] == "open"
            and own["cosigned"] == own["size"] >= self._ledgers[party.name].size
            and theirs["cosigned"] == theirs["size"] >= self._ledgers[peer].size
        )

    def _finish(self) -> None:
        """Close the last hours, prove them, and audit the stores."""
        last = self._close_rest(self._parties[0])
        bundles = []
        for party in self._parties:
            file = self._folder / f"{party.name}.tally"
            party.tally("bundle", last, "-o", str(file), "--full")
            bundles.append(file.read_bytes())
        if bundles[0] != bundles[1]:
            self._findings.add(f"the bundles of {last} differ")
        done = self._parties[0].tally("verify", str(file), check=False)
        if done.returncode:
            self._findings.add(f"the bundle of {last}: {' '.join(done.stdout.split())[-300:]}")
        derived = [party.json("derive") for party in self._parties]
        for what in ("digest", "heads", "lines"):
            if derived[0][what] != derived[1][what]:
                self._findings.add(f"the {what} of derive differ")
        self.summary.acknowledged = audit(self._parties, self._ledgers, self._observer)

    def _close_rest(self, party: nodes.Party) -> str:
        """Close every hour that has usage; the last one's label."""
        lines = party.json("derive")["lines"]
        periods: list[str] = sorted({line["period"] for line in lines})
        for period in [period for period in periods if period >= self._hours.label()]:
            party.tally("checkpoint", period, "--force")
            self._hours.closed += 1
        return periods[-1]

    def _read_logs(self) -> None:
        for party in self._parties:
            for line in party.log.read_text().splitlines():
                if any(alarm in line for alarm in ALARMS):
                    self._findings.add(f"{party.name}'s log: {line[:300]}")
