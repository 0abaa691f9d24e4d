"""Errands run when called for, one at a time for a subject, and again when their time comes."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing

from tallystick.node.errands import WHEN_CALLED, Errands


class Work:
    """Work that waits to be let go on, and says what it was asked to do."""

    def __init__(self, *seconds: float) -> None:
        self.done: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self.most = 0
        self.seconds = list(seconds)
        self.go = trio.Event()

    async def work(self, subject: str) -> float:
        self.under_way[subject] += 1
        self.most = max(self.most, self.under_way[subject])
        await self.go.wait()
        self.under_way[subject] -= 1
        self.done[subject] += 1
        return self.seconds.pop(0) if self.seconds else WHEN_CALLED


async def test_what_is_called_for_often_runs_once_and_once_more(autojump_clock: object) -> None:
    one = Work()
    async with trio.open_nursery() as nursery:
        errands = Errands()
        errands.start(nursery)
        for _ in range(5):
            errands.call(one.work, "a")
            errands.call(one.work, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert one.under_way == {"a": 1, "b": 1}
        errands.call(one.work, "a")
        one.go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert one.done == {"a": 2, "b": 2}  # the calls after the first came before it began
        assert one.most == 1
        errands.call(one.work, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert one.done == {"a": 2, "b": 3}
        nursery.cancel_scope.cancel()


async def test_it_runs_again_in_its_time_unless_it_was_called_before(
    autojump_clock: object,
) -> None:
    one = Work(10, 10)
    one.go.set()
    async with trio.open_nursery() as nursery:
        errands = Errands()
        errands.call(one.work, "a")  # before the start
        errands.start(nursery)
        await trio.sleep(9)
        assert one.done["a"] == 1
        errands.call(one.work, "a")
        await trio.sleep(9)
        assert one.done["a"] == 2  # not at its first time
        await trio.sleep(2)
        assert one.done["a"] == 3
        await trio.sleep(1000)
        assert one.done["a"] == 3
        nursery.cancel_scope.cancel()


async def test_what_is_idle_has_no_task(autojump_clock: object) -> None:
    one = Work()
    one.go.set()
    async with trio.open_nursery() as nursery:
        errands = Errands()
        errands.start(nursery)
        before = len(nursery.child_tasks) + 1
        for number in range(1000):
            errands.call(one.work, str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert len(one.done) == 1000
        assert len(nursery.child_tasks) <= before
        nursery.cancel_scope.cancel()
    errands.call(one.work, "late")  # the node is gone: nothing happens


async def test_an_error_of_ours_is_not_hidden() -> None:
    async def broken(subject: object) -> float:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as nursery:
            errands = Errands()
            errands.start(nursery)
            errands.call(broken, None)
