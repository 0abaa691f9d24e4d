"""Events go to the channel and through the mapping that the configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import homes
import pytest
import trio

from tallystick.node.config import CloudEventsRule
from tallystick.node.importing.drafts import Draft
from tallystick.node.intake.cloudevents import Event
from tallystick.node.intake.native import Refused
from tallystick.node.intake.sink import EventResult, EventSink
from tallystick.protocol.errors import MappingError

TOKENS = '[[meter]]\nmeter = "tokens"\nquantity = { column = "data.n" }\n'
BOTH = TOKENS + '[[meter]]\nmeter = "calls"\nquantity = { value = "1" }\n'


def _event(n: int, kind: str = "com.acme.tokens", quantity: str = "") -> Event:
    attributes = {"specversion": "1.0", "id": f"e{n}", "source": "/g", "type": kind}
    attributes |= {"time": "2026-01-01T00:00:00Z", "subject": "p"}
    return Event(attributes, {"n": quantity or str(n)})


@asynccontextmanager
async def _sink(folder: Path) -> AsyncIterator[tuple[EventSink, homes.Side]]:
    (folder / "tokens.toml").write_text(TOKENS)
    (folder / "both.toml").write_text(BOTH)
    rules = [
        CloudEventsRule("com.acme.tokens", "beta.example", "tokens.toml"),
        CloudEventsRule("com.acme.*", "beta.example", "both.toml"),
        CloudEventsRule("org.*", "nobody.example", "both.toml"),
    ]
    async with homes.alone(folder) as side, trio.open_nursery() as nursery:
        side.books.errands.start(nursery)

        async def record(channel: bytes, drafts: Sequence[Draft]) -> Mapping[str, Any]:
            assert channel == side.channel.id
            result = await side.channel.emit(drafts)
            return {
                "indexes": result.indexes,
                "duplicates": len(result.repeated),
                "repeated": result.repeated,
                "problems": result.problems,
            }

        yield EventSink(side.books, rules, folder, record), side
        nursery.cancel_scope.cancel()


async def test_a_batch_is_recorded_but_for_its_bad_items(tmp_path: Path) -> None:
    async with _sink(tmp_path) as (sink, side):
        bad = Refused("id", "", "the event has no id")
        other = _event(2, "com.acme.other")
        batch = [_event(1), bad, other, _event(3, "net.x"), _event(4, quantity="x")]
        report = await sink.take(side.channel.id, [*batch, _event(5, "org.x"), _event(6)])
        assert (report.recorded, report.duplicate, report.rejected) == (4, 0, 4)
        states = [result.state for result in report.results]
        assert states == ["recorded", "rejected", "recorded", *["rejected"] * 3, "recorded"]
        assert [result.indexes for result in report.results] == [[1], [], [2, 3], [], [], [], [4]]
        assert report.results[1] == EventResult("rejected", [], "id", "", "the event has no id")
        assert "no rule takes events of type 'net.x'; taken are: com.acme.tokens, com.acme.*" in (
            report.results[3].reason
        )
        assert report.results[4].field == "data.n"
        assert side.channel.own.durable_size == 5
        again = await sink.take(side.channel.id, [_event(1), other])
        assert (again.recorded, again.duplicate, again.rejected) == (0, 3, 0)
        assert again.results == [EventResult("duplicate", [1]), EventResult("duplicate", [2, 3])]


async def test_the_same_event_with_other_content_names_both(tmp_path: Path) -> None:
    async with _sink(tmp_path) as (sink, side):
        report = await sink.take(None, [_event(1), _event(1, quantity="2"), _event(3)])
        assert (report.recorded, report.rejected) == (2, 1)
        result = report.results[1]
        assert (result.field, result.value) == ("conflict", "tokens//g|e1")
        assert "recorded 1 for p" in result.reason
        assert side.channel.own.durable_size == 3


async def test_without_a_channel_the_rule_names_it(tmp_path: Path) -> None:
    async with _sink(tmp_path) as (sink, _):
        report = await sink.take(None, [_event(1), _event(2, "org.x"), _event(3, "x")])
        assert report.recorded == 1
        assert "'nobody.example' that is not there" in report.results[1].reason
        assert report.results[2].reason.endswith("taken are: com.acme.tokens, com.acme.*, org.*")


async def test_a_channel_without_rules_takes_no_events(tmp_path: Path) -> None:
    async with _sink(tmp_path) as (sink, _):
        report = await sink.take(b"x" * 32, [_event(1)])
        assert "the configuration has none" in report.results[0].reason


async def test_a_bad_mapping_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("meter = 1\n")
    async with homes.alone(tmp_path) as side:
        for map_, said in (("bad.toml", "no \\[\\[meter"), ("none.toml", "cannot be read")):
            with pytest.raises(MappingError, match=said):
                EventSink(side.books, [CloudEventsRule("*", "x", map_)], tmp_path, None)  # type: ignore[arg-type]
