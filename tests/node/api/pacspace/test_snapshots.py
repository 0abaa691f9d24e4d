"""What was given out is kept within a limit, and what matters most the longest."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tallystick.node.api.pacspace import snapshots
from tallystick.node.store.disk import Store
from tallystick.node.store.keyspace import SnapshotRow


def _row(n: int, *, listed: bool) -> SnapshotRow:
    root = n.to_bytes(32, "big")
    return SnapshotRow(root, b"c" * 32, "customer", "", "", "provider", n, "1", 1, n, listed, b"{}")


async def test_the_oldest_go_and_checkpoints_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOTS_MAX", 20)
    monkeypatch.setattr(snapshots, "DROPPED", 5)
    store = Store(tmp_path / "store")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        for n in range(1, 61):
            await snapshots.remember(store, _row(n, listed=n <= 10))
            with store.read() as txn:
                assert txn.entries("snapshots") <= 20
        assert len(snapshots.listed(store)[b"c" * 32]) == 10
        assert snapshots.rows_of_root(store, (60).to_bytes(32, "big"))
        assert not snapshots.rows_of_root(store, (11).to_bytes(32, "big"))
        nursery.cancel_scope.cancel()
    store.close()
