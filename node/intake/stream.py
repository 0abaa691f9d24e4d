"""A stream of deltas, a JSON document a line, of any length, recorded while it arrives.

Lines become drafts, drafts become groups, and each group is one call that returns when it is
durable. A few groups may be on their way; until one is done nothing more is read, so whoever sends
too fast waits. A group goes when it is full, or when nothing came for a moment: what a stalled
client has sent is not held back.

Whatever ends a stream, all lines up to `durable_lines` are settled: recorded, there already, or
refused. The ids make it safe to send any of them again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Set
from typing import NamedTuple

import msgspec
import trio
from msgspec import Struct

from tallystick.node.importing.drafts import Draft
from tallystick.node.intake.lines import LINE_BYTES_MAX, TOO_LONG, Gunzip, LineSplitter
from tallystick.node.intake.native import DeltaReader, Refused
from tallystick.protocol.errors import InputError, TallyError

GROUP_MAX = 2048  # deltas in one call
GROUPS_IN_FLIGHT = 2
PIECES_WAITING = 2
IDLE_SECONDS = 0.05
SLICE = 512  # lines that are read before other tasks have their turn
REJECTS_KEPT = 100

_MARK = b"\xef\xbb\xbf"  # that some put before UTF-8


class Result(NamedTuple):
    """What became of some drafts: how many were there already, what is wrong with which (place,
    kind, words), and our log's size with the others.
    """

    duplicates: int
    problems: Sequence[tuple[int, str, str]]
    size: int


# Records drafts durably; the places of those that named no time are told.
Emit = Callable[[Sequence[Draft], Set[int]], Awaitable[Result]]


class LineReject(Struct, frozen=True):
    """A line that was not taken."""

    line: int
    field: str
    value: str
    reason: str


class StreamReport(Struct):
    """How far a stream is, and what became of it; `rejects` are the first of all `rejected`."""

    state: str = "recorded"
    lines: int = 0
    durable_lines: int = 0
    recorded: int = 0
    duplicate: int = 0
    rejected: int = 0
    rejects: list[LineReject] = msgspec.field(default_factory=list)
    size: int = 0  # of our log, with the last delta of the stream; 0 if it had none


class StreamStopped(InputError):
    """A stream ended before its end. `report` says how far it is durable; `cause` is the node's
    error, if it was not the stream's own.
    """

    def __init__(self, message: str, report: StreamReport, cause: TallyError | None = None):
        done = report.durable_lines
        advice = (
            f"The first {done:,} lines are durable, or were refused. Send the rest, from line"
            f" {done + 1:,} on, or everything: nothing is recorded twice"
        )
        if cause is not None and cause.advice:
            advice = f"{cause.advice}. {advice}"
        super().__init__(message, advice)
        self.report = report
        self.cause = cause


class _Group:
    __slots__ = ("drafts", "last", "numbers", "settled", "untimed")

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.numbers: list[int] = []
        self.untimed: set[int] = set()
        self.last = 0  # line
        self.settled = False


async def record_stream(
    emit: Emit,
    reader: DeltaReader,
    source: AsyncIterator[bytes],
    *,
    gzipped: bool = False,
    stall_seconds: float = 60.0,
) -> StreamReport:
    """Record the deltas of a stream; returns when all of them are durable.

    `StreamStopped` if the source breaks off, stalls or is not gzip, or if `emit` fails.
    """
    return await _Stream(emit, reader, gzipped, stall_seconds).run(source)


class _Stream:
    def __init__(self, emit: Emit, reader: DeltaReader, gzipped: bool, stall_seconds: float):
        self._emit, self._reader = emit, reader
        self._stall_seconds = stall_seconds
        self._gunzip = Gunzip() if gzipped else None
        self._splitter = LineSplitter()
        self._report = StreamReport()
        self._group = _Group()
        self._groups: deque[_Group] = deque()
        self._slots = trio.Semaphore(GROUPS_IN_FLIGHT)
        self._failure: TallyError | None = None  # of the node
        self._broken = ""  # what is wrong with the stream

    async def run(self, source: AsyncIterator[bytes]) -> StreamReport:
        report = self._report
        sender, receiver = trio.open_memory_channel[bytes](PIECES_WAITING)
        async with trio.open_nursery() as emitting:
            async with trio.open_nursery() as reading:
                reading.start_soon(self._pump, source, sender)
                await self._take(receiver, emitting)
                reading.cancel_scope.cancel()
            # What came whole is recorded, however the stream ended.
            await self._flush(emitting)
        if self._failure is not None:
            raise StreamStopped(self._failure.message, report, self._failure)
        if self._broken:
            raise StreamStopped(self._broken, report)
        return report

    async def _pump(
        self, source: AsyncIterator[bytes], sender: trio.MemorySendChannel[bytes]
    ) -> None:
        """Take pieces from the source one by one, each when there is room for it."""
        async with sender:
            try:
                async for piece in source:
                    await sender.send(piece)
            except (OSError, EOFError, trio.BrokenResourceError) as error:
                self._broken = f"the stream broke off: {error or type(error).__name__}"

    async def _take(
        self, receiver: trio.MemoryReceiveChannel[bytes], emitting: trio.Nursery
    ) -> None:
        last = trio.current_time()
        while not self._failure:
            # With nothing on its way, nothing but the next piece can happen.
            busy = self._group.last or self._groups
            left = max(last + self._stall_seconds - trio.current_time(), 0)
            with trio.move_on_after(min(IDLE_SECONDS, left) if busy else left) as idle:
                try:
                    piece = await receiver.receive()
                except trio.EndOfChannel:
                    await self._end(emitting)
                    return
            if idle.cancelled_caught:
                if trio.current_time() - last >= self._stall_seconds:
                    self._broken = f"nothing came for {self._stall_seconds:g} seconds"
                    return
                await self._flush(emitting)
                continue
            try:
                for unpacked in self._gunzip.feed(piece) if self._gunzip else (piece,):
                    await self._lines(self._splitter.feed(unpacked), emitting)
            except InputError as error:
                self._broken = error.message
                return
            last = trio.current_time()

    async def _end(self, emitting: trio.Nursery) -> None:
        """The source has ended; a line without an end counts only if it ended well."""
        if self._broken:
            return
        try:
            if self._gunzip:
                self._gunzip.end()
        except InputError as error:
            self._broken = error.message
            return
        await self._lines(self._splitter.end(), emitting)

    async def _lines(self, lines: Sequence[bytes | None], emitting: trio.Nursery) -> None:
        for start in range(0, len(lines), SLICE):
            self._read(lines[start : start + SLICE])
            if len(self._group.drafts) >= GROUP_MAX:
                await self._flush(emitting)
            else:
                await trio.lowlevel.checkpoint()
            if self._failure:
                return

    def _read(self, lines: Iterable[bytes | None]) -> None:
        report, group, read = self._report, self._group, self._reader.read
        for line in lines:
            report.lines += 1
            group.last = report.lines
            if line is TOO_LONG:
                said = f"the line is longer than {LINE_BYTES_MAX:,} bytes"
                self._refuse(report.lines, Refused("", "", said))
                continue
            if report.lines == 1:
                line = line.removeprefix(_MARK)
            if line and not line.isspace():
                try:
                    draft, timed = read(line)
                except Refused as refused:
                    self._refuse(report.lines, refused)
                    continue
                if not timed:
                    group.untimed.add(len(group.drafts))
                group.drafts.append(draft)
                group.numbers.append(report.lines)

    def _refuse(self, line: int, refused: Refused) -> None:
        self._report.rejected += 1
        if len(self._report.rejects) < REJECTS_KEPT:
            reject = LineReject(line, refused.field, refused.value, refused.reason)
            self._report.rejects.append(reject)

    async def _flush(self, emitting: trio.Nursery) -> None:
        """Send the group off, once there is room for it."""
        group = self._group
        if not group.last:
            return
        self._group = _Group()
        self._groups.append(group)
        if not group.drafts:
            self._settle(group)
            return
        await self._slots.acquire()
        emitting.start_soon(self._record, group)

    async def _record(self, group: _Group) -> None:
        report = self._report
        try:
            if self._failure:  # a later group must not be recorded without an earlier one
                return
            result = await self._emit(group.drafts, group.untimed)
        except TallyError as error:
            self._failure = self._failure or error
            return
        finally:
            self._slots.release()
        for place, kind, said in result.problems:
            draft = group.drafts[place]
            value = f"{draft.meter}/{draft.id}"
            self._refuse(group.numbers[place], Refused(kind, value, said))
        report.duplicate += result.duplicates
        report.recorded += len(group.drafts) - result.duplicates - len(result.problems)
        report.size = max(report.size, result.size)
        self._settle(group)

    def _settle(self, group: _Group) -> None:
        group.settled = True
        while self._groups and self._groups[0].settled:
            self._report.durable_lines = self._groups.popleft().last
        self._report.rejects.sort(key=lambda reject: reject.line)
