"""The end of a run: everybody runs and can be reached, people agree on what is lost, and the nodes
come to rest, or it is said which does not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import trio

from simulator.party import Party, World
from simulator.watch import decode_channel_row
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.store.keyspace import log_key
from tallystick.protocol.errors import TallyError
from tallystick.protocol.records import Delta, decode_batch

REST_SECONDS = 2_000

_log = logging.getLogger("simulator")


def honest_channels(world: World) -> Iterator[tuple[Party, Channel, Closer]]:
    """The channels at running parties, each seen from both sides, where neither side lies."""
    for party in world.parties.values():
        for channel, closer in party.channels:
            peer = world.parties[channel.peer_keys.name]
            if party.liar is None and peer.liar is None:
                yield party, channel, closer


async def come_to_rest(world: World, nursery: trio.Nursery) -> None:
    """Return when all is durable, co-signed and closed at both sides of every honest channel."""
    parties = world.parties.values()
    with trio.move_on_after(REST_SECONDS):
        while True:
            for party in parties:
                if party.process is None:
                    await party.start(nursery)
            await _agree_on_losses(world)
            if all(
                party.process is not None and len(party.channels) == len(parties) - 1
                for party in parties
                if party.liar is None
            ) and all(_calm(world, *found) for found in honest_channels(world)):
                return
            await trio.sleep(1)
    invariant = 9 if any(party.liar is not None for party in parties) else 4
    for party, channel, closer in honest_channels(world):
        if not _calm(world, party, channel, closer):
            world.watch.violated(invariant, f"no rest: {_state(party, channel)}")
    for party in parties:
        if party.process is None:
            world.watch.violated(1, f"{party.name} does not start any more")


async def _agree_on_losses(world: World) -> None:
    """People at both sides of a channel that is doubtful on both agree to go on."""
    for party, channel, _ in list(honest_channels(world)):
        other = world.parties[channel.peer_keys.name]
        if other.process is None or channel.id not in other.process.books.channels:
            continue
        theirs = other.process.books.channels[channel.id][0]
        if channel.doubt == 1 and theirs.doubt:
            assert party.process is not None
            try:
                await party.process.peering.agree_on_loss(channel)
            except TallyError as error:
                _log.info("%s", error)


def _calm(world: World, party: Party, channel: Channel, closer: Closer) -> bool:
    other = world.parties[channel.peer_keys.name]
    if other.process is None or channel.id not in other.process.books.channels:
        return False
    theirs = other.process.books.channels[channel.id][0]
    own = channel.own
    aside = party.disk.tables["aside"].keys
    return (
        channel.live
        and not channel.doubt
        and not closer._completing.locked()
        and own.settled
        and own.durable_size == own.cosigned_size == theirs.peer.durable_size
        and theirs.peer.settled
        and not any(key.startswith(log_key(own.number)) for key in aside)
        and own.state.facts.checkpoint == channel.peer.state.facts.checkpoint
        and own.state.facts.checkpoint == (closer.last.digest if closer.last else b"")
    )


def _state(party: Party, channel: Channel) -> str:
    assert party.process is not None
    row = party.process.books.founding.rows[channel.id]
    own = channel.own
    return (
        f"{party.name} with {row.peer}: {row.state} {row.reason!r} live={channel.live}"
        f" doubt={channel.doubt} own={own.durable_size}/{own.state.size} signed={own.signed_size}"
        f" cosigned={own.cosigned_size} peer={channel.peer.durable_size}"
        f" links={[(n, k.live) for n, k in party.process.peering.links.items()]}"
    )


def deltas_on_disk(party: Party) -> set[tuple[bytes, str, str, str]]:
    """(channel, author, meter, id) of every delta on a party's disk, set aside or not."""
    found = set()
    for channel, value in party.disk.tables["channels"].values.items():
        row = decode_channel_row(value)
        for table in ("batches", "aside"):
            held = party.disk.tables[table]
            for own in (True, False):
                for key in held.keys:
                    if key.startswith(log_key(2 * row.number + (not own))):
                        author = party.name if own else row.peer
                        for record in decode_batch(held.values[key])[0]:
                            if isinstance(record, Delta):
                                found.add((channel, author, record.meter, record.id))
    return found
