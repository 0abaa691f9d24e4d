"""After a run: whether what the nodes hold, derived and showed keeps the design's invariants.

Only the records on the disks and what was seen on the wire are believed; everything else is
computed again from the records, by the rules that an auditor uses.
"""

from __future__ import annotations

from collections import Counter

from simulator.party import Party, World
from simulator.rest import fell_out, honest_channels
from tallystick.node import accusing
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.logs import ChannelLog
from tallystick.protocol.errors import TallyError
from tallystick.protocol.keys import origin
from tallystick.protocol.records import Delta, Epoch, Record, batch_bytes, encode_record
from tallystick.protocol.replay import rederive

GRASP_SECONDS = 10  # a process that dies sooner may not have kept what it was shown


def judge(world: World, restored: set[str]) -> None:
    """Check a world that has come to rest; violations go to its watch."""
    for party, channel, closer in honest_channels(world):
        other = world.parties[channel.peer_keys.name]
        if other.process is None or channel.id not in other.process.books.channels:
            continue
        theirs, other_closer = other.process.books.channels[channel.id]
        records = _records(channel.own)
        if records != _records(theirs.peer):
            world.watch.violated(4, f"{party.name}'s log and its peer's copy differ")
        _judge_acknowledged(world, party, channel, records)
        _judge_heads(world, party, channel, records, restored)
        if channel.own.cosigned_size != channel.own.durable_size:
            world.watch.violated(5, f"{party.name}'s log is not co-signed up to its end")
        _judge_derived(world, party, channel, closer)
        if closer.open_lines() != other_closer.open_lines():
            world.watch.violated(7, f"{party.name} and {other.name} derive different lines")
        if [row.digest for row in closer.rows] != [row.digest for row in other_closer.rows]:
            world.watch.violated(7, f"{party.name} and {other.name} hold different checkpoints")
    for party in world.parties.values():
        for channel, closer in party.channels:
            if world.parties[channel.peer_keys.name].liar is not None:
                _judge_acknowledged(world, party, channel, _records(channel.own))
                said = {log.state.facts.checkpoint for log in (channel.own, channel.peer)}
                if not closer.rows or closer.rows[-1].digest in said:
                    _judge_derived(world, party, channel, closer)
    _judge_convictions(world)


def _judge_convictions(world: World) -> None:
    """Who had two signed histories of a log for a while has stopped and kept what convicts."""
    for party, channel, life, at in world.watch.convicted:
        died = party.lives != life and party.died_at < at + GRASP_SECONDS
        if party.process is None or (party.lives != life and died) or party.lives > life + 1:
            continue
        row = party.process.books.founding.rows[channel]
        if row.state != "halted":
            world.watch.violated(8, f"{party.name} goes on with a peer that signed two histories")
        kept = accusing.kept(party.process.books.channels[channel][0])
        if "two histories" in row.reason and not kept:
            world.watch.violated(8, f"{party.name} names evidence that it has not kept")
    for party in world.parties.values():
        for open_channel, _ in party.channels:
            for found in accusing.kept(open_channel):
                accused = found.evidence.accused.party
                lied = world.parties[accused].liar is not None
                lied |= accused in world.copied and fell_out(world, open_channel.id)
                if not lied or not accusing.convicts(found.data):
                    world.watch.violated(8, f"{party.name} keeps evidence against {accused}")


def _records(log: ChannelLog) -> list[Record]:
    return [record for _, records in log.records(0, log.durable_size) for record in records]


def _judge_acknowledged(
    world: World, party: Party, channel: Channel, records: list[Record]
) -> None:
    """A party's own log, and what its users were told."""
    watch = world.watch
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


def _judge_derived(world: World, party: Party, channel: Channel, closer: Closer) -> None:
    """A party derives what the records that it holds give, all of which are valid."""
    logs = (channel.provider_log, channel.consumer_log)
    sources = [[batch_bytes([encode_record(r) for r in _records(log)])] for log in logs]
    sizes = (logs[0].durable_size, logs[1].durable_size)
    try:
        lines = rederive(channel.terms, channel.id, lambda: sources[0], lambda: sources[1], sizes)
    except TallyError as error:
        world.watch.violated(4, f"{party.name} holds what is not valid: {error}")
        return
    if lines != closer.open_lines():
        world.watch.violated(7, f"{party.name} derived other lines than its records give")
