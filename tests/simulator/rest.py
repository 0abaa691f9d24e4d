"""The end of a run: everybody runs and can be reached, people agree on what is lost, and the nodes
come to rest, or it is said which does not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec
import trio

from simulator.party import Party, World
from simulator.watch import decode_channel_row
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.store.keyspace import UnplacedRow, log_key
from tallystick.protocol.errors import TallyError
from tallystick.protocol.records import (
    Answer,
    Declaration,
    Delta,
    Dispute,
    Record,
    Resolution,
    Withdrawal,
    decode_batch,
    decode_record,
)

REST_SECONDS = 2_000
COPIES = 14  # what the judge numbers behind the invariants: who is there twice stops, nobody else

_unplaced = msgspec.msgpack.Decoder(UnplacedRow).decode
_log = logging.getLogger("simulator")


def honest_channels(world: World) -> Iterator[tuple[Party, Channel, Closer]]:
    """The channels at running parties, each seen from both sides, where neither side lies, nor fell
    out with itself.
    """
    for party in world.parties.values():
        for channel, closer in party.channels:
            peer = world.parties[channel.peer_keys.name]
            if party.liar is None and peer.liar is None and not fell_out(world, channel.id):
                yield party, channel, closer


def fell_out(world: World, channel: bytes) -> bool:
    """Whether a home of a party halted a channel because another home of it signed another history,
    which the peer has: what this one signed at the same time never reached the peer.
    """
    found = {channel for name in world.copied for channel in fallen_at(world.parties[name])}
    world.fallen |= found
    return channel in world.fallen


def fallen_at(party: Party) -> Iterator[bytes]:
    """The channels that a home halted so."""
    for found, _ in party.channels:
        peer = party.world.parties[found.peer_keys.name].process
        assert party.process is not None
        if party.process.books.founding.rows[found.id].state == "halted" and peer is not None:
            there = peer.books.channels[found.id][0].peer
            both = min(found.signed_size, there.durable_size)
            if found.own.root_at(both) != there.root_at(both):
                yield found.id


async def come_to_rest(world: World, nursery: trio.Nursery) -> None:
    """Return when all is durable, co-signed and closed at both sides of every honest channel."""
    parties = world.parties.values()
    settling = 2 * sum(world.clocks_seconds) if sum(world.clocks_seconds) < REST_SECONDS else 1
    waited = False
    with trio.move_on_after(REST_SECONDS):
        while True:
            for home in list(world.homes.values()):
                await home.start(nursery)
            await decide_on_copies(world)
            await _agree_on_losses(world)
            if all(
                party.process is not None and len(party.channels) == len(parties) - 1
                for party in parties
                if party.liar is None
            ) and all(_calm(world, *found) for found in honest_channels(world)):
                if waited:
                    return
                waited = True  # now let pass what lapses by silence
                await trio.sleep(settling)
            await trio.sleep(1)
    invariant = 9 if any(party.liar is not None for party in parties) else 4
    for party, channel, closer in honest_channels(world):
        if not _calm(world, party, channel, closer):
            world.watch.violated(invariant, f"no rest: {_state(party, channel)}")
    for party in parties:
        if party.process is None:
            world.watch.violated(1, f"{party.name} does not start any more")


async def decide_on_copies(world: World) -> None:
    """A home whose clock goes back just when it loses its last word, by a crash or a restore, takes
    itself for a copy of what it was: people know better.
    """
    for party in world.parties.values():
        if party.process is not None and party.process.peering.presences.stopped:
            if not party.turned and party.name not in world.copied:
                world.watch.violated(COPIES, f"{party.name} stopped, and there is no copy of it")
            try:
                await party.process.peering.only_copy()
            except TallyError as error:
                _log.info("%s", error)


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


def name_of(record: Record) -> str:
    """What tells apart what a party emits and says: ids, and reasons and commitments."""
    match record:
        case Delta():
            return f"{record.meter}/{record.id}"
        case Dispute() | Answer() | Resolution() | Withdrawal():
            return record.reason
        case Declaration():
            return record.commitment.hex()
        case _:
            return ""


def named_on_disk(party: Party) -> set[tuple[bytes, str, str]]:
    """(channel, author, name) of every record that has a name on a party's disk, set aside or not,
    or kept because it cannot be recorded any more.
    """
    found = set()
    for channel, value in party.disk.tables["channels"].values.items():
        row = decode_channel_row(value)
        for own in (True, False):
            number, author = 2 * row.number + (not own), party.name if own else row.peer
            for record in _records_on_disk(party, number):
                if name_of(record):
                    found.add((channel, author, name_of(record)))
    return found


def _records_on_disk(party: Party, log: int) -> Iterator[Record]:
    for table in ("batches", "aside"):
        held = party.disk.tables[table]
        for key in held.keys:
            if key.startswith(log_key(log)):
                yield from decode_batch(held.values[key])[0]
    yield from unplaced_on_disk(party, log)


def unplaced_on_disk(party: Party, log: int) -> list[Record]:
    """What was set aside of a party's log and could not be recorded again."""
    held = party.disk.tables["unplaced"]
    rows = [_unplaced(held.values[key]) for key in held.keys if key.startswith(log_key(log))]
    return [decode_record(row.record) for row in rows]
