"""Pairs of homes with a log of some size, built once for all benchmarks of a run, or kept.

A home grows by what is measured in it, so it has at least as many deltas as it is asked for. One
whose building was interrupted is built further.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nodes
import trio

from benchmarks import load
from benchmarks.progress import Progress
from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.rpc import RpcClient

NAMES = ("acme.example", "beta.example")
PIECE = 500_000  # about so many are co-signed before the next: neither side runs ahead for long
BYTES_A_DELTA = 230  # of disk in one home, with some room
FOUNDED, PIECES = "founded", "pieces.json"  # the second has a line for each piece that was built
SETTLE_SECONDS, IDLE = 1.0, 0.1  # of a processor, at most, in a node that only waits
SETTLE_TURNS_MAX = 600


SETTINGS = "[quotas]\nlog_mebibytes = 1048576\n"  # the largest logs are beyond the default


class NoRoom(Exception):
    """The disk has too little room for the homes."""


@dataclass(slots=True)
class Pair:
    """A provider's and a consumer's home, and how many deltas the provider recorded."""

    acme: nodes.Party
    beta: nodes.Party
    deltas: int
    folder: Path

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both nodes run, and the channel is open."""
        try:
            for party in (self.acme, self.beta):
                party.start()
            self.connected()
            yield
        finally:
            self.acme.stop()
            self.beta.stop()

    def connected(self) -> None:
        """Wait until the channel is open."""
        nodes.wait_until(lambda: is_open(self.acme))

    def settle(self) -> None:
        """Wait until neither node has anything left to do, such as merging an index."""
        parties = (self.acme, self.beta)
        for _ in range(SETTLE_TURNS_MAX):
            before = [party.cpu_seconds() for party in parties]
            time.sleep(SETTLE_SECONDS)
            spent = [party.cpu_seconds() - old for party, old in zip(parties, before, strict=True)]
            if max(spent) <= IDLE * SETTLE_SECONDS:
                return

    def pieces(self) -> list[dict[str, float]]:
        """What building took, piece by piece: sizes, seconds, processor time."""
        file = self.folder / PIECES
        return [json.loads(line) for line in file.read_text().splitlines()]

    def emit(self, records: int, *, wait: bool = True) -> load.Sent:
        """Emit so many new deltas, that are made beforehand."""
        bodies = list(load.batches(self.deltas, records))
        self.deltas += records
        return load.emit(self.acme, bodies, wait=wait)


class Homes:
    """The homes in a folder."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder = folder
        self._progress = progress

    def at(self, records: int, kind: str = "plain") -> Pair:
        """Homes with so many deltas, their nodes stopped. Of each kind those of a size are the
        same ones every time.
        """
        folder = self._folder / f"{kind}-{records}"
        founded = (folder / FOUNDED).exists()
        acme, beta = (nodes.Party(folder, name) for name in NAMES)
        deltas = log_size(acme) - 1 if founded else 0  # the terms are a record, too
        pair = Pair(acme, beta, deltas, folder)
        _check_room(folder, records - pair.deltas)
        if not founded:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with nodes.channel(folder):
                pass
            (folder / FOUNDED).touch()
        for party in (acme, beta):
            party.configure(SETTINGS)
        if pair.deltas < records:
            self._build(pair, records)
        return pair

    def _build(self, pair: Pair, records: int) -> None:
        # Batches may have come out of order before an interruption: the last ones come again.
        start = max(pair.deltas - 2 * load.IN_FLIGHT * load.BATCH, 0)
        progress, done = self._progress, start
        progress.begin(f"building homes of {records:,} deltas", start)

        def sent() -> None:
            nonlocal done
            done = min(done + load.BATCH, records)
            progress.done(done, records)

        with pair.running():
            size = _even(records - start)
            for first in range(start, records, size):
                count = min(size, records - first)
                bodies = load.batches(first, count)
                before = [party.cpu_seconds() for party in (pair.acme, pair.beta)]
                seconds = load.emit(pair.acme, bodies, sent=sent).seconds
                after = [party.cpu_seconds() for party in (pair.acme, pair.beta)]
                cpu = [round(new - old, 2) for new, old in zip(after, before, strict=True)]
                piece = {
                    "first": first,
                    "deltas": count,
                    "seconds": round(seconds, 3),
                    "provider": cpu[0],
                    "consumer": cpu[1],
                }
                with (pair.folder / PIECES).open("a") as out:
                    out.write(json.dumps(piece) + "\n")
            pair.settle()
        progress.end()
        pair.deltas = records


def _even(deltas: int) -> int:
    """A size of pieces so that the last one is not much smaller: its figures count as much."""
    pieces = max(round(deltas / PIECE), 1)
    return -(-deltas // pieces)


def _check_room(folder: Path, deltas: int) -> None:
    """`NoRoom` if so many more do not fit."""
    there = next(parent for parent in folder.parents if parent.exists())
    needed, free = deltas * BYTES_A_DELTA * len(NAMES), shutil.disk_usage(there).free
    if needed > free:
        raise NoRoom(
            f"{deltas:,} deltas in two homes need about {needed / 1e9:,.0f} GB, and"
            f" {free / 1e9:,.0f} GB are free. Give --keep a folder on a larger disk, or fewer"
            " --records"
        )


def log_size(party: nodes.Party) -> int:
    """The size of the log of a party with one channel."""
    books = Books.open(open_home(party.home), read_only=True)
    try:
        channel, _ = next(iter(books.channels.values()))
        return channel.own.durable_size
    finally:
        books.close()


def is_open(party: nodes.Party) -> bool:
    """Whether the only channel of a running node is, too: the peer is there and confirmed it."""

    async def ask() -> bool:
        async with RpcClient.connect(open_home(party.home)) as client:
            live = await client.call("live")
        return all(channel["confirmed"] for channel in live["channels"].values())

    return trio.run(ask)
