"""The thread that writes: one, in order, waited for in any case, and gone when it is stopped."""

from __future__ import annotations

import threading

import pytest
import trio

from tallystick.node.store.writer import Writer

SECONDS = 60


async def test_work_is_done_in_order_on_one_thread_that_ends() -> None:
    writer, done = Writer(), []
    for n in range(3):
        await writer.run(lambda n=n: done.append((n, threading.current_thread())))  # type: ignore[misc]
    assert [n for n, _ in done] == [0, 1, 2]
    (thread,) = {thread for _, thread in done}
    assert thread is not threading.current_thread()
    writer.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()
    await writer.run(lambda: done.append((3, threading.current_thread())))  # begins anew
    assert done[-1][1] is not thread
    writer.stop()


async def test_an_error_is_raised_where_the_work_is_waited_for() -> None:
    writer = Writer()
    with pytest.raises(ZeroDivisionError):
        await writer.run(lambda: print(1 // 0))
    await writer.run(lambda: None)
    writer.stop()


async def test_work_that_began_is_waited_for_though_its_caller_is_given_up() -> None:
    writer, gate, done = Writer(), threading.Event(), []

    def work() -> None:
        gate.wait(SECONDS)
        done.append(True)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(trio.lowlevel.checkpoint)
            scope.cancel()
            threading.Timer(0.2, gate.set).start()
            await writer.run(work)
    assert done == [True]
    writer.stop()
