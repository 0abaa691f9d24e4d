"""Pairs of homes with a log of some size, built once for all benchmarks of a run, or kept.

A home grows by what is measured in it, so it has at least as many deltas as it is asked for. One
whose building was interrupted is built further.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodes

from benchmarks import load
from benchmarks.progress import Progress

NAMES = ("acme.example", "beta.example")
PIECE = 122 * load.BATCH  # co-signed before the next: neither side runs ahead for long
BYTES_A_DELTA = 350  # of disk in one home, generously
FOUNDED = "founded"


class NoRoom(Exception):
    """The disk has too little room for the homes."""


@dataclass(slots=True)
class Pair:
    """A provider's and a consumer's home, and how many deltas the provider recorded."""

    acme: nodes.Party
    beta: nodes.Party
    deltas: int

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
        nodes.wait_until(lambda: status(self.acme)["state"] == "open")

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
        if not (folder / FOUNDED).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with nodes.channel(folder):
                pass
            (folder / FOUNDED).touch()
        acme, beta = (nodes.Party(folder, name) for name in NAMES)
        pair = Pair(acme, beta, status(acme)["own"]["size"] - 1)  # the terms are a record, too
        if pair.deltas < records:
            self._build(folder, pair, records)
        return pair

    def _build(self, folder: Path, pair: Pair, records: int) -> None:
        needed = (records - pair.deltas) * BYTES_A_DELTA * len(NAMES)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise NoRoom(
                f"homes of {records:,} deltas need about {needed / 1e9:,.0f} GB,"
                f" and {free / 1e9:,.0f} GB are free. Give --keep a folder on a larger disk,"
                " or fewer --records"
            )
        # Batches may have come out of order before an interruption: the last ones come again.
        start = max(pair.deltas - 2 * load.IN_FLIGHT * load.BATCH, 0) if pair.deltas else 0
        progress, done = self._progress, start
        progress.begin(f"building homes of {records:,} deltas", start)

        def sent() -> None:
            nonlocal done
            done = min(done + load.BATCH, records)
            progress.done(done, records)

        with pair.running():
            for first in range(start, records, PIECE):
                bodies = load.batches(first, min(PIECE, records - first))
                load.emit(pair.acme, bodies, sent=sent)
        progress.end()
        pair.deltas = records


def status(party: nodes.Party) -> dict[str, Any]:
    """How a party's only channel stands."""
    channel: dict[str, Any] = party.json("status")["channels"][0]
    return channel
