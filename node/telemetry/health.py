"""Whether the node is well, and whether it is ready: in words, for people and for what watches it.

Not healthy is what people have to look after here: a task that died, a disk that is full or fails.
A peer that is away makes the node neither unhealthy nor unready: what is recorded is durable, and
is co-signed later. It is said as `degraded`.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import trio

from tallystick.node.node import Node
from tallystick.node.quotas import MEBIBYTE

NAMES_MAX = 20  # of peers that are away
DISK_SECONDS = 5  # for the file system to say how full it is
# Of their own: one that hangs must not take a thread that the store needs.
_THREADS = trio.CapacityLimiter(2)


@dataclass(frozen=True, slots=True)
class Readiness:
    """What keeps the node from serving, and what works less well than it might."""

    problems: list[str]
    degraded: list[str]

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return not self.problems


def dead(node: Node) -> list[str]:
    """What only a new start mends; said by the loop itself, so the loop runs."""
    return [] if node.books.store.running else ["the task that writes the store has ended"]


async def health(node: Node) -> list[str]:
    """What is wrong here; nothing if the node is healthy."""
    problems = dead(node)
    store = node.books.store
    stuck = store.counts.under_way_seconds()
    if store.counts.failure and not problems and not stuck:
        await store.prove()
    if store.counts.failure:
        problems.append(f"the last commit failed: {store.counts.failure}")
    if stuck > DISK_SECONDS:
        problems.append(f"the disk has not finished a commit for {stuck:.0f} seconds")
    free = node.books.config.health.free_mebibytes
    said: str | None = "the disk does not answer"
    with trio.move_on_after(DISK_SECONDS):
        said = await trio.to_thread.run_sync(
            _disk_problem, node.home.path, free, abandon_on_cancel=True, limiter=_THREADS
        )
    return problems if said is None else [*problems, said]


def _disk_problem(path: Path, free_mebibytes: int) -> str | None:
    try:
        disk = os.statvfs(path)
    except OSError as error:
        return f"the home cannot be reached: {error.strerror}"
    if disk.f_flag & os.ST_RDONLY:
        return "the home is on a file system that is read-only"
    free = disk.f_bavail * disk.f_frsize // MEBIBYTE
    if free < free_mebibytes:
        return f"{free} MiB are free where the home is; {free_mebibytes} should be"
    return None


def readiness(node: Node, *, names: bool) -> Readiness:
    """Whether the node serves; with `names` who is away, without only how many are."""
    books = node.books
    problems = []
    if books.store.stopped or not books.store.running:
        problems.append("the store is not open for writing")
    rows = books.founding.rows
    founded = [key for key, row in rows.items() if row.state in ("open", "halted")]
    missing = len([key for key in founded if key not in books.channels])
    if missing:
        problems.append(f"{missing} of {len(founded)} channels are not loaded")
    if not node.listening:
        problems.append("peers cannot connect yet")
    return Readiness(problems, _degraded(node, names=names))


def _degraded(node: Node, *, names: bool) -> list[str]:
    books = node.books
    links = node.peering.links
    away = [name for name in books.peers if name not in links or not links[name].live]
    said = []
    if node.peering.presences.stopped:
        said.append("another copy of this home runs: nothing is signed until people decide")
    if names:
        said += [f"{name} is not connected" for name in away[:NAMES_MAX]]
        if len(away) > NAMES_MAX:
            said.append(f"{len(away) - NAMES_MAX} more peers are not connected")
    elif away:
        said.append(f"{len(away)} of {len(books.peers)} peers are not connected")
    halted = Counter(row.peer for row in books.founding.rows.values() if row.state == "halted")
    if names:
        said += [f"{_channels(count)} with {peer} halted" for peer, count in halted.items()]
    elif halted:
        said.append(f"{_channels(halted.total())} halted")
    full = sum(channel.full for channel, _ in list(books.channels.values()))
    if full:
        said.append(f"{_channels(full)} at the quota: nothing more of the peer's log is taken")
    return said


def _channels(count: int) -> str:
    return "1 channel is" if count == 1 else f"{count} channels are"
