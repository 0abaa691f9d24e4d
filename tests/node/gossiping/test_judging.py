"""What becomes of a head that gossip shows, on two parties' real logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import homes
import pytest

from tallystick.node import accusing
from tallystick.node.channel import Channel
from tallystick.node.gossiping.judging import Judge, forget_shown, lacking, shown
from tallystick.node.importing.drafts import Draft
from tallystick.node.logs import ChannelLog
from tallystick.node.recovery import begin_epoch, may_sign_now
from tallystick.protocol.blinding import OpenedHead
from tallystick.protocol.evidence import parse_evidence, verify_evidence
from tallystick.protocol.heads import cosign_head, sign_head
from tallystick.protocol.keys import Identity


@dataclass
class Bench:
    """Acme, who judges, and beta; what acme's node was asked to do."""

    acme: homes.Side
    beta: homes.Side
    judge: Judge = field(init=False)
    back: list[bytes] = field(default_factory=list)
    convicted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.judge = Judge(self.acme.books, self._back, self._convicted)

    async def _back(self, channel: Channel) -> None:
        self.back.append(channel.id)

    async def _convicted(self, channel: Channel, reason: str) -> None:
        self.convicted.append(reason)

    async def emit(self, side: homes.Side, count: int) -> None:
        """Record deltas of a side, and co-sign both logs."""
        first = side.channel.own.state.size
        drafts = [Draft(f"d-{first + n}", "tokens", "s", 1, 1) for n in range(count)]
        result = await side.channel.emit(drafts)
        assert not result.problems
        await homes.exchange(self.acme, self.beta)

    async def say(self, log: ChannelLog, opened: OpenedHead) -> str:
        return await self.judge.judge(self.acme.channel, log, opened)


@asynccontextmanager
async def _bench(folder: Path) -> AsyncIterator[Bench]:
    async with homes.founded(folder) as (acme, beta):
        bench = Bench(acme, beta)
        await bench.emit(acme, 3)
        await bench.emit(beta, 3)
        yield bench


def _made(
    log: ChannelLog, size: int, root: bytes, author: Identity, cosigner: Identity | None
) -> OpenedHead:
    """A head with real signatures of these parties."""
    head = log.head(size, root)
    cosignature = b"" if cosigner is None else cosign_head(head, cosigner.cosigner, 1_800_000_000)
    return OpenedHead(size, root, sign_head(head, author.log), cosignature)


def _stored(log: ChannelLog, size: int) -> OpenedHead:
    with log.store.read() as txn:
        row = log.head_row(txn, size)
    assert row is not None
    return OpenedHead(size, row.root, row.signature, row.cosignature)


async def test_heads_that_are_here_and_a_log_that_is_longer_elsewhere(tmp_path: Path) -> None:
    async with _bench(tmp_path) as bench:
        own, peer = bench.acme.channel.own, bench.acme.channel.peer
        for log in (own, peer):
            assert await bench.say(log, _stored(log, log.cosigned_size)) == "held"
        longer = _made(peer, 9, bytes(32), bench.beta.books.identity, None)
        assert await bench.say(peer, longer) == "behind"
        assert not bench.back
        assert not bench.convicted
        assert lacking(bench.acme.channel) is None


async def test_what_nobody_signed_is_nothing(tmp_path: Path) -> None:
    async with _bench(tmp_path) as bench:
        own, peer = bench.acme.channel.own, bench.acme.channel.peer
        acme, beta = (side.books.identity for side in (bench.acme, bench.beta))
        for log, author in ((own, beta), (peer, acme)):  # each by the other's key
            for size in (2, 9):
                assert await bench.say(log, _made(log, size, bytes(32), author, None)) == "unknown"
        forged = replace(_stored(own, own.cosigned_size), root=bytes(32))
        assert await bench.say(own, forged) == "unknown"
        assert await bench.say(own, OpenedHead(0, bytes(32), bytes(64), b"")) == "held"
        assert not bench.back
        assert not accusing.kept(bench.acme.channel)


@pytest.mark.parametrize("whose", ["own", "peer"])
async def test_more_than_is_here_by_our_own_hand_says_that_we_went_back(
    tmp_path: Path, whose: str
) -> None:
    async with _bench(tmp_path) as bench:
        channel = bench.acme.channel
        acme, beta = (side.books.identity for side in (bench.acme, bench.beta))
        log = channel.own if whose == "own" else channel.peer
        author, cosigner = (acme, beta) if whose == "own" else (beta, acme)
        size = log.durable_size + 2
        ahead = _made(log, size, b"\1" * 32, author, cosigner)
        assert await bench.say(log, ahead) == "rollback"
        assert await bench.say(log, ahead) == "rollback"
        assert bench.back == [channel.id]  # asked once
        kept = shown(channel, log)
        assert kept is not None
        assert kept.size == size
        # What is recorded now, and never was signed, does not stand for what was shown.
        channel.part()
        await channel.emit([Draft(f"later-{n}", "tokens", "s", 1, 1) for n in range(5)])
        assert channel.own.state.size > max(size, channel.signed_size)
        # Without what was shown, being certain and a certain peer are not enough to sign.
        assert may_sign_now(channel, 0) == (whose == "peer")
        for doubt, theirs, may in ((1, 0, False), (2, 0, False), (2, 2, True)):
            channel.doubt = doubt
            assert may_sign_now(channel, theirs) == (may or whose == "peer")
        await forget_shown(channel)
        assert shown(channel, log) is None


async def test_what_was_shown_comes_back_and_is_forgotten(tmp_path: Path) -> None:
    async with _bench(tmp_path) as bench:
        channel, own = bench.acme.channel, bench.acme.channel.own
        size = own.durable_size
        await bench.emit(bench.acme, 2)
        later = _stored(own, own.cosigned_size)
        # As if the last two records were not here yet.
        own.signed_size, own.durable_size, real = size, size, own.durable_size
        assert await bench.say(own, later) == "rollback"
        await bench.judge.look_again(channel)
        assert shown(channel, own) is not None
        own.signed_size = own.durable_size = real
        await bench.judge.look_again(channel)
        assert shown(channel, own) is None
        assert not bench.convicted


@pytest.mark.parametrize("whose", ["own", "peer"])
async def test_another_history_convicts_whoever_signed_both(tmp_path: Path, whose: str) -> None:
    async with _bench(tmp_path) as bench:
        channel = bench.acme.channel
        acme, beta = (side.books.identity for side in (bench.acme, bench.beta))
        log = channel.own if whose == "own" else channel.peer
        author, cosigner = (acme, beta) if whose == "own" else (beta, acme)
        other = _made(log, log.durable_size - 1, b"\2" * 32, author, cosigner)
        assert await bench.say(log, other) == "evidence"
        found = accusing.kept(channel)
        accused = {(one.evidence.accused.party, one.evidence.accused.part) for one in found}
        assert accused == {(author.name, "author"), (cosigner.name, "co-signer")}
        for one in found:
            assert all(check.ok for check in verify_evidence(one.data))
            assert parse_evidence(one.data).accused.channel_id == channel.id
            assert one.name in bench.convicted[0]


async def test_after_an_agreed_loss_nothing_is_judged(tmp_path: Path) -> None:
    async with _bench(tmp_path) as bench:
        channel, own = bench.acme.channel, bench.acme.channel.own
        acme, beta = (side.books.identity for side in (bench.acme, bench.beta))
        lost = _made(own, 40, b"\3" * 32, acme, beta)
        assert await bench.say(own, lost) == "rollback"
        channel.doubt = 2
        await begin_epoch(channel)
        assert lacking(channel) is None
        assert await bench.say(own, lost) == "lost"
        assert await bench.say(own, _made(own, 2, b"\3" * 32, acme, beta)) == "lost"
        assert not bench.convicted
