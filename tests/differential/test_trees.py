"""Trees and proofs against pymerkle, which others wrote: the same roots and paths, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import ConsistencyProof, InclusionProof, InmemoryTree, InvalidProof

from tallystick.protocol.errors import ProofError
from tallystick.protocol.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SIZE_MAX = 600
DATA = [b"", *(index.to_bytes(3, "big") * (index % 40) for index in range(1, SIZE_MAX))]
LEAVES = [leaf_hash(data) for data in DATA]
TREE = InmemoryTree.init_from_entries(DATA)
SIZES = st.integers(1, SIZE_MAX)


def _subtree(start: int, end: int) -> bytes:
    return root_of(LEAVES[start:end])


def _old_and_new(sizes: tuple[int, int]) -> tuple[int, int]:
    return min(sizes), max(sizes)


TWO_SIZES = st.tuples(SIZES, SIZES).map(_old_and_new)


@given(st.lists(st.binary(max_size=100), max_size=80), st.data())
def test_the_same_root_however_the_leaves_came(leaves: list[bytes], data: st.DataObject) -> None:
    tree = InmemoryTree.init_from_entries(leaves)
    cut = data.draw(st.integers(0, len(leaves)))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    expected = tree.get_root() if leaves else EMPTY_ROOT
    assert Frontier.empty().extend(hashes[:cut]).extend(hashes[cut:]).root() == expected


@given(SIZES)
def test_the_same_leaves_and_roots(size: int) -> None:
    assert LEAVES[size - 1] == TREE.get_leaf(size)
    assert root_of(LEAVES[:size]) == TREE.get_root(size)


@given(SIZES, st.data())
def test_inclusion_proofs_are_the_same_and_hold_both_ways(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    theirs = TREE.prove_inclusion(index + 1, size)
    ours = inclusion_path(index, size, _subtree)
    assert ours == theirs.path[1:]
    root = TREE.get_root(size)
    verify_inclusion(TREE.get_leaf(index + 1), index, size, theirs.path[1:], root)
    taken = InclusionProof("sha256", True, size, index + 1, theirs.rule, [LEAVES[index], *ours])
    taken.verify(LEAVES[index], root_of(LEAVES[:size]))


@given(TWO_SIZES)
def test_consistency_proofs_hold_both_ways(sizes: tuple[int, int]) -> None:
    old, new = sizes
    ours = consistency_path(old, new, _subtree)
    verify_consistency(old, TREE.get_root(old), new, TREE.get_root(new), ours)
    theirs = TREE.prove_consistency(old, new)
    path = theirs.path
    if old != new:
        # Theirs is the inclusion proof of the first new leaf, and says what in it is the old tree.
        path = [LEAVES[old], *inclusion_path(old, new, _subtree)]
    taken = ConsistencyProof("sha256", True, new, old, theirs.rule, theirs.subset, path)
    taken.verify(root_of(LEAVES[:old]), root_of(LEAVES[:new]))


@given(SIZES, st.data())
def test_what_does_not_hold_is_refused_by_both(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    theirs = TREE.prove_inclusion(index + 1, size)
    path = list(theirs.path)
    path[data.draw(st.integers(0, len(path) - 1))] = leaf_hash(b"not in the tree")
    root = TREE.get_root(size)
    with pytest.raises(InvalidProof):
        InclusionProof("sha256", True, size, index + 1, theirs.rule, path).verify(path[0], root)
    with pytest.raises(ProofError):
        verify_inclusion(path[0], index, size, path[1:], root)
