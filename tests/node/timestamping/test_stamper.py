"""The task that has checkpoints stamped, with real stores and a real authority over HTTP."""

from __future__ import annotations

import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import builders
import homes
import msgspec
import pytest
import trio
import trio.testing
from authorities import Asked, Authority, honest, served
from stamping import Maker, Stamp

from tallystick.node import proving, queries
from tallystick.node.books import Books
from tallystick.node.config import TimestampsConfig
from tallystick.node.doctor.child import examine_apart
from tallystick.node.importing.drafts import Draft
from tallystick.node.statement.making import make_statement
from tallystick.node.timestamping.kept import put_timestamp, timestamp_of
from tallystick.node.timestamping.stamper import Stamper
from tallystick.protocol.extras import Trust
from tallystick.protocol.timestamps import parse_trusted
from tallystick.protocol.verify import verify_bundle


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def stamper_of(side: homes.Side, url: str, root: Path, **more: Any) -> Stamper:
    settings = {"first_retry_seconds": 0.01, "per_minute": 6000} | more
    config = TimestampsConfig(url=url, certificates=str(root), **settings)
    side.books.config = msgspec.structs.replace(side.books.config, timestamps=config)
    return Stamper(side.books, side.home.path)


@asynccontextmanager
async def running(stamper: Stamper) -> AsyncIterator[Stamper]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stamper.run)
        yield stamper
        nursery.cancel_scope.cancel()


async def until(condition: Any) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.01)


async def close_month(a: homes.Side, b: homes.Side, month: int = 0) -> None:
    at = (builders.OCTOBER_US, builders.NOVEMBER_US)[month]
    for side in (a, b):
        await side.channel.emit([Draft(f"m{month}", "tokens", "s", 5, at)])
    await homes.close(a, b, ("2026-10", "2026-11")[month])


def bundle_of(side: homes.Side, *, plain: bool = False) -> bytes:
    out = io.BytesIO()
    proving.bundle(side.channel, side.closer.rows[-1], out, full=True, plain=plain)
    return out.getvalue()


async def test_a_closed_period_is_stamped_and_its_bundle_proves_it(
    tmp_path: Path, authority: Authority
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    async with homes.founded(tmp_path) as (a, b):
        a.books.news.on_happened.append(lambda kind, channel, data: told.append((kind, data)))
        with served(honest(authority)) as door:
            async with running(stamper_of(a, door.url, authority.root)) as stamper:
                await close_month(a, b)
                await until(lambda: stamper.kept)
            assert len(door.queries) == 1
        row = a.closer.rows[-1]
        assert authority.verifies(row.note, timestamp_of(a.channel, row))
        assert timestamp_of(b.channel, b.closer.rows[-1]) == b""
        data = bundle_of(a)
        trusted = tuple(parse_trusted(authority.root.read_bytes()))
        checks = verify_bundle(io.BytesIO(data), Trust(None, trusted))
        assert [check for check in checks if not check.ok] == []
        assert (checks[-1].number, checks[-1].name) == (13, "time")
        assert checks[-1].detail.endswith(": trusted")
        assert bundle_of(a, plain=True) == bundle_of(b) == bundle_of(b, plain=True) != data
        statements = [make_statement(one.channel, one.closer, "2026-10") for one in (a, b)]
        assert statements[0].attached == statements[1].attached
        document = queries.checkpoint_document(a.channel, a.closer, "2026-10")
        assert document["timestamp"]["authority"] == "time.example"
        [stamped] = [data for kind, data in told if kind == "checkpoint.timestamped"]
        assert stamped["time"] == document["timestamp"]["time"]
        assert (stamper.waiting, stamper.problem, stamper.failed) == (0, "", 0)


async def test_an_authority_that_hangs_holds_nothing_up(
    tmp_path: Path, authority: Authority
) -> None:
    entered = threading.Event()

    def hang(asked: Asked) -> None:
        entered.set()
        asked.server.stopping.wait(60)

    async with homes.founded(tmp_path) as (a, b):
        with served(hang) as door:
            async with running(stamper_of(a, door.url, authority.root)) as stamper:
                await close_month(a, b)
                await until(entered.is_set)
                await close_month(a, b, 1)
                assert len(a.closer.rows) == 2
                assert stamper.kept == 0
            door.stopping.set()


async def test_what_failed_is_asked_for_again_and_said_once(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        with served(lambda asked: asked.say(b"", 503)) as door:
            async with running(stamper_of(a, door.url, authority.root)) as stamper:
                await close_month(a, b)
                await until(lambda: stamper.failed >= 3)
                assert (stamper.waiting, stamper.problem) == (1, "it answers 503")
                door.answer = honest(authority)
                await until(lambda: stamper.kept)
                assert (stamper.waiting, stamper.problem) == (0, "")
    lines = [one for one in caplog.records if "could not be stamped" in one.message]
    assert len(lines) == 1


async def test_who_starts_asks_for_what_has_none_the_newest_first(
    tmp_path: Path, authority: Authority
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await close_month(a, b)
        await close_month(a, b, 1)
        october, november = a.closer.rows
        with served(honest(authority)) as door:
            async with running(stamper_of(a, door.url, authority.root)) as stamper:
                await until(lambda: stamper.kept == 1)
                assert timestamp_of(a.channel, november)
                await until(lambda: stamper.kept == 2)
                assert timestamp_of(a.channel, october)
            async with running(stamper_of(a, door.url, authority.root)) as again:
                await trio.testing.wait_all_tasks_blocked()
                assert again.waiting == 0
            assert len(door.queries) == 2


async def test_a_timestamp_of_another_note_does_not_get_into_a_bundle(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await close_month(a, b)
        row = a.closer.rows[-1]
        wrong = Maker().response(Stamp(b"another note"))
        number = a.channel.row.number
        await a.books.store.commit(lambda txn: put_timestamp(txn, number, row.digest, wrong))
        assert timestamp_of(a.channel, row) == b""
        assert bundle_of(a) == bundle_of(b)
        home = a.home
    bad = [
        one for one in examine_apart(home.store_path, home.path / "ids", home.name) if not one.ok
    ]
    assert [one.name.partition(": ")[2] for one in bad] == ["timestamps"]
    assert "of something else" in str(bad[0])


async def test_the_doctor_knows_timestamps_that_fit(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await close_month(a, b)
        row = a.closer.rows[-1]
        good = Maker().response(Stamp(row.note))
        number = a.channel.row.number
        await a.books.store.commit(lambda txn: put_timestamp(txn, number, row.digest, good))
        home = a.home
    checks = examine_apart(home.store_path, home.path / "ids", home.name)
    assert [one.name for one in checks if not one.ok] == []
    assert any("timestamps" in one.name for one in checks)
    books = Books.open(home, read_only=True)
    [(channel, closer)] = books.channels.values()
    assert timestamp_of(channel, closer.rows[-1]) == good
    books.close()


async def test_without_an_authority_nothing_is_asked_and_nothing_waits(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        stamper = Stamper(a.books, a.home.path)
        await stamper.run()
        await close_month(a, b)
        assert (stamper.document(), stamper.waiting) == (None, 0)
