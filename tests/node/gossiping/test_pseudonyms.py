"""Which pseudonyms a node listens to: those of its channels and of itself, as the weeks go by."""

from __future__ import annotations

from pathlib import Path
from random import Random

import homes

from tallystick.node.gossiping.presences import Presences
from tallystick.node.gossiping.pseudonyms import Pseudonyms
from tallystick.protocol.blinding import EPOCH_SECONDS

DAY_US = 86_400 * 1_000_000
WEEK_US = EPOCH_SECONDS * 1_000_000


async def test_a_channels_pseudonyms_are_learnt_once_and_change_with_the_week(
    tmp_path: Path,
) -> None:
    async with homes.founded(tmp_path) as (acme, beta):
        for side, other in ((acme, beta), (beta, acme)):
            peer = homes.peer_of(other.books.identity)
            side.books.peers[peer.name] = peer
        ours, theirs = Pseudonyms(acme.books), Pseudonyms(beta.books)
        channel = acme.channel.id
        known: set[bytes] = set()
        learnt = 0
        for _ in range(3 * 7):  # days
            fresh, past = ours.learn(channel)
            assert not known & set(fresh)
            assert set(past) <= known
            known = (known | set(fresh)) - set(past)
            learnt += len(fresh)
            assert len(known) in (4, 6)  # both logs, for two weeks or three
            assert ours.learn(channel) == ([], [])
            publishing = ours.publishing(channel)
            assert publishing is not None
            assert ours.veil(publishing).pseudonym in known
            assert all(ours.behind(one) is not None for one in known)
            assert not any(ours.behind(one) for one in past)
            # The peer listens to the same, and takes ours for the other side's.
            beta.now_us = acme.now_us
            theirs.learn(channel)
            for one in known:
                here, there = ours.behind(one), theirs.behind(one)
                assert here is not None
                assert there is not None
                assert (here.ours, here.epoch) == (not there.ours, there.epoch)
            acme.now_us += DAY_US
        assert learnt > 4


async def test_our_own_presence_is_listened_for_under_each_weeks_pseudonym(tmp_path: Path) -> None:
    async with homes.alone(tmp_path) as side:
        presences = Presences(side.books, Random(1))
        fresh, past = presences.learn()
        assert fresh == set(presences.pseudonyms())
        assert not past
        assert presences.learn() == (set(), set())
        side.now_us += 3 * WEEK_US
        later, over = presences.learn()
        assert later == set(presences.pseudonyms())
        assert over == fresh
