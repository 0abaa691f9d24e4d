"""Declaring in the books of two nodes: what is kept, what is shown, and what a loss changes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import builders
import homes
import pytest
import trio

from tallystick.node.books import Books
from tallystick.node.config import Config
from tallystick.node.declaring import Declarer, declarations_document, kept_rows, openable
from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import Draft
from tallystick.node.queries import checkpoint_document
from tallystick.node.store.disk import Store
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import Declaration, Reveal, decode_batch
from tallystick.protocol.verdict import decode_verdict

PERIOD = "2026-10"


def declarer(side: homes.Side) -> Declarer:
    return Declarer(side.books, lambda _: True)


async def declare(side: homes.Side, early: bool = False, **totals: int) -> tuple[int, bool]:
    return await declarer(side).declare(side.channel, side.closer, PERIOD, totals, early)


async def look(*sides: homes.Side) -> None:
    """What each node does once something came: reveal, if it is time."""
    for side in sides:
        await declarer(side)._reveal(side.channel, PERIOD)


def said(side: homes.Side) -> list[Any]:
    """The declarations and reveals of a side's own log."""
    return [
        record
        for _, record in side.channel.own.matters(side.channel.own.durable_size)
        if isinstance(record, Declaration | Reveal)
    ]


def shown(side: homes.Side) -> dict[str, Any]:
    return declarations_document(side.channel, side.closer, PERIOD)


async def settled(a: homes.Side, b: homes.Side) -> None:
    """Let both exchange and look until nothing more happens."""
    for _ in range(3):
        await homes.exchange(a, b)
        for side in (a, b):  # so that co-signatures are on the disk
            await side.books.store.commit(lambda txn: None)
        await look(a, b)
    await homes.exchange(a, b)


async def test_both_commit_then_both_reveal_and_the_verdict_is_the_same(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await declare(a, tokens=5)
        await settled(a, b)
        assert [type(record) for record in said(a)] == [Declaration]
        assert shown(b)["provider"]["totals"] is None
        await declare(b, tokens=7)
        await settled(a, b)
        for side in (a, b):
            assert [type(record) for record in said(side)] == [Declaration, Reveal]
            document = shown(side)
            assert document["provider"]["totals"] == {"tokens": "5"}
            assert document["consumer"]["totals"] == {"tokens": "7"}
            assert document["verdict"] == shown(a)["verdict"]
        results = {m["meter"]: m["result"] for m in shown(a)["verdict"]["meters"]}
        assert results["tokens"] == "within tolerance"  # fewer deltas than the terms judge
        assert results["calls"] == "not declared"
        await homes.close(a, b, PERIOD)
        rows = [side.closer.last for side in (a, b)]
        assert rows[0] is not None and rows[1] is not None
        assert rows[0].verdict == rows[1].verdict
        document = checkpoint_document(a.channel, a.closer, PERIOD)["verdict"]
        assert decode_verdict(rows[0].verdict).meters[3].provider == "5"
        assert document["meters"][3]["result"] == "within tolerance"


async def test_nothing_of_the_totals_is_at_the_peer_before_both_committed(tmp_path: Path) -> None:
    """Neither in its store nor in any message: only a salted hash is."""
    total = 271828182845
    async with homes.founded(tmp_path) as (a, b):
        await declare(a, tokens=total)
        (salt,) = (row.salt for row in kept_rows(a.channel).values())
        await settled(a, b)
        sent = a.channel.own.batch_from(1, a.channel.own.durable_size).data
        stored = (b.home.store_path / "data.mdb").read_bytes()
        for data in (sent, stored):
            assert str(total).encode() not in data
            assert total.to_bytes(8, "big") not in data
            assert salt not in data
        assert said(a)[0].commitment in stored
        await declare(b, tokens=1)
        await settled(a, b)
        assert str(total).encode() in (b.home.store_path / "data.mdb").read_bytes()


async def test_what_opens_it_is_on_the_disk_before_the_declaration(tmp_path: Path) -> None:
    """A copy of the store at any commit has no declaration that it could not open."""
    async with homes.founded(tmp_path) as (a, b):
        copies = watched(a, tmp_path)
        await declare(a, tokens=5)
        await declare(b, tokens=7)
        await settled(a, b)
        await a.books.store.commit(lambda txn: None)
    reveals = 0
    assert len(copies) > 4
    for copy in copies:
        books = reopened(a, copy)
        ((channel, _),) = books.channels.values()
        own = [r for _, r in channel.own.matters(channel.own.durable_size)]
        made = [record for record in own if isinstance(record, Declaration)]
        assert len(openable(channel)) == len(made)
        reveals += any(isinstance(record, Reveal) for record in own)
        books.close()
    assert 0 < reveals < len(copies)


def watched(side: homes.Side, folder: Path) -> list[Path]:
    """Copies of a side's store after each of its commits from now on."""
    copies: list[Path] = []
    store = side.books.store
    commit = store.commit_now

    def commit_and_copy(*jobs: Any) -> None:
        commit(*jobs)
        copy = folder / f"copy-{len(copies)}"
        copy.mkdir()
        shutil.copy(store.path / "data.mdb", copy / "data.mdb")
        copies.append(copy)

    store.commit_now = commit_and_copy  # type: ignore[method-assign]
    return copies


def reopened(side: homes.Side, store: Path) -> Books:
    """Books of a side on another copy of its store."""
    ids = store / "ids"
    ids.mkdir()
    return Books(Config(), side.books.identity, Store(store), ids, lambda: homes.NOW_US)


async def test_a_node_that_was_killed_at_any_commit_goes_on_to_the_same_end(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path / "run") as (a, b):
        copies = watched(a, tmp_path)
        await declare(a, tokens=5)
        await declare(b, tokens=7)
        await settled(a, b)
        for copy in copies:
            await resume(a, b, copy)


async def resume(a: homes.Side, b: homes.Side, copy: Path) -> None:
    """Start a from a copy; its people declare again, b returns what it has, both go on."""
    books = reopened(a, copy)
    again = object.__new__(homes.Side)
    again.home, again.books = a.home, books
    ((again.channel, again.closer),) = books.channels.values()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(books.store.run)
        books.errands.start(nursery)
        await returned(a, again)
        again.channel.live = True
        await declare(again, tokens=5)  # its people cannot know that it was done
        index, before = await declare(again, tokens=5)
        assert before and isinstance(again.channel.own.record(index), Declaration)
        assert len(openable(again.channel)) == 1
        await look(again)
        assert len([r for r in said(again) if isinstance(r, Reveal)]) <= 1
        nursery.cancel_scope.cancel()
    books.close()


async def returned(a: homes.Side, again: homes.Side) -> None:
    """What the peer has of our log comes back, as recovery brings it."""
    own = again.channel.own
    while own.durable_size < a.channel.own.cosigned_size:
        batch = a.channel.own.batch_from(own.durable_size, a.channel.own.durable_size)
        records, parts = decode_batch(batch.data)
        signed = (batch.signature, b"")
        sign = partial(lambda signed, head, facts: signed, signed)
        await own.submit(records, parts, [], sign, lambda _: None).wait()


async def test_a_home_that_lost_what_opens_it_declares_again(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await declare(a, tokens=5)
        await lose(a)
        await declare(b, tokens=7)
        await settled(a, b)
        assert [type(record) for record in said(a)] == [Declaration]
        assert [type(record) for record in said(b)] == [Declaration, Reveal]
        assert shown(a)["kept"] is None
        with pytest.raises(InputError, match=r"beta\.example has revealed its totals"):
            await declare(a, tokens=7)
        results = [m["result"] for m in shown(a)["verdict"]["meters"]]
        assert results[3] == "declared by one"


async def lose(side: homes.Side) -> None:
    """The rows that open declarations go, as with a home restored from an older copy."""
    keys = [side.channel.row.number.to_bytes(4, "big") + made for made in kept_rows(side.channel)]
    for key in keys:
        await side.books.store.commit(lambda txn, key=key: txn.delete("declarations", key))


async def test_what_was_lost_before_the_peer_declared_is_replaced(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await declare(a, tokens=5)
        await lose(a)
        await settled(a, b)
        await declare(a, tokens=6)
        await settled(a, b)
        await declare(b, tokens=7)
        await settled(a, b)
        assert shown(b)["provider"]["totals"] == {"tokens": "6"}
        assert shown(b)["consumer"]["totals"] == {"tokens": "7"}


async def test_the_task_reveals_by_itself_and_forgets_what_a_closed_period_needs_no_more(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        for side in (a, b):
            homes.attend(side, declarer(side))
        await declare(a, tokens=5)
        await declare(b, tokens=7)
        with trio.fail_after(60):
            while shown(a)["provider"]["totals"] is None or len(said(b)) < 2:
                await homes.exchange(a, b)
                await trio.sleep(0.05)
            await homes.close(a, b, PERIOD)
            while kept_rows(a.channel) or kept_rows(b.channel):
                await trio.sleep(0.05)
        assert shown(a)["closed"] and shown(a)["verdict"]["meters"][3]["consumer"] == "7"


async def test_refusals(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        one = declarer(a)

        async def refused(label: str, totals: Mapping[str, int], words: str) -> None:
            with pytest.raises(InputError, match=words):
                await one.declare(a.channel, a.closer, label, totals, False)

        await refused("2027-01", {"tokens": 1}, "not over by the clock here")
        await refused("October", {"tokens": 1}, "not a month")
        await refused(PERIOD, {}, "no total")
        size = a.channel.own.durable_size
        await one.declare(a.channel, a.closer, "2027-01", {"tokens": 1}, True)
        assert a.channel.own.durable_size == size + 1
        await homes.close(a, b, PERIOD)
        await refused(PERIOD, {"tokens": 1}, "is closed")
        assert kept_rows(a.channel).keys() == {said(a)[0].commitment}


async def test_a_full_disk_leaves_no_declaration_that_cannot_be_opened(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _b):
        commit = a.books.store.commit_now

        def full(*jobs: Any) -> None:
            raise StoreError("the disk is full")

        a.books.store.commit_now = full  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await declare(a, tokens=5)
        a.books.store.commit_now = commit  # type: ignore[method-assign]
        assert said(a) == [] and not kept_rows(a.channel)
        await declare(a, tokens=5)
        assert len(openable(a.channel)) == 1


async def test_the_verdict_counts_only_what_the_checkpoints_heads_have(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        drafts = [Draft(f"t{n}", "tokens", "s", 5, builders.OCTOBER_US) for n in range(3)]
        await a.channel.emit_paused(drafts)
        await declare(a, tokens=15)
        await declare(b, tokens=15)
        await homes.exchange(a, b)
        await homes.close(a, b, PERIOD)  # before anybody revealed
        assert a.closer.last is not None
        verdict = decode_verdict(a.closer.last.verdict)
        assert {row.result for row in verdict.meters} == {"not declared"}
        await settled(a, b)
        assert shown(a)["provider"]["totals"] is None, "it is shown as it was closed"
