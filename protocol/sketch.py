"""Sketches: a stream of cells from which a receiver learns in which items two sets differ.

These are rateless invertible Bloom lookup tables (Yang, Gilad and Alizadeh, "Practical Rateless Set
Reconciliation", SIGCOMM 2024). An item is 64 bits, already keyed for the session. It is in cell 0
and in cell i with probability 1/(1 + i/2); which cells, its own generator says. A cell holds, of
its items, the sum, the sum of their keyed checks, and their number. The receiver subtracts the
cells of its own set; a cell that is left with one item gives that item away, which is then taken
out of all its cells, and so on until every cell is empty. About 1.4 cells for each item that
differs are enough, whatever the sets' sizes, and nobody has to know that number before.

Sums are taken modulo 2^64. A cell on the wire has 15 bytes: 8 of the sum, 6 of the check, 1 of the
count. Six bytes of check take a cell of several items for a single one once in 2^48 looks; such a
sketch does not empty, so it is noticed. The count is only asked for being 1 or -1, so its last byte
will do. All of it is exact: two receivers compute the same from the same cells, on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tallystick.protocol.errors import FormatError
from tallystick.protocol.siphash import Words, siphash

CELL_BYTES = 15
ROUNDS_MAX = 4096  # of taking items out; a hundred thousand differences need 256
_CHUNK = 1 << 16  # items that are worked on together
_STEP = np.uint64(0xDA942042E4DD58B5)
_CHECK = np.uint64(2**48 - 1)
_END = 1 << 40  # an index beyond every sketch

Indexes = npt.NDArray[np.int64]


class BrokenSketch(FormatError):
    """The cells are of no set: they give an item twice, or their items one by one without end."""


class TooManyDifferences(FormatError):
    """The sketch gives more differences than its reader wants."""


@dataclass(slots=True)
class Cells:
    """Consecutive cells. `checks` are modulo 2^48 and `counts` modulo 256 where they were sent."""

    sums: Words
    checks: Words
    counts: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, count: int) -> Cells:
        """So many cells without items."""
        words = np.zeros((2, count), np.uint64)
        return cls(words[0], words[1], np.zeros(count, np.int64))

    def __len__(self) -> int:
        return len(self.sums)

    def __sub__(self, other: Cells) -> Cells:
        return Cells(self.sums - other.sums, self.checks - other.checks, self.counts - other.counts)

    def join(self, other: Cells) -> Cells:
        """These cells and those that follow."""
        return Cells(
            np.concatenate((self.sums, other.sums)),
            np.concatenate((self.checks, other.checks)),
            np.concatenate((self.counts, other.counts)),
        )

    def encode(self) -> bytes:
        """The cells as they are sent."""
        out = np.empty((len(self), CELL_BYTES), np.uint8)
        out[:, :8] = _bytes(self.sums)
        out[:, 8:14] = _bytes(self.checks)[:, :6]
        out[:, 14] = self.counts & 0xFF
        return out.tobytes()


def decode_cells(data: bytes) -> Cells:
    """The cells that were sent; `FormatError` if the bytes are no whole cells."""
    if len(data) % CELL_BYTES:
        raise FormatError(f"{len(data)} bytes are no whole cells of {CELL_BYTES}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, CELL_BYTES)
    checks = np.zeros((len(rows), 8), np.uint8)
    checks[:, :6] = rows[:, 8:14]
    return Cells(
        np.ascontiguousarray(rows[:, :8]).view("<u8").reshape(-1).astype(np.uint64),
        checks.view("<u8").reshape(-1).astype(np.uint64),
        rows[:, 14].astype(np.int64),
    )


def _bytes(words: Words) -> npt.NDArray[np.uint8]:
    return words.astype("<u8").view(np.uint8).reshape(-1, 8)


class _Walk:
    """Items on their way through the cells: where each is next, and what it adds there.

    An item with sign -1 is taken out of its cells instead.
    """

    def __init__(self, items: Words, checks: Words, signs: Indexes | None = None) -> None:
        self._states = checks | np.uint64(1)  # an odd state never runs dry
        self._next = np.zeros(len(items), np.int64)
        self._signs = signs
        if signs is not None:
            items, checks = np.where(signs < 0, (-items, -checks), (items, checks))
        self._items, self._checks = items, checks

    def add_to(self, cells: Cells, first: int) -> None:
        """Go on through `cells`, which begin at index `first`."""
        for start in range(0, len(self._items), _CHUNK):
            self._add_chunk(cells, first, slice(start, start + _CHUNK))

    def _add_chunk(self, cells: Cells, first: int, chunk: slice) -> None:
        stop = first + len(cells)
        following, states = self._next[chunk], self._states[chunk]
        moving = np.flatnonzero(following < stop)
        items, checks = self._items[chunk][moving], self._checks[chunk][moving]
        signs = None if self._signs is None else self._signs[chunk][moving]
        at, state = following[moving], states[moving]
        while len(at):
            place = at - first
            np.add.at(cells.sums, place, items)
            np.add.at(cells.checks, place, checks)
            np.add.at(cells.counts, place, 1 if signs is None else signs)
            at, state = _advance(at, state)
            inside = at < stop
            if not inside.all():
                done = moving[~inside]
                following[done], states[done] = at[~inside], state[~inside]
                moving, at, state = moving[inside], at[inside], state[inside]
                items, checks = items[inside], checks[inside]
                signs = None if signs is None else signs[inside]


def _advance(at: Indexes, state: Words) -> tuple[Indexes, Words]:
    """Each item's next cell after `at`. Every step is an IEEE 754 operation that is exact or
    correctly rounded, so it comes out alike on every machine.
    """
    state = state * _STEP
    chance = ((state >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53
    jump = np.ceil((at + 1.5) * (1.0 / np.sqrt(chance) - 1.0))
    return np.minimum(at + np.maximum(jump, 1.0), float(_END)).astype(np.int64), state


def check_of(key: bytes, items: Words) -> Words:
    """The items' keyed checks."""
    return siphash(key, [items])


class Encoder:
    """The cells of a set of distinct items, block after block. The key has 16 bytes."""

    def __init__(self, key: bytes, items: Words) -> None:
        self._walk = _Walk(items, check_of(key, items))
        self.cells = 0  # that were made so far

    def next_cells(self, count: int) -> Cells:
        """The next cells."""
        made = Cells.empty(count)
        self._walk.add_to(made, self.cells)
        self.cells += count
        return made


class Decoder:
    """Learns from the peer's cells which items only the peer has, and which only we.

    `found_max` bounds how many items may differ.
    """

    def __init__(self, key: bytes, items: Words, found_max: int) -> None:
        self._key = key
        self._own = Encoder(key, items)
        self._left = Cells.empty(0)
        self._found: list[_Walk] = []
        self._seen: set[int] = set()
        self._found_max = found_max
        self._theirs: list[Words] = []
        self._ours: list[Words] = []

    @property
    def cells(self) -> int:
        """How many cells were taken."""
        return len(self._left)

    @property
    def done(self) -> bool:
        """Whether all differences are known: every cell is empty."""
        left = self._left
        return bool(len(left)) and not (
            left.sums.any() or (left.checks & _CHECK).any() or (left.counts & 0xFF).any()
        )

    @property
    def theirs(self) -> Words:
        """The items that only the peer has, as far as they are known, in ascending order."""
        return _joined(self._theirs)

    @property
    def ours(self) -> Words:
        """The items that only we have, as far as they are known, in ascending order."""
        return _joined(self._ours)

    def take(self, cells: Cells) -> bool:
        """Take the next cells of the peer; whether all differences are known now.

        `BrokenSketch` if they are the cells of no set, `TooManyDifferences` if they give too many.
        """
        first = self.cells
        cells = cells - self._own.next_cells(len(cells))
        for walk in self._found:
            walk.add_to(cells, first)
        self._left = self._left.join(cells)
        self._peel(np.arange(first, self.cells))
        return self.done

    def _peel(self, touched: Indexes) -> None:
        """Take single items out of their cells until no cell has a single one."""
        left = self._left
        while len(touched):
            items, checks, signs = self._singles(touched)
            if not len(items):
                return
            if len(self._found) == ROUNDS_MAX:
                raise BrokenSketch(f"the sketch is not read in {ROUNDS_MAX} rounds")
            self._note(items, signs)
            before = left.sums.copy()
            walk = _Walk(items, checks, -signs)  # what is theirs is taken out from now on
            walk.add_to(left, 0)
            self._found.append(walk)
            touched = np.flatnonzero(left.sums != before)

    def _singles(self, touched: Indexes) -> tuple[Words, Words, Indexes]:
        """The items of those cells that have just one: each once, with its check, and 1 if it is
        theirs, -1 if ours.
        """
        counts = self._left.counts[touched] & 0xFF
        single = (counts == 1) | (counts == 0xFF)
        at, theirs = touched[single], counts[single] == 1
        sums, checks = self._left.sums[at], self._left.checks[at]
        items = np.where(theirs, sums, -sums)
        expected = check_of(self._key, items)
        whole = ((np.where(theirs, checks, -checks) ^ expected) & _CHECK) == 0
        items, order = np.unique(items[whole], return_index=True)
        signs = np.where(theirs[whole][order], 1, -1).astype(np.int64)
        return items, expected[whole][order], signs

    def _note(self, items: Words, signs: Indexes) -> None:
        known = len(self._seen)
        self._seen.update(items.tolist())
        if len(self._seen) != known + len(items):
            raise BrokenSketch("the sketch gives an item twice")
        if len(self._seen) > self._found_max:
            raise TooManyDifferences(f"the sketch gives more than {self._found_max} differences")
        self._theirs.append(items[signs == 1])
        self._ours.append(items[signs == -1])


def _joined(parts: list[Words]) -> Words:
    return np.sort(np.concatenate([np.empty(0, np.uint64), *parts]))
