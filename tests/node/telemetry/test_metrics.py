"""What /metrics says is so, and says it by the conventions."""

from __future__ import annotations

import re
import shutil
import threading
from itertools import groupby
from pathlib import Path

import builders
import homes
import msgspec
import pytest
import trio
from homes import Side
from scrapes import Scrape, monitor_of, scrape

from tallystick.node import disputing
from tallystick.node.config import Metrics
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.keyspace import evidence_key
from tallystick.node.telemetry.collector import short_names
from tallystick.node.telemetry.following import Following
from tallystick.node.telemetry.metrics import METRICS, Metric
from tallystick.node.telemetry.monitor import CHANNELS_A_TURN
from tallystick.node.telemetry.outgoing import watch_outgoing
from tallystick.protocol.records import Dispute

CONVENTION = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


async def _use(a: Side, b: Side, count: int = 5) -> None:
    drafts = [Draft(f"t{n}", "tokens", "s1", 100, builders.OCTOBER_US + n) for n in range(count)]
    for side in (a, b):
        await side.channel.emit(drafts)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert CONVENTION.fullmatch(metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.means.endswith(".")
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_milliseconds", "_kilobytes"))


async def test_sizes_lag_and_latency(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        monitor = monitor_of(a)
        before = await scrape(monitor)
        assert before.value("channel_log_records", log="own") == 1
        await _use(a, b)
        waiting = await scrape(monitor)
        assert waiting.value("channel_log_records", log="own") == 6
        assert waiting.value("channel_lag_records") == 5
        assert waiting.value("channel_lag_seconds") > 0
        await homes.exchange(a, b)
        after = await scrape(monitor)
        assert after.value("channel_lag_records") == after.value("channel_lag_seconds") == 0
        for log in ("own", "peer"):
            assert after.value("channel_cosigned_records", log=log) == 6
            assert after.value("channel_batch_records_sum", log=log) == 6
        assert after.value("channel_cosign_seconds_count") == 2
        assert after.value("store_fsync_seconds_count") > before.value("store_fsync_seconds_count")
        assert after.value("store_commit_bytes_sum") > 500
        assert after.value("channel_held_bytes") == a.channel.held_bytes > 0
        assert after.value("metrics_problems_total") == 0


async def test_what_waited_at_the_start_counts_from_when_it_was_recorded(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _use(a, b)
        for log in (a.channel.own, a.channel.peer):
            log.growth.forget()  # as after a start
        a.now_us += 90_000_000
        found = await scrape(monitor_of(a))
        assert found.value("channel_lag_seconds") == pytest.approx(90)


async def test_states(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)

        async def states() -> dict[str, float]:
            found = await scrape(monitor)
            labels = found.labels("channel_state")
            return {one["state"]: found.value("channel_state", **one) for one in labels}

        assert await states() == {"open": 1, "confirming": 0, "halted": 0}
        a.channel.part()
        assert await states() == {"open": 0, "confirming": 1, "halted": 0}
        await a.books.founding.halt(a.channel.id, "for a test")
        assert await states() == {"open": 0, "confirming": 0, "halted": 1}
        assert (await scrape(monitor)).value("channels", state="halted") == 1


async def test_the_age_of_heads_is_by_the_co_signature(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        monitor = monitor_of(a)
        a.now_us += 100_000_000
        found = await scrape(monitor)
        for log in ("own", "peer"):
            assert found.value("channel_head_age_seconds", log=log) == pytest.approx(100, abs=1)
        b.now_us += 60_000_000
        await _use(a, b)
        await homes.exchange(a, b)
        found = await scrape(monitor)
        assert found.value("channel_head_age_seconds", log="own") == pytest.approx(40, abs=1)
        assert found.value("channel_head_age_seconds", log="peer") == pytest.approx(0, abs=1)


async def test_a_period_that_nobody_closed_is_overdue(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        monitor = monitor_of(a)

        async def overdue() -> float:
            return (await scrape(monitor)).value("channel_checkpoint_overdue_seconds")

        assert await overdue() == 0  # nothing was used
        await _use(a, b)
        grace = a.channel.terms.grace_seconds
        ended = a.now_us / 1e6 - a.channel.own.folder.calendar.parse("2026-10").end_us / 1e6
        assert await overdue() == pytest.approx(ended - grace)
        assert (await scrape(monitor)).all("channel_checkpoint_age_seconds") == []
        await homes.close(a, b, "2026-10")
        assert await overdue() == 0
        age = (await scrape(monitor)).value("channel_checkpoint_age_seconds")
        assert age == pytest.approx(ended)
        late = [Draft("late", "tokens", "s1", 9, builders.OCTOBER_US + 5)]
        await a.channel.emit(late)  # it counts in November
        november = a.channel.own.folder.calendar.parse("2026-11").end_us / 1e6
        assert await overdue() == pytest.approx(a.now_us / 1e6 - november - grace)


async def test_disputes_and_their_deadlines(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        ours, theirs = monitor_of(a), monitor_of(b)
        await _use(a, b)
        await homes.exchange(a, b)
        await homes.close(a, b, "2026-10")
        assert (await scrape(ours)).value("channel_disputes_open", waits_for="us") == 0
        record = Dispute("2026-10", "tokens", "s1", 100, "quantity", "too much", (), 0)
        await disputing.say(b.channel, record)
        # Not co-signed yet: it waits, and nobody knows until when.
        early = await scrape(theirs)
        assert early.value("channel_disputes_open", waits_for="peer") == 1
        assert early.all("channel_dispute_deadline_seconds") == []
        await homes.exchange(a, b)
        for monitor, who in ((ours, "us"), (theirs, "peer")):
            found = await scrape(monitor)
            assert found.value("channel_disputes_open", waits_for=who) == 1
            left = found.value("channel_dispute_deadline_seconds", waits_for=who)
            assert left == pytest.approx(a.channel.terms.answer_seconds, abs=2)


async def test_evidence_is_counted_by_channel(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        number = a.channel.row.number
        for digest in (b"1" * 32, b"2" * 32):
            key = evidence_key(number, digest)
            await a.books.store.commit(lambda txn, key=key: txn.put("evidence", key, b"x"))  # type: ignore[misc]
        elsewhere = evidence_key(number + 1, b"3" * 32)
        await a.books.store.commit(lambda txn: txn.put("evidence", elsewhere, b"x"))
        assert (await scrape(monitor_of(a))).value("channel_evidence") == 2


def _with_channels(side: Side, limit: int) -> None:
    config = msgspec.structs.replace(side.books.config, metrics=Metrics(channels=limit))
    side.books.config = config


async def test_many_channels_give_one_value_over_all(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _use(a, b)
        _with_channels(a, 0)
        (key, opened), *_ = a.books.channels.items()
        row = a.books.founding.rows[key]
        for number in range(9):  # the same channel under other ids: only its numbers count here
            other = bytes([number]) * 32
            a.books.channels[other] = opened
            a.books.founding.rows[other] = row
        found = await scrape(monitor_of(a))
        assert found.labels("channel_lag_records") == [{"channel": "", "peer": ""}]
        assert found.value("channel_lag_records") == 50  # a sum
        assert 0 < found.value("channel_lag_seconds") < 60  # the greatest
        assert found.value("channel_state", state="open") == 10
        assert found.value("channels", state="open") == 10
        assert found.value("channel_batch_records_count", log="own") == 20
        series = [s for s in found.samples if s.name.startswith("tallystick_")]
        assert len(series) == len({(s.name, *sorted(s.labels.items())) for s in series})
        for other in list(a.books.channels):
            if other != key:
                del a.books.channels[other]


def test_channels_that_begin_alike_get_longer_names() -> None:
    ids = [b"\1" * 32, b"\1" * 4 + b"\2" * 28, b"\3" * 32]
    assert sorted(short_names(ids).values()) == ["01010101" * 2, "0101010102020202", "03" * 4]


async def test_a_channel_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        del a.channel.doubt
        found = await scrape(monitor)
        assert found.value("metrics_problems_total") == 1
        assert found.value("channels", state="open") == 1
        a.channel.doubt = 0


async def test_others_can_have_their_values_read(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        level = next(metric for metric in METRICS if metric.name == "log_lines_total")
        monitor.watch(level, lambda: {("debug",): 7.0})
        assert (await scrape(monitor)).value("log_lines_total", level="debug") == 7
        monitor.watch(level, lambda: {("debug",): 1 / 0})
        found = await scrape(monitor)
        assert found.value("metrics_problems_total") == 1
        assert found.value("log_lines_total", level="debug") == 7
        with pytest.raises(AssertionError):
            monitor.watch(Metric("new", "gauge", "Not in the list."), dict)


async def test_a_scrape_holds_up_nobody(tmp_path: Path) -> None:
    """Values are read in another thread, and the loop has its turns while they are."""
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        level = next(metric for metric in METRICS if metric.name == "log_lines_total")
        threads: list[int] = []

        def read() -> dict[tuple[str, ...], float]:
            threads.append(threading.get_ident())
            trio.from_thread.run(trio.lowlevel.checkpoint)  # the loop runs meanwhile
            return {}

        monitor.watch(level, read)
        with trio.fail_after(30):
            await scrape(monitor)
        assert threads and threading.get_ident() not in threads


async def test_channels_are_looked_at_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with homes.founded(tmp_path) as (a, _):
        monitor = monitor_of(a)
        (opened,) = a.books.channels.values()
        others = {bytes([n]) * 32: opened for n in range(60)}
        a.books.channels.update(others)
        order: list[str] = []
        monkeypatch.setattr(Following, "look", lambda *_: order.append("channel"))

        async def somebody_else() -> None:
            while True:
                order.append("else")
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(somebody_else)
            await scrape(monitor)
            nursery.cancel_scope.cancel()
        for key in others:
            del a.books.channels[key]
        longest = max(len(list(run)) for who, run in groupby(order) if who == "channel")
        assert order.count("channel") == 61
        assert longest <= 2 * CHANNELS_A_TURN  # trio shuffles who goes first in a turn


async def test_two_scrapes_at_once(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _use(a, b)
        monitor = monitor_of(a)
        found: list[Scrape] = []

        async def one() -> None:
            found.append(await scrape(monitor))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
            await _use(a, b, 50)
        assert len(found) == 8
        assert all(one.value("metrics_problems_total") == 0 for one in found)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _use(a, b)
        await homes.exchange(a, b)
        await homes.close(a, b, "2026-10")
        monitor = monitor_of(a)
        monitor.http.count("GET", "/v1/status", 200, 0.01)
        text = (await scrape(monitor)).text
    done = await trio.run_process(
        ["promtool", "check", "metrics"], stdin=text.encode(), capture_stdout=True,
        capture_stderr=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_every_metric_has_values(tmp_path: Path) -> None:
    """So that none is in the list, in the documentation, and nowhere else."""
    async with homes.founded(tmp_path) as (a, b):
        await _use(a, b)
        await homes.exchange(a, b)
        await homes.close(a, b, "2026-10")
        record = Dispute("2026-10", "tokens", "s1", 100, "quantity", "too much", (), 0)
        await disputing.say(b.channel, record)
        await homes.exchange(a, b)
        monitor = monitor_of(a)
        monitor.http.count("GET", "/v1/status", 200, 0.01)
        watch_outgoing(monitor)
        found = await scrape(monitor)
    assert found.value("webhook_endpoints") == 0
    given = {sample.name for sample in found.samples}
    names = [m.full_name + ("_count" if m.kind == "histogram" else "") for m in METRICS]
    missing = set(names) - given
    # Two running nodes show the others, in `test_over_http.py` and `witnessing/test_live.py`.
    elsewhere = ("tallystick_peer_", "tallystick_witness")
    assert [name for name in missing if not name.startswith(elsewhere)] == []
    assert len(missing) == 3 + 7
