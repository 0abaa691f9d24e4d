"""What is wrong here is said; what is only away is not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import disks
import homes
import msgspec
import pytest
import trio
from homes import Side
from scrapes import monitor_of, scrape

from tallystick.node.config import Health
from tallystick.node.errors import StoreError
from tallystick.node.telemetry import health


async def test_a_node_is_healthy(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        assert await monitor_of(a).health() == []


async def test_a_store_whose_task_ended_is_dead(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as a:
        monitor = monitor_of(a)
        assert health.dead(monitor.node) == []
    side = monitor.node
    assert health.dead(side) == ["the task that writes the store has ended"]
    assert not monitor.ready


async def test_a_failed_commit_is_said_until_one_works(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        store, monitor = a.books.store, monitor_of(a)
        reloads: list[int] = []
        with disks.full():
            with pytest.raises(StoreError):
                await store.commit(lambda txn: txn.put("meta", b"x", bytes(100_000)))
            store.on_failure.append(lambda: reloads.append(1))
            (said,) = await monitor.health()
            assert said.startswith("the last commit failed: ")
            assert (await scrape(monitor)).value("healthy") == 0
            failed = (await scrape(monitor)).value("store_commits_failed_total")
        assert failed == 2  # the commit, and the look whether it works again
        assert reloads == []  # looking disturbs nothing that waits
        assert await monitor.health() == []  # there is room again, though nobody emitted
        assert (await scrape(monitor)).value("healthy") == 1


async def test_a_disk_with_little_room_is_said(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        config = msgspec.structs.replace(a.books.config, health=Health(free_mebibytes=10**9))
        a.books.config = config
        (said,) = await monitor.health()
        assert said.endswith(" MiB are free where the home is; 1000000000 should be")


async def test_a_disk_that_hangs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        monkeypatch.setattr(a.books.store.counts, "_began_s", time.monotonic() - 60)
        (said,) = await monitor.health()
        assert said.startswith("the disk has not finished a commit for 6")
        monkeypatch.setattr(a.books.store.counts, "_began_s", 0.0)
        release = trio.Event()
        asked = trio.Event()

        def hang(*_: object) -> str | None:
            trio.from_thread.run_sync(asked.set)
            trio.from_thread.run(release.wait)
            return None

        monkeypatch.setattr(health, "_disk_problem", hang)
        monkeypatch.setattr(health, "DISK_SECONDS", 0.05)
        assert await monitor.health() == ["the disk does not answer"]
        await asked.wait()
        release.set()


async def test_a_home_that_is_gone(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        moved = a.home.path.rename(tmp_path / "moved")
        assert await monitor.health() == ["the home cannot be reached: No such file or directory"]
        moved.rename(a.home.path)


async def test_readiness_in_words(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        assert monitor.readiness(names=False).problems == ["peers cannot connect yet"]
        monitor.node.listening = True
        _pair_with(a, "beta.example", "gamma.example")
        await a.books.founding.halt(a.channel.id, "for a test")
        a.channel.quota_bytes = 1
        named, counted = (monitor.readiness(names=names) for names in (True, False))
        assert named.ready and counted.ready
        assert named.degraded == [
            "beta.example is not connected",
            "gamma.example is not connected",
            "1 channel is with beta.example halted",
            "1 channel is at the quota: nothing more of the peer's log is taken",
        ]
        assert counted.degraded[:2] == ["2 of 2 peers are not connected", "1 channel is halted"]
        assert not any("example" in said for said in counted.degraded)


def _pair_with(side: Side, *names: str) -> None:
    peers: dict[str, Any] = {name: homes.peer_of(homes.builders.identity(name)) for name in names}
    side.books.peers.update(peers)
