"""Takeovers under load: the node of one party is killed again and again, and its standby promoted.

Nothing is acknowledged before the standby has it, so after any number of takeovers both parties
must hold every acknowledged delta once, in one history, and nobody may hold evidence. Whoever was
superseded must find that out when it is started again, and stop.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import nodes
import standbys
import trio
from tollgate import Tollgate

from killing.audit import audit
from killing.ledger import METERS, TERMS, Findings, Ledger
from killing.load import Closing, Emitter, Hours, Source, drafts_message
from killing.observer import Observer
from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rpc import RpcClient
from tallystick.protocol.errors import TallyError, lone_error

EMITTERS = 3  # a party
STEP_SECONDS = 300  # until a standby is in step; no emit is answered before that
REST_SECONDS = 300  # until all is co-signed after the last takeover
STOP_SECONDS = 60  # until a superseded node has noticed
HELD_SECONDS = 1.0  # that nothing reaches the standby before a node is killed
PARTIES = ("acme.example", "beta.example")
# What no takeover is a reason for. (A node that was superseded says so as an error.)
ALARMS = ("Traceback", "halt", "broke the protocol", "set aside", "evidence")


@dataclass(slots=True)
class Summary:
    """What was done and found."""

    seed: int
    takeovers: int = 0
    fenced: int = 0
    acknowledged: int = 0
    at_takeovers: int = 0  # acknowledged by nodes that were killed
    held: int = 0  # killed while nothing reached the standby
    repeats: int = 0
    checkpoints: int = 0
    heads: int = 0
    seconds: float = 0.0
    findings: tuple[str, ...] = ()


class Takeovers:
    """So many takeovers of the node of the party at `place` in `PARTIES`, then rest and audit."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        takeovers: int,
        place: int = 0,
        tell: Callable[[str], None] = lambda line: None,
        code: str = nodes.MAIN,
    ) -> None:
        self._code = code
        self.summary = Summary(seed)
        self._folder = folder
        self._wanted = takeovers
        self._place = place
        self._tell = tell
        self._dice = Random(seed)
        self._findings = Findings()
        self._hours = Hours()
        self._stop = trio.Event()
        self._ways: list[str] = []  # in which nodes are lost next
        self._logs: list[Path] = []
        self._last: list[Draft] = []  # sent before a node is killed
        self._superseded: list[nodes.Party] = []

    def run(self) -> Summary:
        """Do it all, in real time."""
        began = time.monotonic()
        with nodes.channel(self._folder, TERMS, self._code) as parties:
            self._parties = list(parties)
            self._ledgers = {name: Ledger(name, self._findings) for name in PARTIES}
            self._observer = Observer(self._ledgers, self._findings)
            first = parties[self._place]
            first.stop()
            first.configure(standbys.WAIT.format(seconds=0))
            first.start()
            try:
                trio.run(self._run)
                self._finish()
            except* (RuntimeError, TimeoutError) as group:
                self._findings.add(" ".join(str(lone_error(group)).split()))
            finally:
                for party in [*self._parties, *self._superseded]:
                    party.kill()
        self._read_logs()
        summary, ledgers = self.summary, self._ledgers.values()
        summary.seconds = round(time.monotonic() - began, 1)
        summary.repeats = sum(ledger.repeats for ledger in ledgers)
        summary.checkpoints = self._hours.closed
        summary.heads = sum(len(heads) for heads in self._observer.seen.values())
        summary.findings = tuple(self._findings)
        return summary

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._load(nursery)
            for number in range(self._wanted):
                await self._take_over(number)
                if self._findings:
                    break
            with trio.move_on_after(REST_SECONDS) as waiting:
                await self._rest()
            if waiting.cancelled_caught:
                self._findings.add(f"the nodes are not at rest after {REST_SECONDS} s")
            nursery.cancel_scope.cancel()

    def _load(self, nursery: trio.Nursery) -> None:
        self._sources: list[tuple[int, Source]] = []
        for place, party in enumerate(self._parties):
            given = (party.home, self._ledgers[party.name])
            for number in range(EMITTERS):
                dice = Random(self._dice.random())
                source = Emitter(f"e{number}", self._hours, *given, dice, self._stop)
                self._sources.append((place, source))
            closing = Closing(self._hours, *given, Random(self._dice.random()), self._stop)
            self._sources.append((place, closing))
        for _, source in self._sources:
            source.answer_seconds = STEP_SECONDS
        self._running = len(self._sources)
        for _, one in self._sources:
            nursery.start_soon(self._emit, one)

    async def _emit(self, source: Source) -> None:
        await source.run()
        self._running -= 1

    # Take over

    async def _take_over(self, number: int) -> None:
        old = self._parties[self._place]
        folder = self._folder / f"standby-{number}"
        folder.mkdir()
        self._gate = Tollgate(old.address)
        address = self._gate.address
        new = await trio.to_thread.run_sync(standbys.Standby, folder, old, self._code, address)
        new.configure(standbys.WAIT.format(seconds=0))
        self._logs.append(new.log)
        await trio.to_thread.run_sync(new.follow)
        await self._in_step(new)
        await self._ask_again(old)
        await trio.sleep(self._dice.uniform(0.2, 2.5))
        ledger = self._ledgers[old.name]
        before = len(ledger.acknowledged)
        try:
            await self._strike(old, new)
        finally:
            await trio.to_thread.run_sync(self._gate.close)
        self.summary.at_takeovers += before
        self._parties[self._place] = new
        for place, source in self._sources:
            if place == self._place:
                source.move(open_home(new.home))
        self.summary.takeovers += 1
        self._tell(
            f"takeover {self.summary.takeovers}: {before:,} acknowledged before it,"
            f" {self._hours.closed} hours closed"
        )
        await self._start_old(old)

    async def _strike(self, old: nodes.Party, new: standbys.Standby) -> None:
        """Kill the node, and now and then others with it, and let the standby take over."""
        if not self._ways:
            others = ["node", "both", "all", "alive"]
            self._ways = ["apart", *self._dice.sample(others, len(others))]
        what = self._ways.pop(0)
        self._tell(f"{old.name} is to be taken over from: {what}")
        other = self._parties[1 - self._place]
        if what == "apart":  # so that nobody else has what the node acknowledges now
            await trio.to_thread.run_sync(other.kill)
            await trio.sleep(self._dice.uniform(0.3, 1.0))
        if what != "alive":
            await self._strike_on_answer(old)
            await trio.to_thread.run_sync(old.kill)
            await trio.to_thread.run_sync(self._gate.close)
        if what in ("both", "all"):
            await trio.to_thread.run_sync(new.kill)
        if what == "all":
            await trio.to_thread.run_sync(other.kill)
        if new.process is not None:
            await trio.to_thread.run_sync(new.promote)
        else:
            await trio.to_thread.run_sync(new.tally, "promote", "--yes")
            await trio.to_thread.run_sync(new.start)
        if what in ("all", "apart"):
            await trio.to_thread.run_sync(other.start)
        if what == "alive":
            await trio.to_thread.run_sync(self._await_end, old)

    async def _strike_on_answer(self, old: nodes.Party) -> None:
        """Kill the node as soon as it acknowledges one more delta. Now and then nothing reaches
        its standby meanwhile: then it must not.
        """
        held = self._dice.random() < 0.5
        if held:
            self._gate.hold()
            self.summary.held += 1
        moment_us = self._hours.moment_us(self._dice)
        name = f"last-{self.summary.takeovers}"
        self._last = [Draft(name, METERS[0], "last", 1, moment_us)]
        self._ledgers[old.name].send(self._last)
        with trio.move_on_after(HELD_SECONDS if held else STEP_SECONDS):
            await self._emit_last(old)
        assert old.process is not None
        old.process.kill()

    async def _emit_last(self, party: nodes.Party) -> None:
        ledger = self._ledgers[party.name]
        try:
            async with RpcClient.connect(open_home(party.home)) as client:
                answer = await client.call("emit", channel=None, drafts=drafts_message(self._last))
        except TallyError as error:
            self._findings.add(f"{party.name}: {type(error).__name__}: {error}")
        else:
            ledger.take(self._last, answer)
            self._last = []

    async def _ask_again(self, party: nodes.Party) -> None:
        """What was not answered before the takeover is sent again, as anybody would, once there is
        a standby: before that no answer comes.
        """
        if self._last:
            await self._emit_last(party)

    async def _in_step(self, standby: standbys.Standby) -> None:
        with trio.move_on_after(STEP_SECONDS):
            while True:
                document = await trio.to_thread.run_sync(standby.json, "standby")
                if document["in_step"] and document["complete"]:
                    return
                await trio.sleep(0.1)
        raise TimeoutError(f"the standby is not in step after {STEP_SECONDS} s: {document}")

    async def _start_old(self, old: nodes.Party) -> None:
        """A node that was superseded notices when it is started, and does not start again."""
        if old.process is None:  # it was killed: it does not know yet
            old.launch()
            await trio.to_thread.run_sync(self._await_end, old)
        self._superseded.append(old)
        said = await trio.to_thread.run_sync(lambda: old.tally("run", check=False))
        if said.returncode != 2 or "took over from this home" not in said.stderr:
            self._findings.add(f"a superseded home was started: {said.stderr.strip()[-200:]}")
        self.summary.fenced += 1

    def _await_end(self, old: nodes.Party) -> None:
        assert old.process is not None
        try:
            code = old.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._findings.add(f"a superseded node runs on for {STOP_SECONDS} s")
        else:
            if code != 2:
                self._findings.add(f"a superseded node ended with code {code}")
        old.kill()  # which closes its files

    # Rest

    async def _rest(self) -> None:
        self._stop.set()
        last = await trio.to_thread.run_sync(self._last_standby)
        await self._in_step(last)
        await self._ask_again(self._parties[self._place])
        while self._running:
            await trio.sleep(0.05)
        while not all([await self._at_rest(party) for party in self._parties]):
            await trio.sleep(0.2)

    def _last_standby(self) -> standbys.Standby:
        """The last node waits for a standby as well."""
        folder = self._folder / "standby-last"
        folder.mkdir()
        standby = standbys.Standby(folder, self._parties[self._place], self._code)
        self._superseded.append(standby)  # so that it is stopped
        standby.follow()
        return standby

    async def _at_rest(self, party: nodes.Party) -> bool:
        status = await trio.to_thread.run_sync(party.json, "status")
        channel = status["channels"][0]
        own, theirs = channel["own"], channel["theirs"]
        peer = next(name for name in PARTIES if name != party.name)
        return bool(
            channel["state"] == "open"
            and own["cosigned"] == own["size"] >= self._ledgers[party.name].size
            and theirs["cosigned"] == theirs["size"] >= self._ledgers[peer].size
        )

    def _finish(self) -> None:
        derived = [party.json("derive") for party in self._parties]
        for what in ("digest", "heads", "lines"):
            if derived[0][what] != derived[1][what]:
                self._findings.add(f"the {what} of derive differ")
        for party in self._parties:
            if evidence := party.json("evidence")["evidence"]:
                self._findings.add(f"{party.name} holds evidence: {evidence}")
        self.summary.acknowledged = audit(self._parties, self._ledgers, self._observer)

    def _read_logs(self) -> None:
        others = [self._folder / f"{name}.log" for name in PARTIES]
        for log in [*others, *self._logs]:
            for line in log.read_text().splitlines():
                if any(alarm in line for alarm in ALARMS):
                    self._findings.add(f"{log.parent.name}/{log.name}: {line[:300]}")
