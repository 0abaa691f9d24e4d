"""How sure each number is, at two nodes: the same word at both once they are in sync."""

from __future__ import annotations

from pathlib import Path

import builders
import homes

from tallystick.node import queries
from tallystick.node.importing.drafts import Draft
from tallystick.node.statuses import meter_statuses
from tallystick.protocol.declarations import commitment, totals_of
from tallystick.protocol.records import Declaration, Dispute, Reveal, record_digest

PERIOD = "2026-10"


def statuses(side: homes.Side) -> list[tuple[str, str, str]]:
    lines = queries.derive(side.channel, side.closer)["lines"]
    return [(line["period"], line["meter"], line["status"]) for line in lines]


async def emit(side: homes.Side, id_: str, quantity: int, meter: str = "tokens") -> None:
    await side.channel.emit_paused([Draft(id_, meter, "s", quantity, builders.OCTOBER_US)])


async def declared(side: homes.Side, totals: dict[str, int]) -> Declaration:
    shown = totals_of(side.channel.terms, totals)
    made = commitment(side.channel.terms, side.channel.role, PERIOD, bytes(32), shown)
    record = Declaration(PERIOD, made, side.channel.now_recorded_at())
    await side.channel.append_own(record)
    return record


async def revealed(
    side: homes.Side, own: Declaration, peer: Declaration, totals: dict[str, int]
) -> None:
    shown = totals_of(side.channel.terms, totals)
    at = side.channel.now_recorded_at()
    await side.channel.append_own(
        Reveal(record_digest(own), record_digest(peer), bytes(32), shown, at)
    )


async def test_a_line_climbs_the_rungs_and_both_nodes_say_so(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):

        async def both_say(status: str, meter: str = "tokens") -> None:
            await homes.exchange(a, b)
            for side in (a, b):  # so that co-signatures are on the disk
                await side.books.store.commit(lambda txn: None)
            assert statuses(a) == statuses(b)
            assert (PERIOD, meter, status) in statuses(a)
            assert meter_statuses(a.channel, a.closer, PERIOD, [meter]) == {meter: status}

        await emit(a, "one", 5)
        assert statuses(a) == [(PERIOD, "tokens", "open")]
        await both_say("co-signed")
        before = queries.derive(a.channel, a.closer)["digest"]
        first = await declared(a, {"tokens": 5})
        second = await declared(b, {"tokens": 6})
        await both_say("co-signed")
        await revealed(a, first, second, {"tokens": 5})
        await both_say("declared")
        await revealed(b, second, first, {"tokens": 6})
        await both_say("agreed")  # fewer deltas than the terms judge
        assert queries.derive(a.channel, a.closer)["digest"] == before
        await homes.close(a, b, PERIOD)
        await both_say("checkpointed")
        assert queries.derive(a.channel, a.closer)["digest"] == before
        assert meter_statuses(a.channel, a.closer, PERIOD, ["calls"]) == {"calls": "checkpointed"}
        assert meter_statuses(a.channel, a.closer, "2026-11", ["calls"]) == {"calls": "co-signed"}


async def test_a_correction_or_a_new_delta_opens_its_line_and_no_other(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await emit(a, "one", 5)
        await emit(a, "two", 5, "peak")
        await homes.exchange(a, b)
        await a.correct("one", "tokens", 4)
        assert statuses(a) == [(PERIOD, "peak", "co-signed"), (PERIOD, "tokens", "open")]
        await homes.exchange(a, b)
        await emit(a, "three", 5, "peak")
        assert statuses(a) == [(PERIOD, "peak", "open"), (PERIOD, "tokens", "co-signed")]


async def test_a_dispute_overrides_also_in_a_closed_period(tmp_path: Path) -> None:
    async with homes.founded(tmp_path) as (a, b):
        await emit(a, "one", 5)
        await homes.exchange(a, b)
        at = b.channel.now_recorded_at()
        await b.channel.append_own(
            Dispute(PERIOD, "tokens", "s", 2, "quantity", "ours says less", (), at)
        )
        await homes.exchange(a, b)
        assert statuses(a) == statuses(b) == [(PERIOD, "tokens", "disputed")]
        await homes.close(a, b, PERIOD)
        found = statuses(a)
        assert (PERIOD, "tokens", "disputed") in found
        document = queries.checkpoint_document(a.channel, a.closer, PERIOD)["verdict"]
        row = next(m for m in document["meters"] if m["meter"] == "tokens")
        assert (row["result"], row["status"], row["payable"]) == ("disputed", "disputed", "3")
        row = next(m for m in document["meters"] if m["meter"] == "peak")
        assert (row["result"], row["status"]) == ("not declared", "checkpointed")
