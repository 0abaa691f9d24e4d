"""What was declared in a channel, the verdict on a period, and how many deltas a tolerance is
judged on: out of both logs.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.node.channel import Channel
from tallystick.protocol.declarations import Commitments, Declared, declared, sides_of
from tallystick.protocol.derive import Deriver
from tallystick.protocol.periods import Period
from tallystick.protocol.statement import Line
from tallystick.protocol.verdict import Verdict, make_verdict

Sizes = tuple[int, int]  # the provider's log's, the consumer's


def durable_sizes(channel: Channel) -> Sizes:
    """How many records of each log are on the disk here."""
    return channel.provider_log.durable_size, channel.consumer_log.durable_size


def commitments_of(channel: Channel, label: str, sizes: Sizes) -> tuple[Commitments, Commitments]:
    """What both logs, up to these sizes, say of declarations of a period; the provider's first."""
    provider = channel.provider_log.matters(sizes[0])
    consumer = channel.consumer_log.matters(sizes[1])
    return sides_of(channel.terms, label, provider, consumer)


def declared_by(channel: Channel, label: str, sizes: Sizes) -> tuple[Declared, Declared]:
    """What counts of both parties' declarations of a period."""
    return declared(*commitments_of(channel, label, sizes))


def verdict_on(channel: Channel, label: str, lines: Sequence[Line], sizes: Sizes) -> Verdict:
    """The verdict on a period that has these lines."""
    provider, consumer = declared_by(channel, label, sizes)
    return make_verdict(channel.terms, label, lines, provider.totals, consumer.totals)


def judged_deltas(channel: Channel, period: Period) -> dict[str, int]:
    """How many deltas of a period each meter's tolerance is judged on: those of the side that the
    terms make payable, by what is recorded. So both parties judge on the same.
    """
    sides = [
        {k: tally for k, tally in log.tallies().items() if k.charge_start_us == period.start_us}
        for log in (channel.provider_log, channel.consumer_log)
    ]
    found = dict.fromkeys((meter.name for meter in channel.terms.meters), 0)
    for line in Deriver(channel.terms, channel.own.folder).lines(sides[0], sides[1], None):
        found[line.meter] += line.deltas
    return found
