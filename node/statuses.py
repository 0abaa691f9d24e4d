"""How sure each number here is, by what is on the disk; see `protocol.status`."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.logs import ChannelLog
from tallystick.node.verdicts import declared_by, durable_sizes
from tallystick.protocol.declarations import periods_of
from tallystick.protocol.derive import NO_ADJUSTMENT, LineKey
from tallystick.protocol.disputes import adjustments_at, disputed_lines
from tallystick.protocol.records import Correction
from tallystick.protocol.statement import Line
from tallystick.protocol.status import Grounds, LineName, Status, line_statuses, status_of_all
from tallystick.protocol.verdict import Totals, declared_of, decode_verdict


def statuses_of(channel: Channel, closer: Closer, lines: Sequence[Line]) -> list[Status]:
    """The status of each of `lines`, which are all the channel's lines."""
    return line_statuses(lines, grounds_of(channel, closer))


def grounds_of(channel: Channel, closer: Closer) -> Grounds:
    """What the statuses of a channel's lines follow from."""
    closed = {row.period for row in closer.rows}
    declared: dict[str, tuple[Totals, Totals]] = {}
    for row in closer.rows:
        if row.verdict:
            declared[row.period] = declared_of(channel.terms, decode_verdict(row.verdict))
    sizes = durable_sizes(channel)
    logs = (channel.provider_log, channel.consumer_log)
    for log in logs:
        for label in periods_of(log.matters(log.durable_size)):
            if label not in closed and label not in declared:
                provider, consumer = declared_by(channel, label, sizes)
                declared[label] = provider.totals, consumer.totals
    return Grounds(channel.terms, closed, _uncosigned(channel, sizes), declared)


def meter_statuses(
    channel: Channel, closer: Closer, label: str, meters: Sequence[str]
) -> dict[str, Status]:
    """The status of what is recorded of each meter in a period, late lines left out."""
    lines = closer.all_lines()
    found = list(zip(lines, statuses_of(channel, closer, lines), strict=True))
    closed = any(row.period == label for row in closer.rows)
    nothing: Status = "checkpointed" if closed else "co-signed"
    return {
        meter: status_of_all(
            status
            for line, status in found
            if (line.period, line.meter, line.late_for) == (label, meter, None)
        )
        or nothing
        for meter in meters
    }


def _uncosigned(channel: Channel, sizes: tuple[int, int]) -> set[LineName]:
    """The lines that change if what is not co-signed yet is left out."""
    logs = (channel.provider_log, channel.consumer_log)
    cosigned = (logs[0].cosigned_size, logs[1].cosigned_size)
    if cosigned == sizes:
        return set()
    keys: set[LineKey] = set()
    for log, size in zip(logs, cosigned, strict=True):
        keys |= _changed_since(log, size)
    matters = (logs[0].matters(sizes[0]), logs[1].matters(sizes[1]))
    calendar = channel.own.folder.calendar
    # What moved is the same at both sizes, but for lines that are found above.
    moves = channel.moves(disputed_lines(calendar, matters[0] + matters[1]))
    now, then = (
        adjustments_at(channel.terms, calendar, matters, at, moves) for at in (sizes, cosigned)
    )
    keys |= {
        key
        for key in {**now, **then}
        if now.get(key, NO_ADJUSTMENT) != then.get(key, NO_ADJUSTMENT)
    }
    return {(calendar.period_of(key.charge_start_us).label, key.meter, key.subject) for key in keys}


def _changed_since(log: ChannelLog, size: int) -> set[LineKey]:
    """The lines that a log's records from an index on change."""
    keys: set[LineKey] = set()
    for _, records in log.records(size, log.durable_size):
        keys |= log.folder.fold(records).keys()
        for record in records:
            if isinstance(record, Correction):
                found = log.find(record.meter, record.id)
                assert found is not None, "a valid correction corrects a delta"
                keys.add(log.folder.key_of(found[1]))
    return keys
