"""Streams of deltas: recorded while they arrive, in bounded memory, and honest about how far."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable, Sequence, Set
from pathlib import Path

import builders
import homes
import pytest
import trio
import trio.testing

from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import Draft
from tallystick.node.intake.lines import LINE_BYTES_MAX
from tallystick.node.intake.native import DeltaReader
from tallystick.node.intake.stream import (
    GROUP_MAX,
    GROUPS_IN_FLIGHT,
    PIECES_WAITING,
    REJECTS_KEPT,
    SLICE,
    Result,
    StreamReport,
    StreamStopped,
    record_stream,
)

NOW_US = 1_700_000_000_000_000
READER = DeltaReader({"tokens": builders.meter("tokens")}, lambda: NOW_US)


def _line(n: int, **other: object) -> bytes:
    fields = {"id": f"e{n}", "meter": "tokens", "quantity": n, "subject": "s"}
    return json.dumps({**fields, "occurred_at": "2026-01-01T00:00:00Z", **other}).encode() + b"\n"


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Node:
    """Stands for a channel's `emit`: records, and waits or fails when told to."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.untimed: list[str] = []
        self.at_work = self.most_at_work = 0
        self.open = trio.Event()
        self.open.set()
        self.fail_after = 10**9

    async def emit(self, drafts: Sequence[Draft], untimed: Set[int]) -> Result:
        self.at_work += 1
        self.most_at_work = max(self.at_work, self.most_at_work)
        await self.open.wait()
        await trio.lowlevel.checkpoint()
        self.at_work -= 1
        if len(self.ids) >= self.fail_after:
            raise StoreError("the disk is full", "Make room")
        self.untimed += [drafts[place].id for place in sorted(untimed)]
        self.ids += [draft.id for draft in drafts]
        return Result(0, [], len(self.ids))


async def test_a_stream_is_recorded_once_whatever_its_pieces(tmp_path: Path) -> None:
    content = b"".join(_line(n) for n in range(10_000))
    async with homes.alone(tmp_path) as side, trio.open_nursery() as nursery:
        side.books.errands.start(nursery)
        reader = DeltaReader({m.name: m for m in side.channel.terms.meters}, lambda: NOW_US)

        async def emit(drafts: Sequence[Draft], untimed: Set[int]) -> Result:
            result = await side.channel.emit(drafts)
            size = 1 + max(result.indexes)
            return Result(len(result.repeated), result.problems, size)

        cut = [content[start : start + 7777] for start in range(0, len(content), 7777)]
        first = await record_stream(emit, reader, _pieces(*cut))
        assert first == StreamReport("recorded", 10_000, 10_000, 10_000, size=10_001)
        packed = gzip.compress(content + _line(10_000) + b"\n \n" + _line(3, quantity=4))
        again = await record_stream(emit, reader, _pieces(packed), gzipped=True)
        assert (again.lines, again.recorded, again.duplicate) == (10_004, 1, 10_000)
        assert (again.rejected, again.rejects[0].line) == (1, 10_004)
        assert again.rejects[0].field == "conflict"
        assert "other content" in again.rejects[0].reason
        assert side.channel.own.durable_size == 10_002
        nursery.cancel_scope.cancel()


async def test_the_first_rejects_are_named_by_line_and_all_are_counted() -> None:
    lines = [_line(n) if n % 2 else b'{"id": 1}\n' for n in range(2 * REJECTS_KEPT + 50)]
    lines[4] = b"x" * (LINE_BYTES_MAX + 1) + b"\n"
    lines[6] = b"\n"
    node = Node()
    report = await record_stream(node.emit, READER, _pieces(b"".join(lines)))
    assert (report.lines, report.recorded) == (len(lines), len(lines) // 2)
    assert report.rejected == len(lines) // 2 - 1
    assert [r.line for r in report.rejects[:4]] == [1, 3, 5, 9]
    assert "longer than" in report.rejects[2].reason
    assert len(report.rejects) == REJECTS_KEPT


async def test_a_source_that_is_faster_than_the_node_waits() -> None:
    node = Node()
    node.open = trio.Event()
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield b"".join(_line(n * GROUP_MAX + m) for m in range(GROUP_MAX))

    async with trio.open_nursery() as nursery:
        reports: list[StreamReport] = []

        async def run() -> None:
            reports.append(await record_stream(node.emit, READER, source()))

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert node.at_work == GROUPS_IN_FLIGHT
        assert taken <= GROUPS_IN_FLIGHT + PIECES_WAITING + 3
        node.open.set()
    assert reports[0].recorded == 100 * GROUP_MAX == len(node.ids)
    assert node.most_at_work == GROUPS_IN_FLIGHT


async def test_what_a_stalled_client_sent_is_recorded_meanwhile(autojump_clock: object) -> None:
    node = Node()

    async def source() -> AsyncIterator[bytes]:
        yield _line(1) + _line(2) + b'{"id": "e3", "meter"'
        await trio.sleep(5)
        assert node.ids == ["e1", "e2"]
        yield b': "tokens", "quantity": 1, "subject": "s", "occurred_at": "2026-01-01"}\n'
        await trio.sleep_forever()

    with pytest.raises(StreamStopped, match="nothing came for 10 seconds") as raised:
        await record_stream(node.emit, READER, source(), stall_seconds=10)
    assert (raised.value.report.recorded, raised.value.report.durable_lines) == (3, 3)
    assert "from line 4 on" in raised.value.advice


@pytest.mark.parametrize("whole", [0, 1, SLICE, GROUP_MAX + 5])
async def test_a_client_that_breaks_off_in_a_line_loses_only_that_line(whole: int) -> None:
    node = Node()

    async def source() -> AsyncIterator[bytes]:
        yield b"".join(_line(n) for n in range(whole)) + _line(7)[:-1]
        raise ConnectionResetError("reset by peer")

    with pytest.raises(StreamStopped, match="broke off: reset by peer") as raised:
        await record_stream(node.emit, READER, source())
    report = raised.value.report
    assert node.ids == [f"e{n}" for n in range(whole)]
    assert report.lines == report.durable_lines == report.recorded == whole


async def test_a_last_line_without_its_end_counts_if_the_stream_ended_well() -> None:
    node = Node()
    report = await record_stream(node.emit, READER, _pieces(_line(1) + _line(2)[:-1]))
    assert (report.recorded, node.ids) == (2, ["e1", "e2"])


@pytest.mark.parametrize(
    ("packed", "said", "recorded"),
    [
        (lambda c: c, "not gzip", 0),
        (lambda c: gzip.compress(c)[:-4], "cut off", 3),
        (lambda c: gzip.compress(c) + b"garbage", "not gzip", 3),
    ],
)
async def test_bad_gzip_says_how_far(
    packed: Callable[[bytes], bytes], said: str, recorded: int
) -> None:
    content = packed(b"".join(_line(n) for n in range(3)))
    with pytest.raises(StreamStopped, match=said) as raised:
        await record_stream(Node().emit, READER, _pieces(content), gzipped=True)
    assert raised.value.report.durable_lines == recorded


async def test_a_full_disk_ends_the_stream_and_says_how_far() -> None:
    node = Node()
    node.fail_after = 2 * GROUP_MAX

    async def source() -> AsyncIterator[bytes]:
        for n in range(100):
            yield b"".join(_line(n * GROUP_MAX + m) for m in range(GROUP_MAX))

    with pytest.raises(StreamStopped, match="the disk is full") as raised:
        await record_stream(node.emit, READER, source())
    assert isinstance(raised.value.cause, StoreError)
    assert len(node.ids) == 2 * GROUP_MAX
    assert "Make room" in raised.value.advice
    assert f"from line {2 * GROUP_MAX + 1:,} on" in raised.value.advice


async def test_a_mark_before_utf_8_and_ends_of_other_systems_are_no_harm() -> None:
    node = Node()
    body = b"\xef\xbb\xbf" + (_line(1) + _line(2)).replace(b"\n", b"\r\n")
    report = await record_stream(node.emit, READER, _pieces(body))
    assert (report.lines, report.recorded, node.ids) == (2, 2, ["e1", "e2"])


async def test_lines_without_a_time_are_told_apart() -> None:
    node = Node()
    lines = [_line(1), _line(2, occurred_at=None), _line(3)]
    await record_stream(node.emit, READER, _pieces(b"".join(lines)))
    assert (node.ids, node.untimed) == (["e1", "e2", "e3"], ["e2"])


async def test_an_empty_stream_records_nothing() -> None:
    assert await record_stream(Node().emit, READER, _pieces()) == StreamReport()
    report = await record_stream(Node().emit, READER, _pieces(b"\n\n"))
    assert (report.lines, report.durable_lines, report.recorded) == (2, 2, 0)
