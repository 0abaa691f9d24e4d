"""Real nodes that gossip in a hurry, strangers that listen in, and what a person sees of it."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attacker
import nodes
import trio
from attacker import Attacker, Line, call
from scrapes import Scrape

from tallystick.node import queries
from tallystick.node.books import Books
from tallystick.node.gossiping.pseudonyms import Pseudonyms
from tallystick.node.home import open_home
from tallystick.protocol.items import Carried, Conflict, encode_item
from tallystick.protocol.messages import Hearsay

PATIENCE_SECONDS = float(
    __import__("os").environ.get("PAT", "120")
)  # of a machine that is busy with other things

# Waits of gossip's and the longest between two attempts to dial are shortened, nothing else is.
CODE = (
    """
from functools import partial
from tallystick.node import dialling
from tallystick.node.gossiping import talker

dialling.MAX_SECONDS = 2.0

talker.ROUND_SECONDS, talker.HEAD_SECONDS, talker.PRESENCE_SECONDS = 0.2, 0.5, 2
talker.Limits = partial(talker.Limits, spacing=(0.5, 1.0, 1.0, 1.0), stem=0.5)
"""
    + nodes.MAIN
)

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


def asked(party: nodes.Party, method: str, **params: object) -> Any:
    """The answer of a running node; a verb would say the same in a second of the processor."""
    return trio.run(partial(call, party, method, **params))


def pair(*pairs: tuple[nodes.Party, nodes.Party]) -> None:
    """Pair these, who have no channel."""
    for one, other in pairs:
        asked(other, "join", code=asked(one, "invite", lifetime_seconds=600)["code"])


def found(provider: nodes.Party, consumer: nodes.Party) -> str:
    """Pair two and found a channel between them; its id."""
    pair((provider, consumer))
    return trio.run(attacker.found, provider, consumer)


def emit(party: nodes.Party, peer: nodes.Party, id: str, *, wait: bool = True) -> None:
    """Record a delta in the channel with a peer; wait until its co-signature is on our disk."""
    size = trio.run(attacker.emit, party, peer.name, [id])
    if wait:
        until(lambda: of(party, peer)["own"]["cosigned"] >= size)


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    nodes.wait_until(condition, PATIENCE_SECONDS)


def status(party: nodes.Party) -> Any:
    """What `tally status --json` prints."""
    live = None if party.process is None else asked(party, "live")
    books = Books.open(open_home(party.home), read_only=True)
    try:
        return queries.status(books, live)
    finally:
        books.close()


def of(party: nodes.Party, peer: nodes.Party) -> Any:
    """What its status says of the channel with a peer."""
    (found,) = [c for c in status(party)["channels"] if c["peer"] == peer.name]
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
    with urllib.request.urlopen(asked(party, "live")["http"] + "/metrics") as answer:
        return Scrape(answer.read().decode()).value(name, **labels)


def newest(party: nodes.Party, channel: str) -> tuple[bytes, int]:
    """By which pseudonym and rank strangers know the newest co-signed head of a party's log."""
    books = Books.open(open_home(party.home), read_only=True)
    try:
        key = bytes.fromhex(channel)
        pseudonyms = Pseudonyms(books)
        behind = pseudonyms.publishing(key)
        assert behind is not None
        veil = pseudonyms.veil(behind)
        return veil.pseudonym, veil.rank(books.channels[key][0].own.cosigned_size)
    finally:
        books.close()


def mentions(party: nodes.Party, *secrets: bytes) -> list[bytes]:
    """Which of these bytes its home or its node's log has, anywhere."""
    files = [party.log, *(file for file in party.home.rglob("*") if file.is_file())]
    held = [file.read_bytes() for file in files]
    return [secret for secret in secrets if any(secret in data for data in held)]


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

    @property
    def known(self) -> set[tuple[bytes, int]]:
        """The pseudonyms and ranks of what it was sent."""
        return {(carried.item.pseudonym, carried.item.rank) for carried in self.items}

    def bytes_of_items(self) -> bytes:
        """All that strangers see of what it was sent."""
        both = [item for c in self.conflicts for item in (c.first, c.second)]
        return b"".join(encode_item(item) for item in [*both, *(c.item for c in self.items)])

    async def tell(self, items: Sequence[Carried] = (), conflicts: Sequence[Conflict] = ()) -> None:
        """Pass something on, true or not."""
        await self.line.say(Hearsay(list(items), list(conflicts)))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition, which may run verbs, while the line is read."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not await trio.to_thread.run_sync(condition):
                await trio.sleep(0.1)


def until_told(node: nodes.Party, keys: nodes.Party, wanted: tuple[bytes, int]) -> None:
    """Wait until a node has passed this on to a peer, whose own node does not run."""

    async def watch() -> None:
        async with onlooking(node, keys) as onlooker:
            await onlooker.until(lambda: wanted in onlooker.known)

    trio.run(watch)


@asynccontextmanager
async def onlooking(node: nodes.Party, keys: nodes.Party) -> AsyncIterator[Onlooker]:
    """On a line to a node with the keys of a peer, whose own node does not run."""
    async with Attacker(node, keys).line() as line:
        yield Onlooker(line)
