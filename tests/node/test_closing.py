"""What a peer's proposal of a checkpoint may not bring about, however well it is computed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import builders
import homes
import msgspec
import pytest
import trio

from tallystick.node import queries
from tallystick.node.balances import Closing
from tallystick.node.closing import Closer
from tallystick.node.doctor.child import examine_apart
from tallystick.node.importing.drafts import Draft
from tallystick.node.upkeep import flush
from tallystick.protocol.checkpoint import checkpoint_note
from tallystick.protocol.errors import InputError
from tallystick.protocol.messages import Message, RefuseCheckpoint, SignCheckpoint
from tallystick.protocol.records import Close
from tallystick.protocol.verdict import Verdict, verdict_digest


async def _answer(a: homes.Side, b: homes.Side, label: str, sizes: tuple[int, int]) -> Message:
    """What b says to a proposal of a's at these sizes of both logs."""
    await b.channel.store.commit(lambda txn: None)
    closing = a.closer._compute(a.closer._calendar.parse(label), sizes)
    proposal = a.closer._message(closing, early=True)
    said: list[Message] = []
    b.closer.arrived(proposal)
    await b.closer.handle(proposal, said.append)
    return said[0]


async def _emit(a: homes.Side, b: homes.Side, *ids: str) -> int:
    drafts = [Draft(name, "tokens", "s", 5, builders.OCTOBER_US) for name in ids]
    await a.channel.emit_paused(drafts)
    await homes.exchange(a, b)
    return a.channel.own.cosigned_size


async def test_a_head_that_nobody_signed_is_not_closed_on(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        size = await _emit(a, b, "one", "two", "three")
        other = a.channel.peer.cosigned_size
        assert isinstance(await _answer(a, b, "2026-10", (size - 1, other)), RefuseCheckpoint)
        assert not b.closer.rows
        assert isinstance(await _answer(a, b, "2026-10", (size, other)), SignCheckpoint)


@pytest.mark.parametrize("back", ["provider", "consumer"])
async def test_what_was_billed_is_not_taken_back(tmp_path: Path, back: str) -> None:
    async with homes.founded(tmp_path) as (a, b):
        before = (await _emit(a, b, "one"), a.channel.peer.cosigned_size)
        await _emit(b, a, "of the other")
        after = (await _emit(a, b, "two"), a.channel.peer.cosigned_size)
        await homes.close(a, b, "2026-10")
        sizes = (before[0], after[1]) if back == "provider" else (after[0], before[1])
        assert isinstance(await _answer(a, b, "2026-11", sizes), RefuseCheckpoint)
        assert len(b.closer.rows) == 1


async def test_what_the_proposer_has_co_signed_is_not_left_out(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        early = await _emit(a, b, "one")
        late = await _emit(a, b, "two")
        size = b.channel.own.cosigned_size
        assert isinstance(await _answer(b, a, "2026-10", (early, size)), RefuseCheckpoint)
        assert isinstance(await _answer(b, a, "2026-10", (late, size)), SignCheckpoint)


async def test_of_two_closings_of_one_period_at_once_one_is_kept(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        closer, other = a.closer, a.channel.peer.cosigned_size
        period = closer._calendar.parse("2026-10")
        both = [
            closer._compute(period, (await _emit(a, b, name), other)) for name in ("one", "two")
        ]

        async def keep(closing: Closing) -> None:
            with suppress(InputError):
                await closer._complete(closing, [closer._sign(closing.checkpoint)])

        async with trio.open_nursery() as nursery:
            for closing in both:
                nursery.start_soon(keep, closing)
        assert len(closer.rows) == 1


async def test_of_two_proposals_that_cross_one_is_signed(tmp_path: Path) -> None:
    """The provider is about to propose when it signs what the consumer proposed."""
    async with homes.founded(tmp_path) as (a, b):
        sizes = (await _emit(a, b, "one"), a.channel.peer.cosigned_size)
        await b.channel.store.commit(lambda txn: None)
        theirs = b.closer._message(
            b.closer._compute(b.closer._calendar.parse("2026-10"), sizes), True
        )
        said: list[Message] = []
        refused: list[InputError] = []

        async def close() -> None:
            try:
                await a.closer.close("2026-10", force=True, send=said.append)
            except InputError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery, a.closer._completing:
            nursery.start_soon(close)
            await _waiting(a.closer, 1)  # for the lock that we hold
            closing = a.closer._compute(a.closer._calendar.parse("2026-10"), sizes)
            nursery.start_soon(a.closer._complete, closing, [a.closer._sign(closing.checkpoint)])
            await _waiting(a.closer, 2)
        assert said == [] and "under way" in refused[0].message
        a.closer.arrived(theirs)
        await a.closer.handle(theirs, said.append)
        assert isinstance(said[0], SignCheckpoint) and len(a.closer.rows) == 1


async def _waiting(closer: Closer, count: int) -> None:
    """Return when so many tasks wait to complete a closing, or for the end of one."""
    while closer._completing.statistics().tasks_waiting < count:
        await trio.sleep(0.001)


async def test_a_closing_is_said_once_whoever_says_it(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await _emit(a, b, "one")
        sizes = (a.channel.own.cosigned_size, a.channel.peer.cosigned_size)
        closing = a.closer._compute(a.closer._calendar.parse("2026-10"), sizes)
        signed = [side.closer._sign(closing.checkpoint) for side in (a, b)]
        await a.closer._complete(closing, signed)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(a.closer.append_close)
        assert len(a.channel.own.closes()) == 1
        assert a.channel.own.durable_size == sizes[0] + 1


async def test_a_verdict_that_differs_is_named_by_its_meter(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        sizes = (await _emit(a, b, "one"), a.channel.peer.cosigned_size)
        closing = a.closer._compute(a.closer._calendar.parse("2026-10"), sizes)
        rows = list(closing.verdict.meters)
        rows[2] = msgspec.structs.replace(rows[2], provider="9", result="declared by one")
        assert await _refusal(a, b, closing, Verdict("2026-10", tuple(rows))) == (
            "the verdict on peak differs: here not declared (declared nothing and nothing, payable"
            " 0, disputed 0); proposed declared by one (declared 9 and nothing, payable 0,"
            " disputed 0)"
        )
        assert await _refusal(a, b, closing, None) == "the checkpoint has no verdict"
        assert not b.closer.rows


async def _refusal(a: homes.Side, b: homes.Side, closing: Closing, verdict: Verdict | None) -> str:
    """What b says to a's proposal with another verdict, or none, that a signed."""
    digest = verdict_digest(verdict) if verdict else b""
    checkpoint = replace(closing.checkpoint, verdict=digest)
    proposal = a.closer._message(
        Closing(checkpoint, closing.lines, verdict or closing.verdict), early=True
    )
    said: list[Message] = []
    b.closer.arrived(proposal)
    await b.closer.handle(proposal, said.append)
    assert isinstance(said[0], RefuseCheckpoint)
    return said[0].reason


async def test_what_was_closed_before_there_were_verdicts_is_taken_and_followed(
    tmp_path: Path,
) -> None:
    """As a home learns of it that lost its rows: from the peer's log."""
    async with homes.founded(tmp_path) as (a, b):
        sizes = (await _emit(a, b, "one"), a.channel.peer.cosigned_size)
        closing = a.closer._compute(a.closer._calendar.parse("2026-10"), sizes)
        older = replace(closing.checkpoint, verdict=b"")
        note = checkpoint_note(older, [a.closer._sign(older), b.closer._sign(older)])
        await a.channel.append_own(Close(note, a.channel.now_recorded_at()))
        await homes.exchange(a, b)
        for side in (a, b):
            await side.closer.catch_up()
            assert side.closer.last is not None
            assert (side.closer.last.note, side.closer.last.verdict) == (note, b"")
            document = queries.checkpoint_document(side.channel, side.closer, "2026-10")
            assert document["verdict"] is None
            status = queries.derive(side.channel, side.closer)["lines"][0]["status"]
            assert status == "checkpointed"
        await homes.close(a, b, "2026-11")
        assert len(b.closer.rows) == 2 and b.closer.rows[1].verdict
        for side in (a, b):
            await flush([side.channel.own, side.channel.peer])
    checks = examine_apart(b.home.store_path, b.home.path / "ids", b.home.name)
    assert [check for check in checks if not check.ok] == []
