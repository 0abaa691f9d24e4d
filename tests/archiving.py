"""Archives of channels in memory, long enough for segments."""

from __future__ import annotations

from builders import DECEMBER_US, NOVEMBER_US, OCTOBER_US, Channel, Closed, MemoryLog

from tallystick.node.segments import SEGMENT
from tallystick.node.segments.archive import Archive, ArchivedCheckpoint, segment_path
from tallystick.node.segments.files import write_segment
from tallystick.protocol.bundle import encode_keys
from tallystick.protocol.merkle import Forest, chain_leaves, subtree_roots
from tallystick.protocol.records import Delta, Record, encode_record
from tallystick.protocol.statement import encode_line
from tallystick.protocol.verdict import encode_verdict

METERS = ("tokens", "calls", "peak")


def fill(log: MemoryLog, count: int, occurred_at: int) -> None:
    """Append so many deltas, a thousand a batch."""
    made = log.state.size
    for first in range(0, count, 1000):
        at = log.state.facts.recorded_at
        records: list[Record] = [
            Delta(
                f"e{made + n}",
                METERS[n % 3],
                f"project-{n % 7}",
                n % 50,
                occurred_at + n,
                at + n,
                None,
            )
            for n in range(first, min(first + 1000, count))
        ]
        log.append(*records)


def long_channel() -> Channel:
    """A channel whose provider has two segments below October's head and November's, whose consumer
    has one: corrections of each kind, a late delta, both months closed.
    """
    channel = Channel()
    a, b = channel.logs
    fill(a, SEGMENT + 300, OCTOBER_US)
    fill(b, 900, OCTOBER_US)
    a.correct("e6", "peak", None)
    a.correct("e4", "tokens", 11)
    channel.close(OCTOBER_US, ["provider", "consumer"])
    a.correct("e9", "peak", 3)
    a.correct("e5", "calls", None)
    a.delta("late", "tokens", 5, OCTOBER_US)
    fill(a, SEGMENT, NOVEMBER_US)
    fill(b, SEGMENT, NOVEMBER_US)
    channel.close(NOVEMBER_US, ["provider"])
    channel.both("d0", "tokens", 1, DECEMBER_US)
    return channel


def parts_of(log: MemoryLog) -> list[bytes]:
    """The bytes of a log's records."""
    return [encode_record(record) for record in log.records]


def _keys(channel: Channel, closed: Closed) -> bytes:
    """The rotations among a checkpoint's last records, which are in no segment."""
    found = [
        [one for one in log.rotations() if head.size // SEGMENT * SEGMENT <= one[0] < head.size]
        for log, head in zip(channel.logs, closed.checkpoint.heads, strict=True)
    ]
    return encode_keys((found[0], found[1])) if any(found) else b""


def write_archive(location: str, channel: Channel, closed: list[Closed]) -> Archive:
    """The archive of a channel when these periods are closed."""
    archive = Archive(location)
    archive.put_terms(channel.terms)
    sides = []
    for side, log in enumerate(channel.logs):
        parts = parts_of(log)
        leaves = [channel.id, *chain_leaves(channel.id, parts)]
        edges = []
        for one in closed:
            size = one.checkpoint.heads[side].size
            below = size // SEGMENT * SEGMENT
            forest = Forest(below)
            forest.add(subtree_roots(below, leaves[below + 1 : size + 1]))
            edges.append(tuple(root for _, root in forest.subtrees))
        sides.append(edges)
        newest = closed[-1].checkpoint.heads[side].size
        for first in range(0, newest // SEGMENT * SEGMENT, SEGMENT):
            some = parts[first : first + SEGMENT]
            with archive.writing(segment_path(channel.id, log.role, first)) as out:
                write_segment(out, channel.terms, log.role, first, leaves[first], some)
    for place, one in enumerate(closed):
        archive.put_checkpoint(
            channel.id,
            ArchivedCheckpoint(
                place,
                one.checkpoint.period,
                one.note,
                [encode_line(line) for line in one.lines],
                (sides[0][place], sides[1][place]),
                encode_verdict(one.verdict),
                _keys(channel, one),
            ),
        )
    return archive
