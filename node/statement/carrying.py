"""The disputes that a statement carries, as they stood when its period was closed.

They follow from both logs up to the checkpoint's heads, so both parties find the same. Until when
one waits is by the co-signatures that are kept here, which both have but for a lost message.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.disputing import standing_all
from tallystick.node.late import LateLines
from tallystick.node.statement.model import Claim
from tallystick.node.store.keyspace import CheckpointRow
from tallystick.node.worklist import dispute_documents
from tallystick.protocol.disputes import PENDING, Standing, disputed_lines, standings


def claims_now(channel: Channel) -> list[Claim]:
    """The disputes that are pending now."""
    return _claims(channel, [one for one in standing_all(channel) if one.state in PENDING])


def claims_at(channel: Channel, closer: Closer, row: CheckpointRow) -> list[Claim]:
    """Those that were pending when a period was closed, and those decided since the one before."""
    place = closer.rows.index(row)
    now = _standings_at(channel, closer.rows[: place + 1])
    if not now:
        return []
    before = _standings_at(channel, closer.rows[:place]) if place else []
    settled = {(one.role, one.digest) for one in before if one.state not in PENDING}
    return _claims(channel, [one for one in now if (one.role, one.digest) not in settled])


def _standings_at(channel: Channel, rows: Sequence[CheckpointRow]) -> list[Standing]:
    """Where disputes stood at the heads of the last of these checkpoints, all up to it."""
    calendar = channel.own.folder.calendar
    provider = channel.provider_log.matters(rows[-1].provider_size)
    consumer = channel.consumer_log.matters(rows[-1].consumer_size)
    lines = disputed_lines(calendar, [*provider, *consumer])
    if not lines:
        return []
    late = LateLines(channel.terms, calendar)
    late.follow(rows)
    return standings(channel.terms, calendar, provider, consumer, late.moves(lines, ({}, {})))


def _claims(channel: Channel, chosen: Sequence[Standing]) -> list[Claim]:
    names = Claim.__struct_fields__
    documents = dispute_documents(channel, chosen)
    claims = [Claim(**{name: document[name] for name in names}) for document in documents]
    return sorted(
        claims, key=lambda claim: (claim.period, claim.meter, claim.subject, claim.dispute)
    )
