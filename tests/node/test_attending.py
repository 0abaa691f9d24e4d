"""Channels in which nothing happens: no tasks, and nothing at hand that can be read again."""

from __future__ import annotations

from pathlib import Path

import builders
import homes
import trio
import trio.testing

from tallystick.node import attending
from tallystick.node.attending import Attendant
from tallystick.node.declaring import Declarer
from tallystick.node.importing.drafts import Draft
from tallystick.node.lapsing import Lapser
from tallystick.node.requests import PART_DRAFTS, Turns, joined, parts_of
from tallystick.node.rotating import Rotator


def _drafts(first: int, count: int) -> list[Draft]:
    at = builders.OCTOBER_US
    return [Draft(f"id-{n}", "tokens", "s", 1, at) for n in range(first, first + count)]


def _attendant(side: homes.Side) -> Attendant:
    followers = (
        Lapser(side.books, lambda channel: True),
        Declarer(side.books, lambda channel: True),
    )
    return Attendant(side.books.errands, Rotator(side.books), followers, lambda channel: None)


async def test_an_idle_channel_has_no_task(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side, trio.open_nursery() as nursery:
        side.books.errands.start(nursery)
        _attendant(side).attend(side.channel, concerned=True)
        await side.channel.emit(_drafts(0, 10))
        with trio.fail_after(60):
            while len(nursery.child_tasks) > 1:  # the errands' own
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def test_a_log_at_rest_holds_nothing_and_answers_as_before(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side, trio.open_nursery() as nursery:
        side.books.errands.start(nursery)
        attendant = _attendant(side)
        attendant.attend(side.channel, concerned=False)
        own = side.channel.own
        await side.channel.emit(_drafts(0, 500))
        assert own.find("tokens", "id-7") is not None
        await attendant.rest(trio.current_time() - 60)
        assert own.index.recent == 500  # it grew lately
        await attendant.rest(trio.current_time() + 1)
        assert (own.index.recent, len(own.book.dirty), own.covered) == (0, 0, own.durable_size)
        assert not own._recent and own.lookups.empty
        files = {run.path for run in own.index._runs if run._file is not None}
        assert not files
        found = own.find("tokens", "id-7")
        assert found is not None and found[1].id == "id-7"
        result = await side.channel.emit(_drafts(400, 200))
        assert len(result.repeated) == 100
        assert own.durable_size == 601
        own.index.rest()
        nursery.cancel_scope.cancel()


async def test_logs_that_hold_too_much_together_write_it(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side, trio.open_nursery() as nursery:
        side.books.errands.start(nursery)
        attendant = _attendant(side)
        attendant.attend(side.channel, concerned=False)
        await side.channel.emit(_drafts(0, 50))
        before = attending.HELD_MAX
        attending.HELD_MAX = 40
        try:
            await attendant.rest(trio.current_time() - 60)
        finally:
            attending.HELD_MAX = before
        assert side.channel.own.index.recent == 0
        nursery.cancel_scope.cancel()


async def test_the_parts_of_a_request_are_answered_as_one(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side, trio.open_nursery() as nursery:
        side.books.errands.start(nursery)
        await side.channel.emit(_drafts(PART_DRAFTS + 5, 3))
        drafts = _drafts(0, 3 * PART_DRAFTS)
        drafts[2 * PART_DRAFTS] = Draft("id-0", "tokens", "s", 2, builders.OCTOBER_US)
        drafts[-1] = Draft("last", "tokens", "", 2, builders.OCTOBER_US)
        assert len(parts_of(drafts)) == 3
        result = await side.channel.emit(drafts)
        assert result.repeated == [PART_DRAFTS + 5, PART_DRAFTS + 6, PART_DRAFTS + 7]
        assert [(n, kind) for n, kind, _ in result.problems] == [
            (2 * PART_DRAFTS, "conflict"),
            (3 * PART_DRAFTS - 1, "rejected"),
        ]
        assert len(result.indexes) == len(drafts)
        for place in (0, PART_DRAFTS, PART_DRAFTS + 6, 3 * PART_DRAFTS - 2):
            record = side.channel.own.record(result.indexes[place])
            assert getattr(record, "id", "") == drafts[place].id
        nursery.cancel_scope.cancel()


def test_who_is_alone_takes_all_and_who_is_not_takes_little() -> None:
    turns = Turns()
    a, b = object(), object()
    alone = turns.most(a, 0.0)
    assert alone > PART_DRAFTS
    assert turns.most(b, 0.5) == turns.most(a, 0.6) == turns.most(a, 1.5) == PART_DRAFTS
    assert turns.most(a, 1.6) == alone
    assert joined(parts_of([])).indexes == []
