"""Answers that pages ask for again and again: made anew when something changed, and not before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tallystick.node.api.reading import Reader
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.console.remembering import KEPT, TIMES, Remembering


@dataclass
class _Log:
    durable_size: int = 1
    cosigned_size: int = 1


@dataclass
class _Channel:
    id: bytes = b"c"
    own: _Log = field(default_factory=_Log)
    peer: _Log = field(default_factory=_Log)


@dataclass
class _Closer:
    rows: list[int] = field(default_factory=list)


class _Reader:
    """Takes two seconds for each answer, and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 1000.0

    async def ask_lines(self, channel: bytes, question: Callable[..., Any]) -> int:
        self.asked += 1
        self.now += 2
        return self.asked


class _World:
    """A channel that changes at will."""

    def __init__(self) -> None:
        self.reader = _Reader()
        self.remembering = Remembering(cast(Reader, self.reader), lambda: self.reader.now)
        self.channel, self.closer = _Channel(), _Closer()

    async def ask(self, name: str = "x", *, patient: bool = False) -> Any:
        opened = cast(tuple[Channel, Closer], (self.channel, self.closer))
        return await self.remembering.ask(opened, name, lambda c, k: None, patient=patient)


async def test_the_same_is_asked_once() -> None:
    world = _World()
    assert [await world.ask() for _ in range(3)] == [1, 1, 1]
    assert await world.ask("y") == 2


async def test_whatever_changes_is_asked_anew() -> None:
    world = _World()
    expected = 1
    assert await world.ask() == expected
    for log in (world.channel.own, world.channel.peer):
        for name in ("durable_size", "cosigned_size"):
            setattr(log, name, 2)
            expected += 1
            assert await world.ask() == expected
    world.closer.rows.append(1)
    assert await world.ask() == expected + 1
    world.reader.now += 60  # what is due depends on the clock
    assert await world.ask() == expected + 2


async def test_a_page_left_open_takes_an_older_answer_for_a_while() -> None:
    world = _World()
    await world.ask()
    world.channel.own.durable_size = 2
    assert await world.ask(patient=True) == 1
    world.reader.now += TIMES * 2
    assert await world.ask(patient=True) == 2
    world.channel.own.durable_size = 3
    assert await world.ask() == 3


async def test_few_answers_are_kept() -> None:
    world = _World()
    for n in range(KEPT + 1):
        await world.ask(str(n))
    world.reader.now = 1000.0
    assert await world.ask(str(KEPT)) <= KEPT + 2
    assert await world.ask("0") == world.reader.asked
