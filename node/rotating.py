"""Changing this party's keys, and repeating the peers' changes of theirs.

A rotation is an ordinary record: our log says it, the peer repeats it in its own, and each log is
signed by the keys that it names. What a person asked for is kept in one row, as the number of the
key that every channel should have; the channels follow it one by one, each in one transaction. So
a crash leaves a channel with the old key or with the new one, the next start goes on, and a channel
that is founded later comes to the same keys.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec
import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.errands import WHEN_CALLED
from tallystick.node.errors import StoreError
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.transport.tls import certificate_der
from tallystick.node.upkeep import RETRY_SECONDS
from tallystick.protocol.errors import InputError, TallyError
from tallystick.protocol.keyring import Keyring, make_rotation
from tallystick.protocol.keys import KEYS_MAX
from tallystick.protocol.records import TIME_MAX_US, Announced, Job, Rotation

JOBS: tuple[Job, ...] = ("log", "cosigner", "transport")
_ROW = b"keys"  # in the table `meta`

_log = logging.getLogger("tallystick.rotating")


class Wanted(msgspec.Struct, array_like=True, frozen=True):
    """Which of the seed's keys all channels should have; how long the one before counts (µs)."""

    number: int
    overlap_us: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """A channel's new key: its number there, and until when the one before it counts."""

    channel: Channel
    job: Job
    number: int
    key: bytes
    old_until_us: int


_Keys = tuple[tuple[Announced, ...], list[Announced]]
_NO_KEYS: _Keys = ((), [])
_decode = msgspec.msgpack.Decoder(dict[Job, Wanted]).decode


def waiting(channel: Channel, job: Job) -> Announced | None:
    """Our newest rotation of a job that the peer has not repeated yet, if there is one."""
    role = channel.role
    if channel.peer.keyring.number(role, job) >= channel.own.keyring.number(role, job):
        return None
    announced = channel.own.keyring.announced
    return next(a for a in reversed(announced) if (a.party, a.job) == (role, job))


def durable_rotations(log: ChannelLog) -> list[Announced]:
    """What a log's records on the disk announce, in order."""
    return [one for one in log.state.facts.keys if one.index < log.durable_size]


def _keys_of(channel: Channel) -> _Keys:
    """What our log says of all keys, and the peer's on the disk."""
    return channel.own.state.facts.keys, durable_rotations(channel.peer)


class Rotator:
    """The rotations of one node."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._identity = books.identity
        self._one = trio.Lock()  # numbers are given one after the other
        with books.store.read() as txn:
            row = txn.get("meta", _ROW)
        self._wanted = _decode(row) if row else {}
        self._seen: dict[Channel, _Keys] = {}  # what was followed

    async def rotate(self, job: Job, overlap_us: int) -> list[Rotated]:
        """Give every open channel, and those to come, the next key of a job; durable on return."""
        async with self._one:
            channels = self._open_channels()
            if not channels:
                raise InputError("there is no open channel whose key could change")
            self._check_done(channels, job)
            wanted = Wanted(self._next(job), overlap_us)
            row = msgspec.msgpack.encode({**self._wanted, job: wanted})

            def keep(txn: Txn) -> None:
                txn.put("meta", _ROW, row)

            await self._books.store.commit(keep)
            self._wanted[job] = wanted
            return [await self._rotate(channel, job, wanted) for channel in channels]

    async def rotate_one(self, channel: Channel, job: Job, overlap_us: int) -> Rotated:
        """Give one channel the next key of a job; durable on return."""
        async with self._one:
            if job == "transport":
                raise InputError(
                    "a node has one transport key for all channels", "Leave --channel out"
                )
            if not self._is_open(channel):
                raise InputError("the channel is halted: nothing more is signed in it")
            self._check_done([channel], job)
            return await self._rotate(channel, job, Wanted(self._next(job), overlap_us))

    def hears(self, channel: Channel) -> bool:
        """Whether there is anything for `follow` to do in a channel."""
        # Keys that nobody ever changed need no remembering.
        before = self._seen.get(channel, None if self._wanted else _NO_KEYS)
        return before != _keys_of(channel) and channel.own.state.size > 0 and self._is_open(channel)

    async def follow(self, channel: Channel) -> float:
        """Repeat what the peer rotates, and bring the channel to the keys that are wanted."""
        if not self.hears(channel):
            return WHEN_CALLED
        self._books.note_keys(channel)
        now = _keys_of(channel)
        try:
            await self._repeat(channel)
            await self._catch_up(channel)
            self._seen[channel] = now
        except StoreError as error:
            _log.warning("a change of keys waits for the disk", extra={"reason": error})
            return RETRY_SECONDS
        except TallyError as error:  # the peer took a key that is in use here
            _log.error(
                "the peer's change of keys is not taken",
                extra={"peer": channel.peer_keys.name, "reason": error},
            )
        return WHEN_CALLED

    def _is_open(self, channel: Channel) -> bool:
        return self._books.founding.rows[channel.id].state == "open"

    def _open_channels(self) -> list[Channel]:
        return [channel for channel, _ in self._books.channels.values() if self._is_open(channel)]

    def _check_done(self, channels: list[Channel], job: Job) -> None:
        """Refuse to begin while a peer has not repeated the rotation before, within its overlap."""
        for channel in channels:
            before = waiting(channel, job)
            if before is not None and self._books.clock_us() <= before.old_until:
                raise InputError(
                    f"a rotation of the {job} key is under way: {channel.peer_keys.name} has not"
                    f" repeated number {before.number} yet",
                    "It is done once that node was connected; see tally vkey",
                )

    def _next(self, job: Job) -> int:
        """The number of a key of ours that no channel has had."""
        numbers = [self._number(channel, job) for channel, _ in self._books.channels.values()]
        number = 1 + max([*numbers, self._wanted.get(job, Wanted(0, 0)).number])
        if number >= KEYS_MAX:
            raise InputError(
                f"the seed's {KEYS_MAX} {job} keys are used up", "Make a new home; see docs/keys.md"
            )
        return number

    def _number(self, channel: Channel, job: Job) -> int:
        """Which of the seed's keys a channel has for a job."""
        keys = channel.own.keyring.keys(channel.role, job)
        return self._identity.number_of(job, keys[-1].key) if keys else 0

    async def _catch_up(self, channel: Channel) -> None:
        async with self._one:
            for job, wanted in self._wanted.items():
                if self._number(channel, job) < wanted.number:
                    await self._rotate(channel, job, wanted)

    async def _rotate(self, channel: Channel, job: Job, wanted: Wanted) -> Rotated:
        ring = channel.own.keyring
        until_us = min(self._books.clock_us() + wanted.overlap_us, TIME_MAX_US)
        record = self._record(channel, ring, job, wanted.number, until_us)
        await channel.append_own(record)
        return Rotated(channel, job, record.number, record.key, until_us)

    def _record(
        self, channel: Channel, ring: Keyring, job: Job, number: int, until_us: int
    ) -> Rotation:
        role = channel.role
        new = self._identity.signer(job, number)
        certificate = b""
        if job == "transport":
            certificate = certificate_der(self._identity.name, new)
        unsigned = Rotation(
            role,
            job,
            ring.number(role, job) + 1,
            bytes(new.verify_key),
            until_us,
            bytes(64),
            certificate,
            channel.now_recorded_at(),
        )
        signer = channel.log_signer(ring)
        return make_rotation(channel.terms, unsigned, signer, None if certificate else new)

    async def _repeat(self, channel: Channel) -> None:
        """Say in our log what the peer's log says of the peer's keys, in the same order."""
        role = channel.peer.role
        for one in durable_rotations(channel.peer):
            known = channel.own.keyring.number(role, one.job)
            if one.party == role and one.number > known:
                record = channel.peer.record(one.index)
                assert isinstance(record, Rotation)
                ours = msgspec.structs.replace(record, recorded_at=channel.now_recorded_at())
                await channel.append_own(ours)
                _log.info(
                    "the peer has a new key",
                    extra={"peer": channel.peer_keys.name, "job": one.job, "number": one.number},
                )
