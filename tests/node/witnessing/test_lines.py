"""Lines of witnesses in the store: which are found again, and which go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from tallystick.node.store.disk import Store
from tallystick.node.store.keyspace import AskedRow
from tallystick.node.witnessing.lines import (
    best_with_lines,
    put_asked,
    put_lines,
    read_asked,
    read_lines,
    witness_id,
)
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey
from tallystick.protocol.witness import Cosigned, cosign_checkpoint

LOG = 6
KEYS = {name: SigningKey(name.encode().ljust(32)) for name in ("w1", "w2", "w3")}


def vkey(name: str) -> Vkey:
    return Vkey(f"{name}.example", ED25519_COSIGNATURE, bytes(KEYS[name].verify_key))


def head(size: int, root: int = 0) -> Head:
    return Head("acme.example/log", size, bytes([root]) * 32)


def line(name: str, of: Head) -> Cosigned:
    made = cosign_checkpoint(head_text(of), vkey(name).name, KEYS[name], 7)
    return Cosigned(vkey(name), made, 7)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, of: Head, names: str, kept: Sequence[int] = ()) -> None:
    lines = [line(name, of) for name in names.split()]
    store.commit_now(lambda txn: put_lines(txn, LOG, of, lines, kept))


def names_of(store: Store, of: Head) -> list[str]:
    with store.read() as txn:
        return [one.name for one in read_lines(txn, LOG, of.size, of.root)]


def test_lines_come_back_in_order_and_only_for_the_head_that_they_are_on(store: Store) -> None:
    put(store, head(5), "w2 w1")
    put(store, head(5), "w3 w2")
    assert names_of(store, head(5)) == ["w1.example", "w2.example", "w3.example"]
    assert names_of(store, head(5, root=1)) == []
    assert names_of(store, head(4)) == names_of(store, head(6)) == []
    with store.read() as txn:
        assert read_lines(txn, LOG + 1, 5, head(5).root) == []
        assert best_with_lines(txn, LOG + 1, 0, 2**63) == 0


def test_older_lines_go_but_those_of_checkpoints_and_of_the_best_head(store: Store) -> None:
    put(store, head(3), "w1", [])
    put(store, head(5), "w1 w2 w3", [])
    assert names_of(store, head(3)) == []
    put(store, head(7), "w1", [])
    put(store, head(9), "w1 w2", [7])
    with store.read() as txn:
        assert best_with_lines(txn, LOG, 0, 2**63) == 5
        assert best_with_lines(txn, LOG, 5, 2**63) == 9
        assert best_with_lines(txn, LOG, 5, 8) == 7
        assert best_with_lines(txn, LOG, 9, 2**63) == 0
    put(store, head(11), "w1 w2 w3", [7])
    assert [size for size in range(12) if names_of(store, head(size))] == [7, 11]


def test_what_lies_before_the_checkpoint_before_the_last_is_not_looked_through(
    store: Store,
) -> None:
    put(store, head(3), "w1 w2", [])
    put(store, head(20), "w1", [5, 10, 15])
    assert names_of(store, head(3)) == ["w1.example", "w2.example"]


def test_how_far_a_witness_is(store: Store) -> None:
    with store.read() as txn:
        assert read_asked(txn, LOG, vkey("w1")) == AskedRow(0, 0)
    row = AskedRow(9, 7, "went back", 1)
    store.commit_now(lambda txn: put_asked(txn, LOG, vkey("w1"), row))
    with store.read() as txn:
        assert read_asked(txn, LOG, vkey("w1")) == row
        assert read_asked(txn, LOG, vkey("w2")) == AskedRow(0, 0)
    assert len({witness_id(vkey(name)) for name in KEYS}) == 3
