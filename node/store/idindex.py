"""The index from a delta's (meter, id) to its place in the log, as sorted runs.

New entries live in a dictionary; every so often they are written as a *run*: one file of entries
sorted by fingerprint. Runs of like size are merged in the background, so a log of n entries has
about log n runs and nothing is ever rewritten in place. A look-up asks each run's filter, a whole
batch at once, and reads a block of the few runs that may know, which is one page of the file. Its
cost hardly grows with the log, while a B-tree would dirty a page for every delta.

A fingerprint is a 64-bit hash seeded per home, so nobody outside can aim collisions at it; and a
hit only names a candidate: whoever asks compares the record itself. The files hold nothing that
cannot be rebuilt from the records; the store's `derived` rows say which runs count, so a file that
a crash left behind is just deleted.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import xxhash

from tallystick.node.errors import StoreError
from tallystick.node.store.keyspace import RunRow

RECENT_MAX = 65_536  # entries in memory before a run is written
MERGE_WIDTH = 4  # so many runs of like size become one
MERGE_SLICE = 65_536  # entries that a merge holds in memory at once
BLOCK = 256  # entries that a look-up reads from a run: their fingerprints, then their indexes
BLOCK_BYTES = 16 * BLOCK
MAGIC = b"ids by 2"  # at a run's end: in files without it indexes are apart from fingerprints
FILTER_BITS = 12  # of the filter for each entry: about one look-up in a hundred passes in vain

Uint64s = npt.NDArray[np.uint64]
_fingerprint = xxhash.xxh3_64_intdigest
_ONE, _SIX, _THIRTY_TWO = np.uint64(1), np.uint64(0x3F), np.uint64(32)


def fingerprints(names: Iterable[bytes], seed: int) -> list[int]:
    """The fingerprints of `meter NUL id` names."""
    return [_fingerprint(name, seed) for name in names]


class _Filter:
    """A blocked Bloom filter: four bits in one word of each entry, a word read for each look-up."""

    def __init__(self, words: Uint64s) -> None:
        self.words = words

    @staticmethod
    def size(entries: int) -> int:
        """How many words a run of so many entries has."""
        return entries * FILTER_BITS // 64 + 1

    def _places(self, prints: Uint64s) -> tuple[npt.NDArray[np.int64], Uint64s]:
        count = np.uint64(len(self.words))
        places = ((prints >> _THIRTY_TWO) * count >> _THIRTY_TWO).astype(np.int64)
        bits = _ONE << (prints & _SIX)
        for shift in (6, 12, 18):
            bits |= _ONE << (prints >> np.uint64(shift) & _SIX)
        return places, bits

    def add(self, prints: Uint64s) -> None:
        """Add entries."""
        places, bits = self._places(prints)
        np.bitwise_or.at(self.words, places, bits)

    def passing(self, prints: Uint64s) -> Uint64s:
        """Those that may be there."""
        places, bits = self._places(prints)
        passing: Uint64s = prints[self.words[places] & bits == bits]
        return passing


class Run:
    """One sorted run: a file of blocks (the last one filled up with zeros), a filter, and the first
    fingerprint of each block.

    Entries are read with plain reads, so that what merges touch does not stay in memory. The file
    is opened when it is read; with `pin` at once, so that it may be merged away meanwhile.
    """

    def __init__(self, path: Path, entries: int, *, pin: bool = False) -> None:
        self.path = path
        self.entries = entries
        words, marks = _Filter.size(entries), -(-entries // BLOCK)
        self._filter_at, self._words = BLOCK_BYTES * marks, words
        self._marks_at, self._marks = BLOCK_BYTES * marks + 8 * words, marks
        self._file: IO[bytes] | None = None
        try:
            size = (os.fstat(self._open()) if pin else path.stat()).st_size
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from None
        except ValueError as error:  # a name that no file can have
            raise _unreadable(path, str(error)) from None
        if size != self._marks_at + 8 * marks + len(MAGIC):
            self.close()
            raise _unreadable(path, "it has a wrong size")

    def _open(self) -> int:
        if self._file is None:
            self._file = self.path.open("rb", buffering=0)
        return self._file.fileno()

    def close(self) -> None:
        """Close the file, and forget what was read of it."""
        if self._file is not None:
            self._file.close()
        self._file = None
        for name in ("_filter", "_firsts"):
            self.__dict__.pop(name, None)

    def _read(self, at: int, count: int) -> Uint64s:
        try:
            data = os.pread(self._open(), 8 * count, at)
        except OSError as error:
            raise _unreadable(self.path, error.strerror or str(error)) from None
        return np.frombuffer(data, dtype="<u8", count=count)

    @cached_property
    def _filter(self) -> _Filter:
        """Mapped, not read: that of a long log is large, and a look-up needs one word of it."""
        start = self._filter_at - self._filter_at % mmap.ALLOCATIONGRANULARITY
        skipped = self._filter_at - start
        try:
            size = skipped + 8 * self._words
            mapped = mmap.mmap(self._open(), size, prot=mmap.PROT_READ, offset=start)
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, str(error)) from None
        return _Filter(np.frombuffer(mapped, dtype="<u8", count=self._words, offset=skipped))

    @cached_property
    def _firsts(self) -> Uint64s:
        """The fingerprint at the beginning of each block."""
        return self._read(self._marks_at, self._marks)

    def slice(self, start: int, stop: int) -> tuple[Uint64s, Uint64s]:
        """The fingerprints and indexes of some entries."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        blocks = self._read(BLOCK_BYTES * first, 2 * BLOCK * (last - first)).reshape(-1, 2, BLOCK)
        begin, end = start - first * BLOCK, stop - first * BLOCK
        return blocks[:, 0].ravel()[begin:end], blocks[:, 1].ravel()[begin:end]

    def lower_bound(self, value: np.uint64) -> int:
        """How many entries have a smaller fingerprint."""
        block = max(int(self._firsts.searchsorted(value)) - 1, 0)
        return block * BLOCK + int(self._block(block)[0].searchsorted(value))

    def examine(self) -> str:
        """What is wrong with the file: its order, its filter or its marks; empty if nothing."""
        prints, _ = self.slice(0, self.entries)
        expected = _Filter(np.zeros(self._words, dtype="<u8"))
        expected.add(prints)
        if bool(np.any(prints[1:] < prints[:-1])):
            return f"{self.path.name} is not sorted"
        if not np.array_equal(expected.words, self._filter.words):
            return f"the filter of {self.path.name} is not of its entries"
        if not np.array_equal(self._firsts, prints[::BLOCK]):
            return f"the marks of {self.path.name} are not of its entries"
        if self._read(self._marks_at + 8 * self._marks, 1).tobytes() != MAGIC:
            return f"{self.path.name} does not end as a run does"
        return ""

    def _block(self, block: int) -> tuple[Uint64s, Uint64s]:
        data = self._read(BLOCK_BYTES * block, 2 * BLOCK)
        count = min(BLOCK, self.entries - block * BLOCK)
        return data[:count], data[BLOCK : BLOCK + count]

    def find(self, wanted: Uint64s) -> Iterator[tuple[int, int]]:
        """(fingerprint, index) of every entry whose fingerprint is in `wanted`."""
        passing = self._filter.passing(wanted)
        blocks = np.maximum(self._firsts.searchsorted(passing).astype(np.int64) - 1, 0)
        for value, block in zip(passing, blocks.tolist(), strict=True):
            prints, indexes = self._block(block)
            place = int(prints.searchsorted(value))
            # Equal fingerprints may go on in the next block.
            while True:
                if place == len(prints):
                    block, place = block + 1, 0
                    if block >= self._marks:
                        break
                    prints, indexes = self._block(block)
                if prints[place] != value:
                    break
                yield int(value), int(indexes[place])
                place += 1


def _unreadable(path: Path, said: str) -> StoreError:
    return StoreError(
        f"the id index file {path} cannot be read: {said}",
        "Start the node: it makes the index anew from its records",
    )


class _RunWriter:
    """Writes a run slice by slice, durably: it is on disk before the store's row names it."""

    def __init__(self, file: IO[bytes], entries: int) -> None:
        self._file = file
        self._filter = _Filter(np.zeros(_Filter.size(entries), dtype="<u8"))
        self._marks: list[Uint64s] = []
        self._rest = np.zeros((2, 0), dtype="<u8")  # of less than a block

    def add(self, prints: Uint64s, indexes: Uint64s) -> None:
        """The next entries in order."""
        self._filter.add(prints)
        entries = np.concatenate((self._rest, np.stack((prints, indexes))), axis=1)
        whole = entries.shape[1] // BLOCK * BLOCK
        self._write(entries[:, :whole])
        self._rest = entries[:, whole:].copy()  # not all of `entries`

    def _write(self, entries: Uint64s) -> None:
        self._marks.append(entries[0, ::BLOCK].copy())
        blocks = entries.reshape(2, -1, BLOCK).swapaxes(0, 1)
        self._file.write(blocks.astype("<u8", copy=False).tobytes())

    def finish(self) -> None:
        """Write what look-ups use, and fsync."""
        if self._rest.size:
            self._write(np.pad(self._rest, ((0, 0), (0, BLOCK - self._rest.shape[1]))))
        self._file.write(self._filter.words.tobytes())
        for marks in self._marks:
            self._file.write(marks.astype("<u8", copy=False).tobytes())
        self._file.write(MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())


def write_run(path: Path, prints: Uint64s, indexes: Uint64s) -> None:
    """Write a run of sorted entries durably."""
    with path.open("wb") as file:
        writer = _RunWriter(file, len(prints))
        writer.add(prints, indexes)
        writer.finish()


def merge_runs(path: Path, runs: Sequence[Run]) -> int:
    """Write the runs' entries as one run, slice by slice; the entry count."""
    total = sum(run.entries for run in runs)
    slices = total // MERGE_SLICE + 1
    bounds = [np.uint64(number * (2**64 // slices)) for number in range(1, slices)]
    cuts = [[0, *(run.lower_bound(bound) for bound in bounds), run.entries] for run in runs]
    with path.open("wb") as file:
        writer = _RunWriter(file, total)
        for number in range(slices):
            parts = [
                run.slice(cut[number], cut[number + 1]) for run, cut in zip(runs, cuts, strict=True)
            ]
            prints = np.concatenate([part for part, _ in parts])
            indexes = np.concatenate([part for _, part in parts])
            order = np.argsort(prints, kind="stable")
            if len(order):
                writer.add(prints[order], indexes[order])
        writer.finish()
    return total


class IdIndex:
    """The index of one log. Not for two threads: a merge works on runs, which never change."""

    def __init__(
        self, folder: Path, log: int, runs: Sequence[RunRow], *, pin: bool = False
    ) -> None:
        self._folder = folder
        self._log = log
        self._runs: list[Run] = []
        self._merging = False
        try:
            for row in runs:
                self._runs.append(Run(folder / row.file, row.entries, pin=pin))
        except StoreError:
            self.close()  # another index is made, without these files open
            raise
        self._recent: dict[int, int] = {}
        self._more: dict[int, list[int]] = {}  # further entries with a fingerprint in `_recent`

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
        recent, more = self._recent, [(v, n) for v, more in self._more.items() for n in more]
        prints = np.fromiter(chain(recent, (v for v, _ in more)), np.uint64)
        indexes = np.fromiter(chain(recent.values(), (n for _, n in more)), np.uint64)
        before = indexes < below
        prints, indexes = prints[before], indexes[before]
        order = np.lexsort((indexes, prints)) if more else np.argsort(prints)
        return prints[order], indexes[order]

    def adopt(self, row: RunRow, below: int) -> None:
        """The run of a freeze is durable: its entries leave memory."""
        self._runs.append(Run(self._folder / row.file, row.entries))
        if not self._more:  # they are in log order, so the run has the first ones
            self._recent = dict(islice(self._recent.items(), row.entries, None))
            return
        kept = [(value, index) for value, index in self._recent.items() if index >= below]
        kept += [(v, index) for v, more in self._more.items() for index in more if index >= below]
        self._recent, self._more = {}, {}
        self.add([value for value, _ in kept], [index for _, index in kept])

    def write(self, first: int, below: int) -> None:
        """Make a run of what is in memory, all at once."""
        prints, indexes = self.freeze(below)
        row = RunRow(self.run_name(first, below), len(prints))
        write_run(self._folder / row.file, prints, indexes)
        self.adopt(row, below)

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

    @contextmanager
    def merging(self) -> Iterator[None]:
        """While another thread reads runs: their files stay open."""
        self._merging = True
        try:
            yield
        finally:
            self._merging = False

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
            run.close()
            run.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the runs' files."""
        for run in self._runs:
            run.close()

    def rest(self) -> None:
        """Hold nothing of the runs until something is looked up again."""
        if not self._merging:
            self.close()

    def find(self, prints: Sequence[int]) -> dict[int, list[int]]:
        """The candidates of those fingerprints that have any."""
        found: dict[int, list[int]] = {}
        recent = self._recent
        for value in recent.keys() & prints:
            found[value] = [recent[value], *self._more.get(value, ())]
        if self._runs:
            wanted = np.array(prints, dtype=np.uint64)
            for run in self._runs:
                for value, index in run.find(wanted):
                    found.setdefault(value, []).append(index)
        return found
