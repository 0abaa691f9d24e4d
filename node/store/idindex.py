"""The index from a delta's (meter, id) to its place in the log, as sorted runs.

New entries live in a dictionary; every so often they are written as a *run*: one file with the
fingerprints, sorted, and behind them the indexes. Runs of like size are merged in the background,
so a log of n entries has about log n runs, nothing is ever rewritten in place, and a look-up is a
binary search in each run for a whole batch at once. Its cost hardly grows with the log, while a
B-tree would dirty a page for every delta.

A fingerprint is a 64-bit hash seeded per home, so nobody outside can aim collisions at it; and a
hit only names a candidate: whoever asks compares the record itself. The files hold nothing that
cannot be rebuilt from the records; the store's `derived` rows say which runs count, so a file that
a crash left behind is just deleted.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from tallystick.node.errors import StoreError
from tallystick.node.store.keyspace import RunRow

RECENT_MAX = 65_536  # entries in memory before a run is written
MERGE_WIDTH = 4  # so many runs of like size become one
MAPPED_BYTES_MAX = 24 * 1024 * 1024  # above it, pages of runs are handed back to the system
LOOKUPS_A_TRIM = 50_000

Uint64s = npt.NDArray[np.uint64]
_fingerprint = xxhash.xxh3_64_intdigest


def fingerprints(names: Iterable[bytes], seed: int) -> list[int]:
    """The fingerprints of `meter NUL id` names."""
    return [_fingerprint(name, seed) for name in names]


class Run:
    """One sorted run, mapped into memory."""

    def __init__(self, path: Path, entries: int) -> None:
        self.path = path
        self.entries = entries
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"the id index file {path} cannot be read: {error}", "Run: tally doctor"
            ) from None
        if len(self._map) != 16 * entries:
            raise StoreError(f"the id index file {path} has a wrong size", "Run: tally doctor")
        self.prints = np.frombuffer(self._map, dtype="<u8", count=entries)
        self.indexes = np.frombuffer(self._map, dtype="<u8", offset=8 * entries, count=entries)

    def trim(self) -> None:
        """Let the system have the pages back that look-ups touched."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def find(self, wanted: Uint64s) -> list[tuple[int, int]]:
        """(fingerprint, index) of every entry whose fingerprint is in `wanted`, which is sorted."""
        places = np.searchsorted(self.prints, wanted)
        hits = np.flatnonzero(self.prints[np.minimum(places, self.entries - 1)] == wanted)
        found = []
        for hit in hits.tolist():
            place, value = int(places[hit]), wanted[hit]
            while place < self.entries and self.prints[place] == value:
                found.append((int(value), int(self.indexes[place])))
                place += 1
        return found


def write_run(path: Path, prints: Uint64s, indexes: Uint64s) -> None:
    """Write a run durably: it is on disk before the store's row names it."""
    with path.open("wb") as file:
        file.write(prints.astype("<u8", copy=False).tobytes())
        file.write(indexes.astype("<u8", copy=False).tobytes())
        file.flush()
        os.fsync(file.fileno())


def merge_runs(path: Path, runs: Sequence[Run]) -> int:
    """Write the runs' entries as one run, a slice of the fingerprints at a time; the entry count.

    Memory stays bounded: a slice holds about two million entries.
    """
    total = sum(run.entries for run in runs)
    slices = total // 2_000_000 + 1
    step = 2**64 // slices
    bounds = [np.uint64(number * step) for number in range(1, slices)]
    cuts = [
        [0, *(int(np.searchsorted(run.prints, bound)) for bound in bounds), run.entries]
        for run in runs
    ]
    at = 0
    with path.open("wb") as file:
        for number in range(slices):
            parts = [
                (run, cut[number], cut[number + 1]) for run, cut in zip(runs, cuts, strict=True)
            ]
            prints = np.concatenate([run.prints[a:b] for run, a, b in parts])
            indexes = np.concatenate([run.indexes[a:b] for run, a, b in parts])
            order = np.argsort(prints, kind="stable")
            file.seek(8 * at)
            file.write(prints[order].tobytes())
            file.seek(8 * (total + at))
            file.write(indexes[order].tobytes())
            at += len(prints)
        file.flush()
        os.fsync(file.fileno())
    for run in runs:
        run.trim()
    return total


class IdIndex:
    """The index of one log. Not for two threads: a merge works on runs, which never change."""

    def __init__(self, folder: Path, log: int, runs: Sequence[RunRow]) -> None:
        self._folder = folder
        self._log = log
        self._runs = [Run(folder / row.file, row.entries) for row in runs]
        self._recent: dict[int, int] = {}
        self._more: dict[int, list[int]] = {}  # further entries with a fingerprint in `_recent`
        self._lookups = 0

    @property
    def recent(self) -> int:
        """How many entries are in no run yet."""
        return len(self._recent)

    def rows(self) -> list[RunRow]:
        """The runs as the store names them."""
        return [RunRow(run.path.name, run.entries) for run in self._runs]

    def add(self, prints: Sequence[int], indexes: Iterable[int]) -> None:
        """Add entries, in log order."""
        recent = self._recent
        if recent.keys().isdisjoint(prints) and len(set(prints)) == len(prints):
            recent.update(zip(prints, indexes, strict=True))
            return
        for value, index in zip(prints, indexes, strict=True):
            if value in recent:
                self._more.setdefault(value, []).append(index)
            else:
                recent[value] = index

    def freeze(self, below: int) -> tuple[Uint64s, Uint64s]:
        """The entries of records before index `below` that are in no run, sorted, for a run."""
        pairs = [(value, index) for value, index in self._recent.items() if index < below]
        pairs += [(v, index) for v, more in self._more.items() for index in more if index < below]
        prints = np.array([value for value, _ in pairs], dtype=np.uint64)
        indexes = np.array([index for _, index in pairs], dtype=np.uint64)
        order = np.argsort(prints, kind="stable")
        return prints[order], indexes[order]

    def adopt(self, row: RunRow, below: int) -> None:
        """The run of a freeze is durable: its entries leave memory."""
        self._runs.append(Run(self._folder / row.file, row.entries))
        kept = [(value, index) for value, index in self._recent.items() if index >= below]
        kept += [(v, index) for v, more in self._more.items() for index in more if index >= below]
        self._recent, self._more = {}, {}
        self.add([value for value, _ in kept], [index for _, index in kept])

    def run_name(self, first: int, below: int) -> str:
        """A file name that no other run of this home has: the records' range is in it."""
        return f"{self._log:08x}-{first:012x}-{below:012x}.run"

    def mergeable(self) -> list[Run]:
        """The oldest runs in a row that are of like size and enough to be merged, or none."""
        runs = self._runs
        for start in range(len(runs) - MERGE_WIDTH + 1):
            group = runs[start : start + MERGE_WIDTH]
            if max(run.entries for run in group) < MERGE_WIDTH * min(run.entries for run in group):
                return group
        return []

    def merge(self, group: Sequence[Run]) -> RunRow:
        """Write the group as one run; safe in another thread."""
        first = group[0].path.stem.split("-")[1]
        below = group[-1].path.stem.split("-")[2]
        path = self._folder / f"{self._log:08x}-{first}-{below}.run"
        return RunRow(path.name, merge_runs(path, group))

    def rows_merged(self, group: Sequence[Run], merged: RunRow) -> list[RunRow]:
        """The runs as the store names them once the group is replaced."""
        rows = self.rows()
        start = rows.index(RunRow(group[0].path.name, group[0].entries))
        return [*rows[:start], merged, *rows[start + len(group) :]]

    def replace(self, group: Sequence[Run], merged: RunRow) -> None:
        """The merged run is durable: use it and delete the group's files."""
        start = self._runs.index(group[0])
        self._runs[start : start + len(group)] = [Run(self._folder / merged.file, merged.entries)]
        for run in group:
            run.path.unlink(missing_ok=True)

    def find(self, prints: Sequence[int]) -> dict[int, list[int]]:
        """The candidates of those fingerprints that have any."""
        found: dict[int, list[int]] = {}
        recent = self._recent
        for value in recent.keys() & prints:
            found[value] = [recent[value], *self._more.get(value, ())]
        if self._runs:
            wanted = np.array(prints, dtype=np.uint64)
            wanted.sort()
            for run in self._runs:
                for value, index in run.find(wanted):
                    found.setdefault(value, []).append(index)
            self._trim(len(prints))
        return found

    def _trim(self, lookups: int) -> None:
        self._lookups += lookups
        if self._lookups >= LOOKUPS_A_TRIM:
            self._lookups = 0
            if sum(run.entries for run in self._runs) * 16 > MAPPED_BYTES_MAX:
                for run in self._runs:
                    run.trim()
