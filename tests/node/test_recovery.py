"""What was never signed is taken out of a log: what the disk says then, whatever it had to do."""

from __future__ import annotations

import time
from pathlib import Path

import homes
import pytest

from tallystick.node import recovery
from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.disk import Job, Txn


async def test_a_signature_on_its_way_to_the_disk_does_not_bring_back_what_is_cut(
    tmp_path: Path,
) -> None:
    async with homes.alone(tmp_path) as side:
        channel, store = side.channel, side.books.store
        await channel.emit_paused([Draft("first", "tokens", "s", 1, 1)])
        channel.live = False
        await channel.emit_paused([Draft("second", "tokens", "s", 1, 1)])

        def slow(txn: Txn) -> None:
            time.sleep(0.2)  # the disk is busy with something else

        store.submit(slow)
        await store.off_thread(time.sleep, 0.05)
        channel.own.store_cosignature(2, bytes(72))
        await recovery.set_aside(channel)
        await store.commit(lambda txn: None)
        assert channel.own.durable_size == 2
        channel.load()
        assert channel.own.state.size == 2


async def test_a_disk_that_fills_up_behind_the_cut_leaves_no_log_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RETRY_SECONDS", 0.01)
    async with homes.alone(tmp_path) as side:
        channel, store = side.channel, side.books.store
        await channel.emit_paused([Draft("first", "tokens", "s", 1, 1)])
        channel.live = False
        await channel.emit_paused([Draft("second", "tokens", "s", 1, 1)])
        commit, left = store.commit_now, [1, 0, 0, 1]  # it has room for the cut, and then no more

        def now_and_then(*jobs: Job) -> None:
            if left and not left.pop(0):
                raise StoreError("the disk is full")
            commit(*jobs)

        cut = recovery.cut

        def cut_and_fill(*arguments: object) -> None:
            store.commit_now = now_and_then  # type: ignore[method-assign]
            cut(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(recovery, "cut", cut_and_fill)
        await recovery.set_aside(channel)
        assert left == []
        assert (channel.own.state.size, channel.own.durable_size) == (2, 2)
        channel.resume()
        result = await channel.emit_paused([Draft("second", "tokens", "s", 1, 1)])
        assert result.indexes == [2]
        assert channel.own.find("tokens", "second") is not None
