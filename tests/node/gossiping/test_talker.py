"""What the gossip of a node listens for, as weeks go by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import homes
import pytest
import trio
from trio.testing import MockClock

from tallystick.node.channel import Channel
from tallystick.node.gossiping.judging import Judge
from tallystick.node.gossiping.presences import Presences
from tallystick.node.gossiping.talker import Talker
from tallystick.protocol.blinding import OpenedPresence

DAY_US = 86_400_000_000
RATE = 20_000
PATIENCE_SECONDS = 30 * RATE


async def test_what_is_past_is_not_listened_for_any_more(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with homes.founded(tmp_path) as (acme, beta):
        acme.books.peers[beta.books.identity.name] = homes.peer_of(beta.books.identity)

        async def nothing(channel: Channel, reason: str = "") -> None:
            raise AssertionError("nothing was shown")

        async def alone(other: OpenedPresence) -> None:
            raise AssertionError("there is no other")

        presences = Presences(acme.books, Random(1))
        judge = Judge(acme.books, nothing, nothing)
        talker = Talker(acme.books, presences, judge, {}, alone, Random(3))
        watched: set[bytes] = set()
        watch, unwatch = talker.engine.watch, talker.engine.unwatch

        def added(pseudonyms: Iterable[bytes]) -> object:
            watched.update(pseudonyms)
            return watch(pseudonyms)

        def removed(pseudonyms: Iterable[bytes]) -> None:
            watched.difference_update(pseudonyms)
            unwatch(pseudonyms)

        monkeypatch.setattr(talker.engine, "watch", added)
        monkeypatch.setattr(talker.engine, "unwatch", removed)
        talker.attend(acme.channel.id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talker.run)
            mock_clock.rate = RATE
            with trio.fail_after(PATIENCE_SECONDS):
                while len(watched) <= len(presences.pseudonyms()):  # with those of the channel
                    await trio.sleep(60)
            for _ in range(35):
                acme.now_us += DAY_US
                await trio.sleep(2 * 3600)
            # Of a channel two a week, of three weeks at most, and of us one a week.
            with trio.fail_after(PATIENCE_SECONDS):
                while len(watched) > 3 * 3:
                    await trio.sleep(600)
            nursery.cancel_scope.cancel()
