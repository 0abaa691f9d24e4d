"""Load on a node that may die at any moment: emitters, corrections, checkpoints.

Each emitter speaks with the node over its Unix socket, as the command line does. When the node
dies under a request, the emitter waits until a node is there again and repeats what is in doubt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import trio

from killing.ledger import METERS, Ledger, SentCorrection
from tallystick.node.errors import NodeStops, NodeUnreachable, PeerUnreachable
from tallystick.node.home import Home, open_home
from tallystick.node.importing.drafts import DRAFTS_MAX, Draft
from tallystick.node.rpc import RpcClient
from tallystick.protocol.errors import ConflictError, InputError, TallyError

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
AGAIN_SECONDS = 0.02
COSIGN_SECONDS = 2.0
CLOSE_SECONDS = 5.0
ANSWER_SECONDS = 60.0  # a node that is up and does not answer for so long hangs
SIZES = (1, 1, 1, 2, 5, 20, 60, 150, 600)
drafts_message = msgspec.msgpack.Encoder().encode


class Hours:
    """Which hour is the next to be closed: the load is around it, and some of it comes late."""

    def __init__(self) -> None:
        self.closed = 0

    def label(self) -> str:
        """The next hour's label."""
        return (BEGIN + timedelta(hours=self.closed)).strftime("%Y-%m-%dT%H")

    def moment_us(self, dice: Random) -> int:
        """An instant in the hour before it, in it, or in one of the two after it."""
        hour = max(self.closed + dice.choice((-1, 0, 0, 0, 1, 2)), 0)
        moment = BEGIN + timedelta(hours=hour, seconds=dice.randrange(3600))
        return int(moment.timestamp()) * 1_000_000


class Source(ABC):
    """Something that asks a node for one thing after the other, and outlives the node."""

    def __init__(self, home: Path, ledger: Ledger, dice: Random, stop: trio.Event) -> None:
        self.ledger = ledger
        self.dice = dice
        self.answer_seconds = ANSWER_SECONDS
        self._home = open_home(home)
        self._stop = stop
        self._client: RpcClient | None = None

    def move(self, home: Home) -> None:
        """Ask the node of another home from now on."""
        self._home = home

    @property
    def idle(self) -> bool:
        """Whether nothing has to be asked again."""
        return True

    @abstractmethod
    async def step(self) -> None:
        """Ask for one thing; `NodeUnreachable` if the node died under it."""

    async def run(self) -> None:
        """Ask until told to stop, and then until nothing is in doubt."""
        while not (self._stop.is_set() and self.idle):
            try:
                async with RpcClient.connect(self._home) as client:
                    self._client = client
                    await self._session()
            except NodeUnreachable:
                await trio.sleep(AGAIN_SECONDS)

    async def _session(self) -> None:
        while not (self._stop.is_set() and self.idle):
            try:
                await self.step()
            except NodeUnreachable:
                return
            except TallyError as error:
                self.ledger.findings.add(f"{self.ledger.party}: {type(error).__name__}: {error}")
                await trio.sleep(1)

    async def call(self, method: str, **params: object) -> Any:
        """The method's result."""
        assert self._client is not None
        with trio.move_on_after(self.answer_seconds):
            try:
                return await self._client.call(method, channel=None, **params)
            except NodeStops as error:  # it writes nothing any more: ask the one that comes
                raise NodeUnreachable(error.message) from error
        self.ledger.findings.add(f"{self.ledger.party}: no answer to {method}")
        raise NodeUnreachable("the node does not answer")


class Emitter(Source):
    """Sends batches of mixed sizes, new and repeated, and now and then waits for the peer."""

    def __init__(
        self, name: str, hours: Hours, home: Path, ledger: Ledger, dice: Random, stop: trio.Event
    ) -> None:
        super().__init__(home, ledger, dice, stop)
        self._name = name
        self._hours = hours
        self._count = 0
        self._corrections = 0
        self._doubtful: list[Draft] = []  # sent, and no answer came

    @property
    def idle(self) -> bool:
        return not self._doubtful

    async def step(self) -> None:
        chance = self.dice.random()
        if self._doubtful or chance < 0.9 or not self.ledger.acknowledged:
            await self._emit()
        elif chance < 0.95:
            await self._contradict()
        else:
            await self._correct()
        await trio.sleep(self.dice.uniform(0, 0.06))

    async def _emit(self) -> None:
        drafts = self._batch()
        self.ledger.send(drafts)
        self._doubtful = drafts
        if self.dice.random() < 0.15:
            await self._ask_twice(drafts)
        else:
            await self._ask(drafts)
        if self.dice.random() < 0.25:
            await self._wait(self.ledger.size)

    async def _ask(self, drafts: list[Draft]) -> None:
        answer = await self.call("emit", drafts=drafts_message(drafts))
        self._doubtful = []
        self.ledger.take(drafts, answer)

    async def _ask_twice(self, drafts: list[Draft]) -> None:
        """The same deltas in two requests at once, as an impatient caller sends them."""
        lost: list[NodeUnreachable] = []

        async def ask() -> None:
            try:
                await self._ask(drafts)
            except NodeUnreachable as error:
                lost.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        if lost:
            raise lost[0]

    def _batch(self) -> list[Draft]:
        """What to send: what is in doubt as it was or among other deltas, or something new."""
        dice = self.dice
        drafts = list(self._doubtful)
        # Doubts pile up while the node keeps dying; one request takes DRAFTS_MAX.
        many = len(drafts) > DRAFTS_MAX // 2
        if drafts and (self._stop.is_set() or many or dice.random() < 0.5):
            return drafts
        drafts += [self._draft() for _ in range(dice.choice(SIZES))]
        if dice.random() < 0.3:
            drafts += self.ledger.known(dice, dice.choice((1, 3, 30)))
        if dice.random() < 0.2:
            drafts += self.ledger.in_doubt(dice, dice.choice((1, 10)))
        if dice.random() < 0.1:
            drafts += drafts[-3:]
        dice.shuffle(drafts)
        return drafts

    def _draft(self) -> Draft:
        self._count += 1
        dice = self.dice
        return Draft(
            f"{self._name}-{self._count}",
            dice.choice(METERS),
            f"project-{dice.randrange(9)}",
            dice.randrange(10_000),
            self._hours.moment_us(dice),
        )

    async def _wait(self, size: int) -> None:
        try:
            await self.call("wait", size=size, seconds=COSIGN_SECONDS)
        except PeerUnreachable:
            return
        self.ledger.cosigned = max(self.ledger.cosigned, size)

    async def _contradict(self) -> None:
        known = self.ledger.known(self.dice, 1)[0]
        other = Draft(known.id, known.meter, known.subject, known.quantity + 1, known.occurred_at)
        answer = await self.call("emit", drafts=drafts_message([other]))
        self.ledger.take_conflict(other, answer)

    async def _correct(self) -> None:
        draft = self.ledger.known(self.dice, 1)[0]
        self._corrections += 1
        reason = f"{self._name}'s correction {self._corrections}"
        quantity = None if self.dice.random() < 0.2 else self.dice.randrange(10_000)
        sent = SentCorrection(draft, quantity)
        self.ledger.corrections[reason] = sent
        try:
            answer = await self.call(
                "correct", meter=draft.meter, id=draft.id, quantity=quantity, reason=reason
            )
        except ConflictError as error:
            if "which is voided" not in error.message:
                raise
            del self.ledger.corrections[reason]
            return
        if answer["again"]:  # it was so already
            del self.ledger.corrections[reason]
            return
        sent.index = answer["index"]
        self.ledger.size = max(self.ledger.size, sent.index + 1)


class Closing(Source):
    """Closes one past hour after the other, early, as often as the peer agrees."""

    def __init__(
        self, hours: Hours, home: Path, ledger: Ledger, dice: Random, stop: trio.Event
    ) -> None:
        super().__init__(home, ledger, dice, stop)
        self._hours = hours

    async def step(self) -> None:
        with trio.move_on_after(self.dice.uniform(0.2, 2.0)):
            await self._stop.wait()
            return
        await self.close(self._hours.label())

    async def close(self, label: str) -> None:
        """Try to close an hour; a refusal that is no more than bad luck is none."""
        try:
            with trio.move_on_after(CLOSE_SECONDS) as waiting:
                answer = await self.call("checkpoint", period=label, force=True)
        except PeerUnreachable:
            return
        except InputError as error:
            if "halted" in error.message:
                raise
            return
        if waiting.cancelled_caught:
            return
        known = self.ledger.closed.setdefault(label, answer["digest"])
        if known != answer["digest"]:
            self.ledger.findings.add(f"{self.ledger.party}: {label} was closed twice")
        if label == self._hours.label():
            self._hours.closed += 1
