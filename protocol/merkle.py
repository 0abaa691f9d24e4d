"""RFC 6962 Merkle trees on plain hashes, and the chain that makes a log's leaves.

Hashes are 32 bytes of SHA-256. A leaf's data is the leaf hash before it and the record's bytes, so
the leaves are a hash chain and the tree over them a Merkle tree. Everything here takes and gives
values; a `Frontier` is all that appending needs of a tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tallystick.protocol.errors import FormatError, ProofError

HASH_SIZE = 32
TILE_HEIGHT = 8  # subtrees of 2^8 leaves are reported as they are completed
EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 6962, section 2.1)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962, section 2.1)."""
    return _sha256(b"\x01" + left + right).digest()


def chain_leaves(previous: bytes, parts: Sequence[bytes]) -> list[bytes]:
    """The leaf hashes of records in a row, each over the one before and the record's bytes."""
    sha256 = _sha256
    leaves: list[bytes] = []
    add = leaves.append
    for part in parts:
        previous = sha256(b"\x00" + previous + part).digest()
        add(previous)
    return leaves


def _pair_up(hashes: Sequence[bytes]) -> list[bytes]:
    """The nodes above an even number of neighbours."""
    sha256 = _sha256
    pairs = iter(hashes)
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs)]  # noqa: B905


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree's right edge: its size and the roots of its complete subtrees, the largest first."""

    size: int
    peaks: tuple[bytes, ...]

    @classmethod
    def empty(cls) -> Frontier:
        """The tree without leaves."""
        return cls(0, ())

    def extend(self, leaves: Sequence[bytes]) -> Frontier:
        """The tree with these leaf hashes appended."""
        return self.extend_with_tiles(leaves)[0]

    def extend_with_tiles(self, leaves: Sequence[bytes]) -> tuple[Frontier, list[bytes]]:
        """The tree with these leaves appended, and the roots of the tiles that they completed.

        Works level by level: a hash is computed once, and a level is one pass over a list.
        """
        peaks = list(self.peaks)  # the smallest last
        upper: list[bytes] = []  # new peaks, the smallest first
        tiles: list[bytes] = []
        row: list[bytes] = list(leaves)
        size = self.size
        level = 0
        while row or size >> level:
            if (size >> level) & 1:  # this level's old peak is a left neighbour
                row.insert(0, peaks.pop())
            if len(row) & 1:
                upper.append(row.pop())
            row = _pair_up(row)
            level += 1
            if level == TILE_HEIGHT:
                tiles = list(row)
        return Frontier(size + len(leaves), tuple(reversed(upper))), tiles

    def root(self) -> bytes:
        """The tree's root hash."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def to_bytes(self) -> bytes:
        """The peaks in a row; the size is kept beside them."""
        return b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """The frontier of a size and its peaks; `FormatError` if they do not fit."""
        if size < 0 or len(data) != HASH_SIZE * size.bit_count():
            raise FormatError(f"a tree of {size} leaves does not have {len(data)} bytes of peaks")
        peaks = (data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))
        return cls(size, tuple(peaks))


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root hash over these leaf hashes (or over equal subtrees' roots)."""
    return Frontier.empty().extend(leaves).root()


def subtree_roots(first: int, leaves: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """The largest subtrees of any tree that lie in a row of leaves, which begins at index `first`:
    (level, root) from left to right, a level being the power of two of their size.
    """
    lefts: list[tuple[int, bytes]] = []
    rights: list[tuple[int, bytes]] = []
    row, at, level = list(leaves), first, 0
    while row:
        if at & 1:  # its left neighbour is not ours
            lefts.append((level, row.pop(0)))
            at += 1
        if len(row) & 1:
            rights.append((level, row.pop()))
        row = _pair_up(row)
        at >>= 1
        level += 1
    return lefts + rights[::-1]


class Forest:
    """Neighbouring subtrees from index `first` on, joined wherever two of them make a larger one.

    From index 0 on they are a frontier's peaks.
    """

    def __init__(self, first: int = 0) -> None:
        self.end = first
        self.subtrees: list[tuple[int, bytes]] = []  # (level, root)

    def add(self, subtrees: Iterable[tuple[int, bytes]]) -> None:
        """Add subtrees on the right; `ProofError` if one cannot stand there."""
        for level, root in subtrees:
            if self.end % (1 << level):
                raise ProofError(f"no subtree of {1 << level} leaves begins at {self.end}")
            self.end += 1 << level
            while self.subtrees and self.subtrees[-1][0] == level:
                if (self.end - (2 << level)) % (2 << level):
                    break
                root = node_hash(self.subtrees.pop()[1], root)
                level += 1
            self.subtrees.append((level, root))

    def frontier(self) -> Frontier:
        """The tree that they are, if they begin at index 0."""
        return Frontier(self.end, tuple(root for _, root in self.subtrees))


def _split(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


Subtree = Callable[[int, int], bytes]


def inclusion_path(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The inclusion proof of a leaf, from its sibling up (RFC 6962, section 2.1.1).

    `subtree(start, end)` gives the Merkle tree hash of the leaves from `start` up to `end`.
    """
    assert 0 <= index < size
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    path.reverse()
    return path


def consistency_path(old_size: int, new_size: int, subtree: Subtree) -> list[bytes]:
    """The proof that a tree is a prefix of a larger one (RFC 6962, section 2.1.2)."""
    assert 0 <= old_size <= new_size
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    start, end = 0, new_size
    whole = True  # the old tree is exactly the subtree [start, old_size)
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
            whole = False
    if not whole:
        path.append(subtree(start, end))
    path.reverse()
    return path


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Return if the leaf is in the tree (RFC 9162, section 2.1.3.2); else `ProofError`."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if not last:
            raise ProofError("the inclusion proof is too long")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        at >>= 1
        last >>= 1
    if last:
        raise ProofError("the inclusion proof is too short")
    if found != root:
        raise ProofError("the inclusion proof does not lead to the tree's root")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Return if the old tree is a prefix of the new (RFC 9162, section 2.1.4.2)."""
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {old_size} is not a prefix of one of {new_size}")
    if old_size in (0, new_size):
        if path:
            raise ProofError("the consistency proof is too long")
        if not old_size and old_root != EMPTY_ROOT:
            raise ProofError("the old root is not the empty tree's")
        if old_size == new_size and old_root != new_root:
            raise ProofError(f"two different roots of one size, {old_size}")
        return
    rest = list(path)
    if not old_size & (old_size - 1):
        rest.insert(0, old_root)
    if not rest:
        raise ProofError("the consistency proof is too short")
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at >>= 1
        last >>= 1
    old = new = rest[0]
    for sibling in rest[1:]:
        if not last:
            raise ProofError("the consistency proof is too long")
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        at >>= 1
        last >>= 1
    if last or old != old_root or new != new_root:
        raise ProofError("the consistency proof does not lead to both roots")
