"""The store: durable in order, all or nothing, and whole again after the disk failed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import disks
import lmdb
import nodes
import pytest
import trio
import trio.testing

from tallystick.node.errors import HomeError, StoreError
from tallystick.node.store import disk
from tallystick.node.store.disk import READERS_COMMITS, Job, Store, Txn
from tallystick.node.store.keyspace import log_key


async def test_commits_are_ordered_and_share_a_transaction(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    seen: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        tickets = [
            store.submit(
                lambda txn, n=n: txn.put("meta", b"last", str(n).encode()),  # type: ignore[misc]
                lambda n=n: seen.append(n),  # type: ignore[misc]
            )
            for n in range(50)
        ]
        await tickets[-1].wait()
        assert seen == list(range(50))
        nursery.cancel_scope.cancel()
    with store.read() as txn:
        assert txn.get("meta", b"last") == b"49"
    store.close()


async def test_what_nobody_waits_for_goes_along_or_soon_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "ALONE_SECONDS", 3600)
    store = Store(tmp_path / "s")
    order: list[str] = []

    def put(name: str) -> tuple[Job, Callable[[], None]]:
        return (lambda txn: txn.put("meta", name.encode(), b"1")), lambda: order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await store.commit(lambda txn: None)
        before = sum(store.counts.jobs.counts)
        store.submit_along(*put("along"))
        await trio.testing.wait_all_tasks_blocked()
        assert not order and store.jobs_waiting == 1  # the writer rests
        await store.submit(*put("urgent")).wait()
        assert order == ["along", "urgent"] and sum(store.counts.jobs.counts) == before + 1
        monkeypatch.setattr(disk, "ALONE_SECONDS", 0.01)
        with trio.fail_after(60):
            await store.submit_along(*put("alone")).wait()
        assert order == ["along", "urgent", "alone"]
        nursery.cancel_scope.cancel()
    store.close()


async def test_a_full_disk_fails_all_that_waits_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    reloaded: list[bool] = []
    store.on_failure.append(lambda: reloaded.append(True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await store.commit(lambda txn: txn.put("meta", b"kept", b"1"))
        with disks.full():
            tickets = [
                store.submit(lambda txn, n=n: txn.put("batches", bytes([n]), b"x" * 300_000))  # type: ignore[misc]
                for n in range(3)
            ]
            for ticket in tickets:
                with pytest.raises(StoreError, match="cannot be written"):
                    await ticket.wait()
        assert reloaded
        await store.commit(lambda txn: txn.put("meta", b"after", b"2"))
        nursery.cancel_scope.cancel()
    store.close()
    again = Store(tmp_path / "s")
    with again.read() as txn:
        assert (txn.get("meta", b"kept"), txn.get("meta", b"after")) == (b"1", b"2")
        assert txn.get("batches", b"\x00") is None
    again.close()


def test_scan_and_floor(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")

    def fill(txn: Txn) -> None:
        for n in (1, 3, 5):
            txn.put("meta", bytes([n]), bytes([n]))

    store.commit_now(fill)
    with store.read() as txn:
        assert [k for k, _ in txn.scan("meta", b"\x02", b"\x05")] == [b"\x03"]
        assert txn.floor("meta", b"\x04") == (b"\x03", b"\x03")
        assert txn.floor("meta", b"\x03") == (b"\x03", b"\x03")
        assert txn.floor("meta", b"\x00") is None
        top = txn.floor("peers", b"\xff")
        assert top is None
    store.close()


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.commit_now(lambda txn: txn.put("meta", b"format", b"9"))
    store.close()
    with pytest.raises(HomeError, match="format 9"):
        Store(tmp_path / "s")


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s").close()
    (tmp_path / "s" / "data.mdb").write_bytes(b"garbage" * 4096)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path / "s")


def test_a_home_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as raised:
        Store(tmp_path / "none", read_only=True)
    assert "tally run" in raised.value.advice


def test_a_query_reads_one_moment_while_the_node_goes_on(
    pair: tuple[nodes.Party, nodes.Party],
) -> None:
    acme, _ = pair
    store = Store(acme.home / "store", read_only=True)
    with store.read() as txn:
        before = txn.get("logs", log_key(0))
    acme.tally("emit", "context-tokens", "1", "--subject", "s", "--id", "moment-1")
    with store.read() as txn:
        assert txn.get("logs", log_key(0)) == before
    store.close()
    later = Store(acme.home / "store", read_only=True)
    with later.read() as txn:
        assert txn.get("logs", log_key(0)) != before
    later.close()


def test_a_reader_that_was_killed_does_not_let_the_file_grow(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    code = f"""
from pathlib import Path
from tallystick.node.store.disk import Store
store = Store(Path({str(tmp_path / "s")!r}), read_only=True)
print(flush=True)
input()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
    value = bytes(40_000)
    for _ in range(5 * READERS_COMMITS):
        store.commit_now(lambda txn: txn.put("meta", b"same", value))
    assert (tmp_path / "s" / "data.mdb").stat().st_size < 2 * READERS_COMMITS * len(value)
    store.close()


def test_a_table_that_an_older_version_did_not_make_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Store(path).close()
    with lmdb.open(str(path), max_dbs=32) as env:
        table = env.open_db(b"matters")
        with env.begin(write=True) as raw:
            raw.drop(table)
    old = Store(path, read_only=True)
    with old.read() as txn:
        assert txn.get("meta", b"format") is not None
        assert (txn.get("matters", b"k"), txn.raw("matters", b"k")) == (None, b"")
        assert list(txn.scan("matters", b"", b"\xff")) == list(txn.keys("matters")) == []
        assert (txn.floor("matters", b"k"), txn.entries("matters")) == (None, 0)
    old.close()
    store = Store(path)
    store.commit_now(lambda txn: txn.put("matters", b"k", b"v"))
    with store.read() as txn:
        assert txn.get("matters", b"k") == b"v"
    store.close()
