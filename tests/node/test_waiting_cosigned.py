"""Waiting for a co-signature, also for several at once."""

from __future__ import annotations

from pathlib import Path

import builders
import homes
import trio
import trio.testing

from tallystick.node.importing.drafts import Draft


async def test_many_may_wait_for_one_cosignature(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b), trio.open_nursery() as nursery:
        await a.channel.emit([Draft("t1", "tokens", "s1", 1, builders.OCTOBER_US)])
        for _ in range(3):
            nursery.start_soon(a.channel.wait_cosigned, 2)
        await trio.testing.wait_all_tasks_blocked()
        await homes.exchange(a, b)
