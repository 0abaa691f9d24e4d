"""Trees against RFC 6962's definitions, written out here a second time and as slowly as it reads.

Every proof of every tree up to `SIZE_MAX` leaves is checked, and so is every single change of it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.merkle import (
    EMPTY_ROOT,
    Frontier,
    chain_leaves,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SIZE_MAX = 70
LEAVES = [leaf_hash(index.to_bytes(2, "big")) for index in range(1200)]
WRONG = leaf_hash(b"not in any tree")

# The reference inputs of Certificate Transparency's own tests, and the root after each.
REFERENCE = (
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    (
        "606162636465666768696a6b6c6d6e6f",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ),
)
REFERENCE_LEAVES = [leaf_hash(bytes.fromhex(data)) for data, _ in REFERENCE]
REFERENCE_ROOTS = [bytes.fromhex(root) for _, root in REFERENCE]
PATH_OF_5_IN_8 = [
    bytes.fromhex("bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"),
    bytes.fromhex("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"),
    REFERENCE_ROOTS[3],
]
PATH_FROM_6_TO_8 = [
    bytes.fromhex("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"),
    bytes.fromhex("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"),
    REFERENCE_ROOTS[3],
]


@cache
def tree_hash(start: int, end: int) -> bytes:
    """MTH of RFC 6962, section 2.1, over `LEAVES[start:end]`."""
    if start == end:
        return hashlib.sha256().digest()
    if end - start == 1:
        return LEAVES[start]
    width = 1
    while width * 2 < end - start:
        width *= 2
    left, right = tree_hash(start, start + width), tree_hash(start + width, end)
    return hashlib.sha256(b"\x01" + left + right).digest()


def changed(path: list[bytes]) -> list[list[bytes]]:
    """Every path that is one step away: an item wrong, gone, doubled or swapped, or one more."""
    paths = [[*path, WRONG], [WRONG, *path]]
    for at, item in enumerate(path):
        before, after = path[:at], path[at + 1 :]
        paths += [[*before, WRONG, *after], before + after, [*before, item, item, *after]]
        if after:
            paths.append([*before, after[0], item, *after[1:]])
        paths.append([*before, item[:-1], *after])
    return paths


def test_hashes_are_rfc_6962s() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == REFERENCE[0][1]
    assert node_hash(*REFERENCE_LEAVES[:2]).hex() == REFERENCE[1][1]


def test_reference_roots() -> None:
    frontier = Frontier.empty()
    for count, (leaf, root) in enumerate(zip(REFERENCE_LEAVES, REFERENCE_ROOTS, strict=True), 1):
        frontier = frontier.extend([leaf])
        assert (frontier.size, frontier.root()) == (count, root)
        assert root_of(REFERENCE_LEAVES[:count]) == root


def test_reference_proofs() -> None:
    def subtree(start: int, end: int) -> bytes:
        return root_of(REFERENCE_LEAVES[start:end])

    assert inclusion_path(5, 8, subtree) == PATH_OF_5_IN_8
    verify_inclusion(REFERENCE_LEAVES[5], 5, 8, PATH_OF_5_IN_8, REFERENCE_ROOTS[7])
    assert consistency_path(6, 8, subtree) == PATH_FROM_6_TO_8
    verify_consistency(6, REFERENCE_ROOTS[5], 8, REFERENCE_ROOTS[7], PATH_FROM_6_TO_8)


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(max_size=80), max_size=9))
def test_chain_leaves_hash_the_leaf_before_with_the_record(
    previous: bytes, records: list[bytes]
) -> None:
    leaves = chain_leaves(previous, records)
    assert len(leaves) == len(records)
    for (before, leaf), record in zip(pairwise([previous, *leaves]), records, strict=True):
        assert leaf == hashlib.sha256(b"\x00" + before + record).digest()


@given(st.lists(st.integers(0, 300), max_size=8))
def test_any_split_into_batches_gives_the_same_tree_and_tiles(batches: list[int]) -> None:
    frontier = Frontier.empty()
    tiles: list[bytes] = []
    for count in batches:
        before = frontier
        leaves = LEAVES[before.size : before.size + count]
        frontier, completed = before.extend_with_tiles(leaves)
        tiles += completed
        assert frontier == before.extend(leaves)
        assert frontier == Frontier.empty().extend(LEAVES[: frontier.size])
    assert frontier.root() == tree_hash(0, frontier.size) == root_of(LEAVES[: frontier.size])
    assert tiles == [tree_hash(at, at + 256) for at in range(0, frontier.size - 255, 256)]


def test_each_extension_reports_the_tiles_that_it_completes() -> None:
    frontier, tiles = Frontier.empty().extend_with_tiles(LEAVES[:255])
    assert tiles == []
    frontier, tiles = frontier.extend_with_tiles(LEAVES[255:256])
    assert tiles == [tree_hash(0, 256)]
    frontier, tiles = frontier.extend_with_tiles(LEAVES[256:1025])
    assert tiles == [tree_hash(256, 512), tree_hash(512, 768), tree_hash(768, 1024)]
    assert frontier.extend_with_tiles([]) == (frontier, [])


@pytest.mark.parametrize("size", [0, 1, 2, 7, 64, 255, 1023])
def test_a_frontiers_bytes_are_its_peaks(size: int) -> None:
    frontier = Frontier.empty().extend(LEAVES[:size])
    data = frontier.to_bytes()
    assert len(data) == 32 * bin(size).count("1")
    assert Frontier.from_bytes(size, data) == frontier
    with pytest.raises(FormatError, match=f"a tree of {size} leaves"):
        Frontier.from_bytes(size, data + bytes(32))
    with pytest.raises(FormatError, match=f"a tree of {size} leaves"):
        Frontier.from_bytes(size, data + b"\0")


def test_a_tree_has_no_negative_size() -> None:
    with pytest.raises(FormatError):
        Frontier.from_bytes(-1, bytes(32))


@pytest.mark.parametrize("size", range(1, SIZE_MAX + 1))
def test_every_inclusion_proof_holds_and_no_changed_one(size: int) -> None:
    root = tree_hash(0, size)
    for index in range(size):
        path = inclusion_path(index, size, tree_hash)
        leaf = LEAVES[index]
        verify_inclusion(leaf, index, size, path, root)
        for wrong in changed(path):
            with pytest.raises(ProofError):
                verify_inclusion(leaf, index, size, wrong, root)
        for leaf_, index_, root_ in (
            (WRONG, index, root),
            (leaf, (index + 1) % size if size > 1 else 1, root),
            (leaf, index, WRONG),
        ):
            with pytest.raises(ProofError):
                verify_inclusion(leaf_, index_, size, path, root_)


@pytest.mark.parametrize("index", [-1, 8, 9])
def test_a_leaf_outside_of_the_tree_is_not_in_it(index: int) -> None:
    with pytest.raises(ProofError, match=f"no leaf {index} in a tree of 8"):
        verify_inclusion(LEAVES[0], index, 8, inclusion_path(0, 8, tree_hash), tree_hash(0, 8))


@pytest.mark.parametrize("new_size", range(SIZE_MAX + 1))
def test_every_consistency_proof_holds_and_no_changed_one(new_size: int) -> None:
    new_root = tree_hash(0, new_size)
    for old_size in range(new_size + 1):
        path = consistency_path(old_size, new_size, tree_hash)
        old_root = tree_hash(0, old_size)
        verify_consistency(old_size, old_root, new_size, new_root, path)
        wrong_roots = [(WRONG, new_root)]
        if old_size:  # the empty tree is a prefix of every tree, whatever the root
            wrong_roots.append((old_root, WRONG))
        for old, new in wrong_roots:
            with pytest.raises(ProofError):
                verify_consistency(old_size, old, new_size, new, path)
        for wrong in changed(path):
            with pytest.raises(ProofError):
                verify_consistency(old_size, old_root, new_size, new_root, wrong)


def test_a_proof_is_too_short_for_a_larger_tree() -> None:
    """The path and root of a small tree, said to be of a larger one."""
    with pytest.raises(ProofError, match="too short"):
        verify_inclusion(LEAVES[0], 0, 2, [], tree_hash(0, 1))
    with pytest.raises(ProofError, match="too short"):
        verify_inclusion(LEAVES[1], 1, 9, inclusion_path(1, 8, tree_hash), tree_hash(0, 8))
    with pytest.raises(ProofError):
        path = consistency_path(1, 2, tree_hash)
        verify_consistency(1, tree_hash(0, 1), 3, tree_hash(0, 2), path)


def test_a_rewritten_history_has_no_consistency_proof() -> None:
    rewritten = [*LEAVES[:3], WRONG, *LEAVES[4:10]]
    path = consistency_path(7, 10, lambda start, end: root_of(rewritten[start:end]))
    with pytest.raises(ProofError):
        verify_consistency(7, tree_hash(0, 7), 10, root_of(rewritten), path)


def test_two_roots_of_one_size_contradict_each_other() -> None:
    for size in (0, 5):
        with pytest.raises(ProofError, match=f"two different roots of one size, {size}"):
            verify_consistency(size, tree_hash(0, size), size, WRONG, [])


@pytest.mark.parametrize(("old_size", "new_size"), [(5, 4), (-1, 4)])
def test_a_tree_does_not_shrink(old_size: int, new_size: int) -> None:
    with pytest.raises(ProofError, match="not a prefix"):
        verify_consistency(old_size, tree_hash(0, 5), new_size, tree_hash(0, 4), [])
