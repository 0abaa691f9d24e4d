"""Real nodes that gossip in a hurry, strangers that listen in, and what a person sees of it."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nodes
import trio
from attacker import Attacker, Line
from scrapes import Scrape

from tallystick.protocol.items import Carried, Conflict
from tallystick.protocol.messages import Hearsay

PATIENCE_SECONDS = 40.0  # of a machine that is busy with other things

# Every wait of gossip's is shortened, and nothing else of it is changed.
CODE = """
from functools import partial
from tallystick.node.gossiping import talker

talker.ROUND_SECONDS, talker.HEAD_SECONDS, talker.PRESENCE_SECONDS = 0.2, 0.5, 2
talker.Limits = partial(talker.Limits, spacing=(0.5, 1.0, 1.0, 1.0), stem=0.5)
""" + nodes.MAIN

CONFIG = "[metrics]\nopen = true\n"


@contextmanager
def running(folder: Path, *names: str) -> Iterator[list[nodes.Party]]:
    """Parties whose nodes gossip in a hurry; names come without their ending."""
    with ExitStack() as stack:
        parties = [nodes.Party(folder, f"{name}.example", CODE) for name in names]
        for party in parties:
            stack.callback(party.stop)

        def begin(party: nodes.Party) -> None:
            party.tally("init", "--name", party.name)
            party.configure(CONFIG)
            party.start()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(begin, parties))
        yield parties


def pair(*pairs: tuple[nodes.Party, nodes.Party]) -> None:
    """Pair these, who have no channel."""
    for one, other in pairs:
        nodes.pair(one, other)


def found(provider: nodes.Party, consumer: nodes.Party) -> str:
    """Pair two and found a channel between them; its id."""
    nodes.pair(provider, consumer)
    terms = nodes.TERMS.replace("acme.example", provider.name)
    return nodes.found(provider, consumer, terms.replace("beta.example", consumer.name))


def emit(party: nodes.Party, peer: nodes.Party, id: str, *options: str) -> None:
    """Record a delta in the channel with a peer."""
    said = ("context-tokens", "1", "--subject", "s", "--id", id, "--channel", peer.name)
    party.tally("emit", *said, *options)


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    nodes.wait_until(condition, PATIENCE_SECONDS)


def of(party: nodes.Party, peer: nodes.Party) -> Any:
    """What its status says of the channel with a peer."""
    (found,) = [c for c in party.json("status")["channels"] if c["peer"] == peer.name]
    return found


def kinds(party: nodes.Party) -> list[str]:
    """The kinds of everything that it was told of."""
    return [event["kind"] for event in party.json("events")["events"]]


def said(party: nodes.Party) -> str:
    """What `tally status` prints, in one line; no line of it is too long for a terminal."""
    lines = party.tally("status").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    return " ".join(" ".join(lines).split())


def metric(party: nodes.Party, name: str, **labels: str) -> float:
    """A value of its node's metrics."""
    with urllib.request.urlopen(party.json("status")["http"] + "/metrics") as answer:
        return Scrape(answer.read().decode()).value(name, **labels)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Onlooker:
    """Somebody with a peer's keys on a line to a node, who keeps all gossip that it is sent."""

    def __init__(self, line: Line) -> None:
        self.line = line

    @property
    def items(self) -> list[Carried]:
        """Every item that it was sent."""
        heard = [one for one in self.line.heard if isinstance(one, Hearsay)]
        return [item for one in heard for item in one.items]

    @property
    def conflicts(self) -> list[Conflict]:
        """Every conflict that it was sent."""
        heard = [one for one in self.line.heard if isinstance(one, Hearsay)]
        return [conflict for one in heard for conflict in one.conflicts]

    async def tell(
        self, items: Sequence[Carried] = (), conflicts: Sequence[Conflict] = ()
    ) -> None:
        """Pass something on, true or not."""
        await self.line.say(Hearsay(list(items), list(conflicts)))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition, which may run verbs, while the line is read."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not await trio.to_thread.run_sync(condition):
                await trio.sleep(0.1)


@asynccontextmanager
async def onlooking(node: nodes.Party, keys: nodes.Party) -> AsyncIterator[Onlooker]:
    """On a line to a node with the keys of a peer, whose own node does not run."""
    async with Attacker(node, keys).line() as line:
        yield Onlooker(line)
