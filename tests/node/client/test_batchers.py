"""Batchers with a real node that is killed under them: what is acknowledged is there, once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import emitting
import pytest
from emitting import CHANNEL, METER

from tallystick.client import (
    AsyncClient,
    Batcher,
    Client,
    ClientError,
    Delta,
    Emitted,
    Forked,
    Full,
    Receipt,
    Refusal,
    Retry,
    Undelivered,
    Unreachable,
)
from tallystick.client.queue import Queue

RETRY = Retry(attempts=3, first=0.02, longest=0.3)


def _client(acme: emitting.Emitter) -> Client:
    return Client(acme.url, key=acme.emit_key, channel=CHANNEL, retry=RETRY)


def test_a_node_that_is_killed_under_it_loses_and_doubles_nothing(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    count, threads = 15_000, 4
    with _client(acme) as client:
        batcher = client.batcher(queue_max=2000, batch_max=200, linger_seconds=0.01)

        def work(first: int) -> None:
            for n in range(first, count, threads):
                batcher.emit(METER, n % 100, "s", id=f"{prefix}{n}")

        working = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for thread in working:
            thread.start()
        acknowledged = 0
        while acknowledged < count * 3 // 4:
            acknowledged = batcher.stats.recorded + batcher.stats.duplicate
            acme.restart()
            there = acme.recorded(prefix)
            assert len(there) == len(set(there)) >= acknowledged
            assert batcher.stats.queued <= 2000
        for thread in working:
            thread.join()
        stats = batcher.close()
    assert (stats.queued, stats.refused) == (0, 0)
    assert stats.recorded + stats.duplicate == count
    assert acme.recorded(prefix) == list(range(count))


def test_the_other_batcher_loses_and_doubles_nothing_either(acme: emitting.Emitter) -> None:
    async def work() -> None:
        prefix = acme.prefix()
        count = 6000
        client = AsyncClient(acme.url, key=acme.emit_key, channel=CHANNEL, retry=RETRY)
        async with client:
            settings: Any = {"queue_max": 1000, "batch_max": 100, "linger_seconds": 0.01}
            async with client.batcher(**settings) as batcher:

                async def emit(first: int) -> None:
                    for n in range(first, count, 4):
                        await batcher.emit(METER, n % 100, "s", id=f"{prefix}{n}")

                async with anyio.create_task_group() as group:
                    for n in range(4):
                        group.start_soon(emit, n)
                    await anyio.sleep(0.3)
                    acknowledged = batcher.stats.recorded + batcher.stats.duplicate
                    await anyio.to_thread.run_sync(acme.restart)
                    there = acme.recorded(prefix)
                    assert len(there) == len(set(there)) >= acknowledged
            stats = batcher.stats
        assert (stats.queued, stats.recorded + stats.duplicate) == (0, count)
        assert acme.recorded(prefix) == list(range(count))

    emitting.on_both(work)


def test_flush_waits_for_what_was_put(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    with _client(acme) as client, client.batcher(linger_seconds=3600) as batcher:
        for n in range(10):
            batcher.emit(METER, n, "s", id=f"{prefix}{n}")
        stats = batcher.flush(timeout=60)
        assert (stats.queued, stats.recorded, stats.trouble) == (0, 10, None)
        batcher.put(Delta.of(METER, 3, "s", id=f"{prefix}10"))
        assert batcher.flush().recorded == 11
        assert batcher.flush().recorded == 11
    assert acme.recorded(prefix) == list(range(11))


def test_what_is_refused_is_told_and_stops_nothing(acme: emitting.Emitter) -> None:
    told: list[Refusal] = []
    with _client(acme) as client, client.batcher(on_refused=told.append) as batcher:
        batcher.emit("miles", 1, "s")
        batcher.emit(METER, "0.5", "s")
        batcher.emit(METER, 1, "s")
        stats = batcher.flush()
        assert (stats.recorded, stats.refused) == (1, 2)
        assert [refusal.delta.meter for refusal in told] == ["miles", METER]
        assert batcher.refusals == tuple(told)


def test_a_full_queue_blocks_until_the_node_is_back(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    with _client(acme) as client, client.batcher(queue_max=5) as batcher:
        acme.party.kill()
        for n in range(5):
            batcher.emit(METER, n, "s", id=f"{prefix}{n}", timeout=0)
        with pytest.raises(Full, match="5 deltas wait already"):
            batcher.emit(METER, 5, "s", timeout=0.05)
        with pytest.raises(Undelivered, match="5 deltas are not acknowledged") as raised:
            batcher.flush(timeout=1)
        assert [delta.id for delta in raised.value.deltas] == [f"{prefix}{n}" for n in range(5)]
        assert isinstance(raised.value.cause, Unreachable)
        blocked = threading.Thread(
            target=batcher.emit, args=(METER, 5, "s"), kwargs={"id": f"{prefix}5"}
        )
        blocked.start()
        time.sleep(0.1)
        assert blocked.is_alive()
        acme.party.start()
        blocked.join(60)
        assert not blocked.is_alive()
    assert acme.recorded(prefix) == list(range(6))


def test_close_gives_back_what_is_not_acknowledged(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    acme.party.kill()
    try:
        with _client(acme) as client:
            batcher = client.batcher()
            kept = batcher.emit(METER, 1, "s", id=f"{prefix}1")
            with pytest.raises(Undelivered) as raised:
                batcher.close(timeout=0.2)
            assert raised.value.deltas == (kept,)
            with pytest.raises(ClientError, match="closed"):
                batcher.emit(METER, 1, "s")
            batcher._thread.join(5)
            assert not batcher._thread.is_alive()
    finally:
        acme.party.start()
    with _client(acme) as client:
        assert client.emit_many(raised.value.deltas).recorded == 1
    assert acme.recorded(prefix) == [1]


def test_a_forked_process_is_told_that_it_is_not_its_own(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    with _client(acme) as client, client.batcher(linger_seconds=0.5) as batcher:
        batcher.emit(METER, 1, "s", id=f"{prefix}1")
        child = os.fork()
        if not child:
            code = 1
            try:
                for use in (lambda: batcher.emit(METER, 2, "s"), batcher.flush, batcher.close):
                    with pytest.raises(Forked):
                        use()
                with client.batcher() as own:
                    own.emit(METER, 3, "s", id=f"{prefix}3")
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert acme.recorded(prefix) == [1, 3]


def test_an_interpreter_that_ends_sends_what_is_left(acme: emitting.Emitter) -> None:
    prefix = acme.prefix()
    code = (
        "from tallystick.client import Client\n"
        f"client = Client({acme.url!r}, key={acme.emit_key!r}, channel={CHANNEL!r})\n"
        "batcher = client.batcher(linger_seconds=60)\n"
        f"batcher.emit({METER!r}, 1, 's', id={prefix + '1'!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert acme.recorded(prefix) == [1]


def test_batches_are_sent_when_they_are_full_or_a_moment_old() -> None:
    sent: list[int] = []
    release = threading.Semaphore(0)

    def send(batch: Any, sleep: Any) -> Emitted:
        sent.append(len(batch))
        release.acquire()
        receipts = tuple(Receipt(delta, 0, False, False) for delta in batch)
        return Emitted(receipts, (), len(batch), 0)

    batcher = Batcher(send, Queue(RETRY, 1000, 10, 0.0, None))
    batcher.emit("m", 1, "s")
    while not sent:
        time.sleep(0.001)
    for _ in range(25):  # they come while the first is on its way
        batcher.emit("m", 1, "s")
    release.release(4)
    assert batcher.close().recorded == 26
    assert sent == [1, 10, 10, 5]


def test_who_waits_has_heard_of_what_was_refused_and_a_listener_may_emit() -> None:
    told: list[str] = []

    def send(batch: Any, sleep: Any) -> Emitted:
        refused = [delta for delta in batch if delta.quantity == "1"]
        return Emitted((), tuple(Refusal(delta, "x", "y") for delta in refused), 0, 0)

    def listener(refusal: Refusal) -> None:
        time.sleep(0.05)
        told.append(refusal.delta.id)
        batcher.emit("m", 2, "s", timeout=5)

    with Batcher(send, Queue(RETRY, 1, 1, 0.0, listener)) as batcher:
        made = batcher.emit("m", 1, "s")
        batcher.flush(5)
        assert told == [made.id]


def test_a_listener_that_fails_does_not_stop_it(caplog: pytest.LogCaptureFixture) -> None:
    def send(batch: Any, sleep: Any) -> Emitted:
        return Emitted((), tuple(Refusal(delta, "x", "y") for delta in batch), 0, 0)

    def listener(refusal: Refusal) -> None:
        raise RuntimeError("the caller's own")

    with Batcher(send, Queue(RETRY, 10, 10, 0.0, listener)) as batcher:
        batcher.emit("m", 1, "s")
        batcher.flush(5)
        batcher.emit("m", 1, "s")
        assert batcher.flush(5).refused == 2
    assert caplog.text.count("RuntimeError: the caller's own") == 2


def test_the_block_of_the_other_batcher_ends_as_it_ended() -> None:
    async def work() -> None:
        client = AsyncClient("http://127.0.0.1:9", key="x", channel="c", retry=RETRY)
        async with client:
            with pytest.raises(LookupError):
                async with client.batcher(drain_seconds=0.05) as batcher:
                    await batcher.emit("m", 1, "s")
                    raise LookupError
            with pytest.raises(Undelivered) as raised:
                async with client.batcher(drain_seconds=0.05, queue_max=1) as batcher:
                    kept = await batcher.emit("m", 1, "s")
                    with pytest.raises(Full):
                        await batcher.emit("m", 2, "s", timeout=0.01)
                    with pytest.raises(Undelivered):
                        await batcher.flush(0.05)
                    with anyio.CancelScope() as scope:
                        scope.cancel()
                        await batcher.emit("m", 3, "s")
                    raise Undelivered([kept], None)
            assert raised.value.deltas == (kept,)
            with anyio.move_on_after(0.1) as scope:
                async with client.batcher(drain_seconds=0.05) as batcher:
                    await batcher.emit("m", 1, "s")
            assert scope.cancelled_caught
            assert batcher.stats.queued == 1
            with pytest.raises(ClientError, match="closed"):
                await batcher.emit("m", 1, "s")

    emitting.on_both(work)
