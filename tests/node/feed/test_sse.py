"""The stream of server-sent events: frames, resuming, quiet times, and readers that fall behind."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import builders
import homes
import pytest
import trio
from feeding import fed, told
from homes import Side

from tallystick.node.feed import feed as feed_module
from tallystick.node.feed.rows import prune
from tallystick.node.feed.sse import sse
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.disk import Txn


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PAUSE_SECONDS", 0.01)


async def _emit(a: Side, b: Side, name: str) -> None:
    await a.channel.emit([Draft(name, "tokens", "s1", 1, builders.OCTOBER_US)])
    await homes.exchange(a, b)


async def _frames(stream: AsyncGenerator[bytes, None], count: int) -> list[dict[str, Any]]:
    """The next events, each with the frame's id; comments and retry times are left out."""
    found: list[dict[str, Any]] = []
    async for frame in stream:
        fields = dict(line.split(": ", 1) for line in frame.decode().splitlines() if ": " in line)
        if "data" in fields:
            document = json.loads(fields["data"])
            assert fields["event"] == document.get("kind", "feed.gap")
            found.append({**document, "id": fields.get("id")})
        if len(found) == count:
            break
    return found


async def test_a_reader_gets_what_was_and_what_comes_and_resumes(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        await _emit(a, b, "t1")
        await told(feed)
        first = feed.last
        with trio.fail_after(60):
            async with aclosing(sse(feed, first, kinds={"delta.cosigned"})) as stream:
                await _emit(a, b, "t2")
                (one,) = await _frames(stream, 1)
                await _emit(a, b, "t3")
                (two,) = await _frames(stream, 1)
            assert [e["data"]["to"] for e in (one, two)] == [3, 4]
            async with aclosing(sse(feed, int(one["id"]), a.channel.id)) as stream:
                assert await _frames(stream, 1) == [two]
            async with aclosing(sse(feed, None)) as stream:
                assert await anext(stream) == b"retry: 2000\n\n"
                await _emit(a, b, "t4")
                (new,) = await _frames(stream, 1)
                assert new["cursor"] > two["cursor"]


async def test_quiet_times_have_comments_and_skipped_events_move_the_cursor(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        await told(feed)
        with trio.fail_after(60):
            stream = sse(feed, feed.last, kinds={"evidence.found"}, heartbeat_seconds=0.05)
            async with aclosing(stream):
                assert (await anext(stream)).startswith(b"retry")
                while await anext(stream) != b": still here\n\n":
                    pass  # what was written down just now moves the cursor
                await _emit(a, b, "t1")
                while not (frame := await anext(stream)).startswith(b"id"):
                    pass
                assert frame == b"id: %d\n: \n\n" % feed.last


async def test_who_falls_too_far_behind_is_told_so_and_let_go(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        await _emit(a, b, "t1")
        await told(feed)
        with trio.fail_after(60):
            async with aclosing(sse(feed, feed._state.first - 1)) as stream:
                await anext(stream)
                await _emit(a, b, "t2")
                await told(feed)

                def drop(txn: Txn) -> None:
                    prune(txn, feed._state, 2**62, 1000)

                await a.books.store.commit(drop)
                (gap,) = await _frames(stream, 1)
                assert "not kept any more" in gap["said"]
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)


async def test_who_may_not_read_any_more_gets_nothing(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), fed(a) as (feed,):
        await told(feed)
        allowed = [True]
        with trio.fail_after(60):
            stream = sse(feed, feed.last, kinds={"delta.cosigned"}, may=lambda: allowed[0])
            async with aclosing(stream):
                await _emit(a, b, "t1")
                assert len(await _frames(stream, 1)) == 1
                allowed.clear()
                allowed.append(False)
                await _emit(a, b, "t2")
                assert await _frames(stream, 1) == []
