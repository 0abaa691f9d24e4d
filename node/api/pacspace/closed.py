"""Closed periods: what each counts of a customer, and when it was closed.

Both are asked for again and again and never change, so they are kept for a while once worked out.
"""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.node.api.pacspace.customers import Customer
from tallystick.node.api.pacspace.sums import Counted
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.store.keyspace import CheckpointRow
from tallystick.protocol.quantities import parse_total
from tallystick.protocol.statement import Line, decode_line

KEPT_LINES = 50_000

# By meter and subject: the provider's and the consumer's total and what is payable, and of how many
# deltas that is.
_Sums = dict[tuple[str, str], tuple[int, int, int, int]]


class Closed:
    """The closed periods of a node's channels."""

    def __init__(self) -> None:
        self._sums: dict[bytes, _Sums] = {}
        self._times: dict[bytes, tuple[int, list[int]]] = {}

    def billed(
        self, customer: Customer, channel: Channel, rows: Iterable[CheckpointRow]
    ) -> tuple[Counted, Counted]:
        """What checkpoints count of a customer: by its log, and as payable."""
        recorded = payable = deltas = 0
        place = 0 if customer.role == "provider" else 1
        for row in rows:
            sums = self._sums_of(channel, row)
            if customer.subject is None:
                found = [of for (meter, _), of in sums.items() if meter == customer.meter.name]
            else:
                one = sums.get((customer.meter.name, customer.subject))
                found = [one] if one else []
            for of in found:
                recorded += of[place]
                payable += of[2]
                deltas += of[3]
        sign = customer.sign
        return Counted(sign * recorded, deltas), Counted(sign * payable, deltas)

    def _sums_of(self, channel: Channel, row: CheckpointRow) -> _Sums:
        known = self._sums.get(row.digest)
        if known is not None:
            return known
        scales = {
            meter.name: 0 if meter.aggregate == "count" else meter.scale
            for meter in channel.terms.meters
        }
        sums: _Sums = {}
        for line in map(decode_line, row.lines):
            before = sums.get((line.meter, line.subject), (0, 0, 0, 0))
            sums[line.meter, line.subject] = _added(before, line, scales[line.meter])
        if sum(map(len, self._sums.values())) > KEPT_LINES:
            self._sums = {}
        self._sums[row.digest] = sums
        return sums

    def at_us(self, channel: Channel, closer: Closer, place: int) -> int | None:
        """When our log says that the period of the `place`th checkpoint was closed; None until it
        says so. Its closes follow each other as the checkpoints do.
        """
        known = self._times.get(channel.id)
        if known is None or known[0] != len(closer.rows) or len(known[1]) <= place:
            times = [record.recorded_at for _, record in channel.own.closes()]
            known = self._times[channel.id] = len(closer.rows), times
        return known[1][place] if place < len(known[1]) else None


def _added(before: tuple[int, int, int, int], line: Line, scale: int) -> tuple[int, int, int, int]:
    totals = [
        0 if text is None else parse_total(text, scale)
        for text in (line.provider, line.consumer, line.payable)
    ]
    return (
        before[0] + totals[0],
        before[1] + totals[1],
        before[2] + totals[2],
        before[3] + line.deltas,
    )
