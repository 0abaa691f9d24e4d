"""What asking of disputes costs: counted in reads, documents and verified signatures, not in time.

A peer may file tens of thousands. So whoever asks reads what was said a fixed number of times,
however many disputes there are, and what the feed has told makes the next look no longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import builders
import homes
import pytest
from homes import Side

from tallystick.node import attesting, disputing, lapsing, worklist
from tallystick.node.feed.following import Follower, Found
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.disk import Txn
from tallystick.node.store.matters import LogMatters
from tallystick.node.telemetry.following import Following
from tallystick.protocol.records import Dispute

FEW, MANY = 3, 12


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often what is costly was called."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        called = getattr(owner, name)

        def counting(*args: Any, **named: Any) -> Any:
            counts[name] += 1
            return called(*args, **named)

        monkeypatch.setattr(owner, name, counting)

    count(LogMatters, "matters")
    count(worklist, "_document")
    count(attesting, "verify_head_cosignature")
    attesting._holds.cache_clear()
    return counts


async def _usage(a: Side, b: Side, name: str) -> None:
    await a.channel.emit([Draft(name, "tokens", "s1", 100, builders.OCTOBER_US)])
    await homes.exchange(a, b)


async def _disputed(a: Side, b: Side, amounts: range) -> None:
    """Beta disputes these amounts, and Acme co-signed that; both have it."""
    for amount in amounts:
        said = Dispute("2026-10", "tokens", "s1", amount, "quantity", "not ours", (), 0)
        await disputing.say(b.channel, said)
    await homes.exchange(a, b)


async def _written(side: Side, found: Found) -> None:
    def job(txn: Txn) -> None:
        for table, key, value in found.puts:
            txn.put(table, key, value)

    await side.books.store.commit(job)


def _look(side: Side) -> Found:
    return Follower(side.books, lambda channel: True, 0, 0).look(side.channel.id)


ASKED: dict[str, Callable[[Side], object]] = {
    "the feed": _look,
    "a scrape": lambda side: Following().look(side.channel, side.closer),
    "the work list": lambda side: worklist.worklist([side.channel], settled=True),
    "what lapses": lambda side: lapsing.dues(side.channel, {}),
    "a name": lambda side: disputing.standing_all(side.channel),
}


@pytest.mark.parametrize("who", ASKED)
async def test_however_many_disputes_there_are_they_are_read_so_often(
    tmp_path: Path, counted: Counter[str], who: str
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _usage(a, b, "t1")
        read = []
        for amounts in (range(1, FEW), range(FEW, MANY)):
            await _disputed(a, b, amounts)
            counted.clear()
            for side in (a, b):
                ASKED[who](side)
            read.append(counted["matters"])
        assert read[0] == read[1] > 0


async def test_a_look_of_the_feed_makes_documents_of_what_it_tells_and_of_nothing_else(
    tmp_path: Path, counted: Counter[str]
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _usage(a, b, "t1")
        await _disputed(a, b, range(1, MANY))
        follower = Follower(a.books, lambda channel: True, 0, 0)
        look = partial(follower.look, a.channel.id)
        await _written(a, look())
        assert counted["_document"] == MANY - 1
        counted.clear()
        await _usage(a, b, "t2")
        await _written(a, look())
        assert not counted
        await _disputed(a, b, range(MANY, MANY + 1))
        counted.clear()
        assert [row.kind for row in look().rows] == ["delta.cosigned", "dispute.opened"]
        assert counted["_document"] == 1


async def test_a_co_signature_is_verified_once_however_many_records_it_covers(
    tmp_path: Path, counted: Counter[str]
) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _usage(a, b, "t1")
        await _disputed(a, b, range(1, MANY))
        counted.clear()
        a.now_us += 365 * builders.DAY_US  # nobody answered
        found = _look(a)
        assert [row.kind for row in found.rows].count("dispute.due") == MANY - 1
        assert counted["_document"] == 2 * (MANY - 1)
        heads = counted["verify_head_cosignature"]
        assert 0 < heads <= MANY - 1
        ASKED["a scrape"](a)
        ASKED["the work list"](a)
        assert counted["verify_head_cosignature"] == heads
