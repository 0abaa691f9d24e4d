"""What is told of two parties' channel: each kind once, in order, nothing twice over restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accusing as made
import builders
import homes
import pytest
import trio
from feeding import all_events, fed, told, until
from homes import Side

from tallystick.node import accusing, disputing
from tallystick.node.backup import make_backup
from tallystick.node.books import Books
from tallystick.node.closing_news import ClosingNews
from tallystick.node.config import Config, FeedConfig
from tallystick.node.feed import feed as feed_module
from tallystick.node.feed.events import Event
from tallystick.node.feed.feed import Feed
from tallystick.node.feed.following import Follower
from tallystick.node.feed.rows import forget_feed
from tallystick.node.importing.drafts import Draft
from tallystick.node.lapsing import Lapser
from tallystick.node.store.disk import Store
from tallystick.protocol.records import Answer, Dispute, Resolution, Withdrawal

DAY_US = builders.DAY_US
OCTOBER = "2026-10"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PAUSE_SECONDS", 0.01)


async def _emit(a: Side, b: Side, *names: str) -> None:
    drafts = [Draft(name, "tokens", "s1", 100, builders.OCTOBER_US) for name in names]
    await a.channel.emit(drafts)
    await homes.exchange(a, b)


def _dispute(amount: int) -> Dispute:
    return Dispute(OCTOBER, "tokens", "s1", amount, "quantity", "two nodes were down", (), 0)


def _of(events: list[Event], family: str) -> list[str]:
    return [event.kind for event in events if event.kind.startswith(family)]


def _ranges(events: list[Event], *, ours: bool) -> list[tuple[int, int]]:
    return [
        (event.data["from"], event.data["to"])
        for event in events
        if event.kind == "delta.cosigned" and event.data["ours"] == ours
    ]


def _whole(ranges: list[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether the ranges go from start to stop without a gap or an overlap."""
    ends = [start, *(end for _, end in ranges)]
    return [begin for begin, _ in ranges] == ends[:-1] and ends[-1] == stop


async def test_co_signed_heads_are_told_without_gap_or_overlap(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a, b) as (feed_a, feed_b):
        for n in range(12):
            await _emit(a, b, f"t{n}")
        await _emit(b, a, "u")
        for feed, side, other in ((feed_a, a, b), (feed_b, b, a)):
            events = await told(feed)
            for log, ours in ((side.channel.own, True), (side.channel.peer, False)):
                assert _whole(_ranges(events, ours=ours), 1, log.durable_size)
            last = [e for e in events if e.data.get("ours")][-1]
            assert last.data["root"] == side.channel.own.root_at(last.data["to"]).hex()
            assert {e.peer for e in events} == {other.books.identity.name}


async def test_many_heads_while_the_feed_does_something_else_become_one_event(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        feed = Feed(a.books, lambda channel: True)
        for n in range(30):
            await _emit(a, b, f"t{n}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.run)
            assert _ranges(await told(feed), ours=True) == [(1, 31)]
            nursery.cancel_scope.cancel()


async def test_a_dispute_is_told_from_its_opening_to_its_end(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a, b) as feeds:
        await _emit(a, b, "t1", "t2")
        filed = await disputing.say(b.channel, _dispute(50))
        await told(feeds[1])
        assert _of(all_events(feeds[1]), "dispute") == []  # nobody has it but its author
        await homes.exchange(a, b)
        await told(feeds[0])
        for side, said in (
            (a, Answer(filed.dispute, 20, "one was", (), 0)),
            (b, Answer(filed.dispute, 0, "both were", (), 0)),
            (a, Resolution(filed.dispute, 30, "then", 0)),
            (b, Resolution(filed.dispute, 30, "fine", 0)),
        ):
            await disputing.say(side.channel, said)
            await homes.exchange(a, b)
            for feed in feeds:
                await told(feed)
        again = await disputing.say(b.channel, _dispute(40))
        await disputing.say(b.channel, Withdrawal(again.dispute, "our mistake", 0))
        await homes.exchange(a, b)
        for feed in feeds:
            events = [e for e in await told(feed) if e.kind.startswith("dispute")]
            assert [e.kind.removeprefix("dispute.") for e in events] == [
                "opened", "answered", "insisted", "offered", "offered", "resolved",
                "opened", "withdrawn",
            ]  # fmt: skip
            assert {e.data["dispute"] for e in events[:6]} == {filed.dispute.hex()}
            assert (events[0].data["by"], events[0].data["amount"]) == ("beta.example", "50")
            assert (events[1].data["conceded"], events[1].data["words"]) == ("20", "one was")
            assert (events[5].data["state"], events[5].data["upheld"]) == ("resolved", "30")
            assert all(e.said for e in events)


async def test_a_deadline_is_told_before_and_when_it_lapsed(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        async with fed(a, b) as feeds:
            await _emit(a, b, "t1")
            await disputing.say(b.channel, _dispute(50))
            await homes.exchange(a, b)
            for feed in feeds:
                assert _of(await told(feed), "dispute") == ["dispute.opened"]
            for side in (a, b):
                side.now_us += 27 * DAY_US
            for feed in feeds:
                feed.poke(a.channel.id)
                due = [e for e in await told(feed) if e.kind == "dispute.due"]
                assert len(due) == 1
                assert (due[0].data["waits_for"], due[0].data["then"]) == ("acme.example", "upheld")
        async with fed(a, b) as feeds:  # a restart tells nothing twice
            for side in (a, b):
                side.now_us += 3 * DAY_US
            await _emit(b, a, "later")
            await Lapser(b.books, lambda channel: True).look(b.channel, {})
            await homes.exchange(a, b)
            for feed in feeds:
                events = [e for e in await told(feed) if e.kind.startswith("dispute")]
                kinds = ["dispute.opened", "dispute.due", "dispute.lapsed"]
                assert [e.kind for e in events] == kinds
                assert events[-1].data["state"] == "upheld"


async def test_a_deadline_is_told_although_memory_does_not_count_its_record_yet(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        log = b.channel.own
        await _emit(a, b, "t1")
        async with fed(b) as (feed,):
            await told(feed)
        before = log.durable_size
        await disputing.say(b.channel, _dispute(50))
        await homes.exchange(a, b)
        follower = Follower(b.books, lambda channel: True, 72 * 3600.0, 0.0)
        # The commit can be read already; what follows from it in memory is still to come.
        after, log.durable_size = log.durable_size, before
        b.now_us += 27 * DAY_US
        kinds = [row.kind for row in follower.look(b.channel.id).rows]
        log.durable_size = after
        assert [kind for kind in kinds if kind.startswith("dispute")] == [
            "dispute.opened", "dispute.due",
        ]  # fmt: skip


async def test_a_closed_period_is_told_signed_due_and_accepted(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a, b) as feeds:
        await _emit(a, b, "t1")
        await homes.close(a, b, OCTOBER)
        for side in (a, b):
            side.now_us += 13 * DAY_US
        for feed in feeds:
            feed.poke(a.channel.id)
            assert _of(await told(feed), "checkpoint") == [
                "checkpoint.proposed", "checkpoint.signed", "checkpoint.due", "checkpoint.due",
            ]  # fmt: skip
        for side in (a, b):
            side.now_us += 3 * DAY_US
        await _emit(b, a, "later")
        await Lapser(b.books, lambda channel: True).look(b.channel, {})
        await homes.exchange(a, b)
        for feed in feeds:
            events = await told(feed)
            assert events[-1].kind == "checkpoint.accepted"
            assert events[-1].data == {"period": OCTOBER, "by": "beta.example"}
            signed = next(e for e in events if e.kind == "checkpoint.signed")
            assert signed.data["digest"] == a.closer.rows[0].digest.hex()


async def test_evidence_and_the_halt_that_follows_are_told(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _), fed(a) as (feed,):
        kept = await accusing.keep(a.channel, made.author_evidence())
        events = (await told(feed))[-2:]
        assert {e.kind for e in events} == {"channel.halted", "evidence.found"}
        found = next(e for e in events if e.kind == "evidence.found")
        assert found.data["digest"] == kept.digest.hex()
        again = Feed(a.books, lambda channel: True)  # as after a restart
        assert again._follower.look(a.channel.id).rows == []


async def test_refusals_and_differences_are_told_of_what_was_proposed(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        await _emit(a, b, "t1")
        closing = a.closer._compute(a.channel.own.folder.calendar.parse(OCTOBER), (2, 1))
        news, digest = ClosingNews(a.channel), closing.checkpoint.digest()
        news.refused(digest, "never proposed", ours=True)
        news.proposed(closing.checkpoint, ours=False)
        news.proposed(closing.checkpoint, ours=False)
        news.refused(digest, "quota\x1b[31m", ours=True)
        news.differs(digest, "first line that differs")
        events = [e for e in await told(feed) if not e.kind.startswith(("delta", "channel"))]
        kinds = ["checkpoint.proposed", "checkpoint.refused", "discrepancy.found"]
        assert [e.kind for e in events] == kinds
        assert events[1].data["reason"] == "quota [31m"
        assert {e.data["period"] for e in events} == {OCTOBER}


async def test_a_peer_cannot_fill_the_feed_with_what_leaves_no_trace(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _), fed(a) as (feed,):
        for n in range(5000):
            data = {"by": "b", "period": OCTOBER, "digest": str(n)}
            feed.happened("checkpoint.proposed", a.channel.id, data)
        assert 0 < len(_of(await told(feed), "checkpoint")) < 100


async def test_an_upgraded_home_begins_now(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _emit(a, b, "t1")
        await disputing.say(b.channel, _dispute(50))
        await homes.close(a, b, OCTOBER)
        a.now_us += 400 * DAY_US
        async with fed(a) as (feed,):
            assert await told(feed) == []
            await _emit(a, b, "t2")
            events = await told(feed)
            assert [e.kind for e in events] == ["delta.cosigned"]
            assert events[0].data["to"] - events[0].data["from"] == 1


async def test_what_comes_back_after_a_restore_is_not_told_again(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        back = False
        async with fed(a) as (feed,):
            await _emit(a, b, "t1")
            await told(feed)
            last = feed.last
        await a.books.founding.set_doubt(a.channel.id, 1)
        a.books.store.commit_now(forget_feed)
        feed = Feed(a.books, lambda channel: back)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.run)
            assert feed.last >= last
            await _emit(a, b, "t2")  # stands for what the peer returns
            assert [e.kind for e in await told(feed)] == ["recovery.begun"]
            await a.books.founding.set_doubt(a.channel.id, 0)
            assert [e.kind for e in await told(feed)] == ["recovery.begun"]
            back = True
            await until(lambda: _of(all_events(feed), "recovery.done") != [])
            await _emit(a, b, "t3")
            events = await told(feed)
            assert [e.kind for e in events] == ["recovery.begun", "recovery.done", "delta.cosigned"]
            assert _ranges(events, ours=True) == [(3, 4)]
            nursery.cancel_scope.cancel()


async def test_a_restored_backup_forgets_how_far_the_feed_was(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        await _emit(a, b, "t1")
        await told(feed)
        last = feed.last
    make_backup(a.home, tmp_path / "backup", with_seed=True)
    store = Store(tmp_path / "backup" / "store")
    try:
        identity = builders.identity(homes.NAMES[0])
        books = Books(Config(), identity, store, tmp_path / "backup", lambda: a.now_us)
        again = Feed(books, lambda channel: True)
        assert again.last >= last
        assert again.after(None, 9).events == []
    finally:
        books.close()


async def test_old_events_go_by_age_and_by_count(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        a.books.config = Config(feed=FeedConfig(keep_days=2, keep_events=1000))
        async with fed(a) as (feed,):
            await _emit(a, b, "t1")
            assert len(await told(feed)) == 1
            a.now_us += 3 * DAY_US
            await _emit(a, b, "t2")
            events = await told(feed)
            assert _ranges(events, ours=True) == [(2, 3)]


async def test_who_waits_is_woken_by_the_next_event(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,), trio.open_nursery() as nursery:
        await told(feed)
        woken: list[int] = []

        async def wait(cursor: int) -> None:
            await feed.wait_beyond(cursor)
            woken.append(cursor)

        nursery.start_soon(wait, feed.last)
        nursery.start_soon(wait, feed.last + 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert woken == []
        last = feed.last
        await _emit(a, b, "t1")
        await until(lambda: bool(woken))
        assert woken == [last]
        nursery.cancel_scope.cancel()


async def test_a_full_disk_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RETRY_SECONDS", 0.02)
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        await _emit(a, b, "t1")
        await told(feed)
        before = len(all_events(feed))
        commit, failed = a.books.store.commit, 0

        async def fail(job: Any) -> None:
            nonlocal failed
            failed += 1
            raise feed_module.StoreError("the disk is full")

        monkeypatch.setattr(a.books.store, "commit", fail)
        data = {"by": "b", "period": OCTOBER, "digest": "d"}
        feed.happened("checkpoint.proposed", a.channel.id, data)
        await until(lambda: failed > 2)
        assert len(all_events(feed)) == before
        monkeypatch.setattr(a.books.store, "commit", commit)
        await _emit(a, b, "t2")
        events = await told(feed)
        assert _ranges(events, ours=True) == [(1, 2), (2, 3)]
        assert _of(events, "checkpoint") == ["checkpoint.proposed"]
