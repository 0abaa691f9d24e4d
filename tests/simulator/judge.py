"""After a run: whether what the nodes hold, derived and showed keeps the design's invariants.

Only the records on the disks and what was seen on the wire are believed; everything else is
computed again from the records, by the rules that an auditor uses.
"""

from __future__ import annotations

from collections import Counter

from simulator.party import Party, World
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.logs import ChannelLog
from tallystick.protocol.errors import TallyError
from tallystick.protocol.heads import Head
from tallystick.protocol.keys import origin
from tallystick.protocol.records import Delta, Epoch, Record, batch_bytes, encode_record
from tallystick.protocol.replay import rederive


def judge(world: World, restored: set[str]) -> None:
    """Check a world that has come to rest; violations go to its watch."""
    for party in world.parties.values():
        for channel, closer in party.channels:
            other = world.parties[channel.peer_keys.name]
            if other.process is None or channel.id not in other.process.books.channels:
                continue
            theirs, _ = other.process.books.channels[channel.id]
            _judge_log(world, party, channel, theirs.peer, restored)
            _judge_derived(world, party, channel, closer, other)


def _records(log: ChannelLog) -> list[Record]:
    return [record for _, records in log.records(0, log.durable_size) for record in records]


def _judge_log(
    world: World, party: Party, channel: Channel, copy: ChannelLog, restored: set[str]
) -> None:
    """A party's own log, its peer's copy of it, and what its users were told."""
    watch, log = world.watch, channel.own
    records, copied = _records(log), _records(copy)
    if records != copied:
        watch.violated(4, f"{party.name}'s log and its peer's copy differ")
    found = Counter((r.meter, r.id) for r in records if isinstance(r, Delta))
    by_name = {(r.meter, r.id): r for r in records if isinstance(r, Delta)}
    for (at, meter, id), emitted in party.emitted.items():
        if at != channel.id:
            continue
        count = found.pop((meter, id), 0)
        if count > 1 or (count == 0 and emitted.acknowledged and not emitted.excused):
            watch.violated(1, f"{party.name}'s acknowledged {meter}/{id} is there {count} times")
        if count and emitted.acknowledged:
            delta, draft = by_name[meter, id], emitted.draft
            same = (delta.subject, delta.quantity, delta.occurred_at)
            if same != (draft.subject, draft.quantity, draft.occurred_at):
                watch.violated(6, f"{party.name}'s {meter}/{id} is there with other content")
    for meter, id in found:
        watch.violated(1, f"{party.name} never emitted {meter}/{id}")
    _judge_heads(world, party, channel, records, restored)


def _judge_heads(
    world: World, party: Party, channel: Channel, records: list[Record], restored: set[str]
) -> None:
    """Every head that others may have seen is a prefix of the log that there is now."""
    watch, log = world.watch, channel.own
    name = origin(party.name, channel.id)
    epochs = [index for index, record in enumerate(records) if isinstance(record, Epoch)]
    shown = [head for _, head in watch.shown if head.origin == name]
    if party.name in restored:  # what was sent and never kept by the peer nobody has
        shown = []
    shown += [head for head in watch.cosigned_shown if head.origin == name]
    for head in dict.fromkeys(shown):
        if any(head.size > index for index in epochs):
            continue  # an epoch says that this was lost
        if head.size > len(records):
            watch.violated(2, f"{party.name} showed size {head.size}; its log has {len(records)}")
        elif log.root_at(head.size) != head.root:
            watch.violated(2, f"{party.name} showed another history at size {head.size}")
    final = Head(name, log.durable_size, log.root_at(log.durable_size))
    if final.size > 1 and log.cosigned_size != final.size:
        watch.violated(5, f"{party.name}'s log is not co-signed up to its end")


def _judge_derived(
    world: World, party: Party, channel: Channel, closer: Closer, other: Party
) -> None:
    """Both derive the same, and the same that the records alone give."""
    assert other.process is not None
    _, theirs = other.process.books.channels[channel.id]
    ours = closer.open_lines()
    if ours != theirs.open_lines():
        world.watch.violated(7, f"{party.name} and {other.name} derive different lines")
    if [row.note for row in closer.rows] != [row.note for row in theirs.rows] and {
        row.digest for row in closer.rows
    } != {row.digest for row in theirs.rows}:
        world.watch.violated(7, f"{party.name} and {other.name} hold different checkpoints")
    logs = (channel.provider_log, channel.consumer_log)
    sources = [[batch_bytes([encode_record(r) for r in _records(log)])] for log in logs]
    sizes = (logs[0].durable_size, logs[1].durable_size)
    try:
        lines = rederive(channel.terms, channel.id, lambda: sources[0], lambda: sources[1], sizes)
    except TallyError as error:
        world.watch.violated(4, f"{party.name} holds what is not valid: {error}")
        return
    if lines != ours:
        world.watch.violated(7, f"{party.name} derived other lines than its records give")
