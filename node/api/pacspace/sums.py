"""What a customer used: sums over the records that both parties have signed for.

Balances by period are at hand for scopes that whole periods make up; others are counted record by
record, exactly as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio

from tallystick.node.api.app import World
from tallystick.node.api.pacspace.customers import Customer, calendar_of
from tallystick.node.api.pacspace.scopes import Scope
from tallystick.node.api.pacspace.wire import Refusal
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.corrected import corrected as all_corrected
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.protocol.derive import LineKey, Tally
from tallystick.protocol.records import Correction, Delta, Role

AT_ONCE_RECORDS = 2_000  # read without a thread of their own
AT_ONCE_LINES = 5_000
COUNTED_RECORDS_MAX = 5_000_000
SETTLE_SECONDS = 1.0

T = TypeVar("T")


class TooMuch(Exception):
    """More records than can be read while others wait."""


Question = Callable[[Channel, Closer, int], T]  # the last is how many records may be read


@dataclass(frozen=True, slots=True)
class Counted:
    """A total in the meter's scale, with the client's sign, and of how many deltas it is."""

    total: int
    deltas: int

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.total + other.total, self.deltas + other.deltas)

    def __sub__(self, other: Counted) -> Counted:
        return Counted(self.total - other.total, self.deltas - other.deltas)


NOTHING = Counted(0, 0)


@dataclass(frozen=True, slots=True)
class Since:
    """All that a log's first `size` records say of times before `end_us`, if that is given."""

    size: int
    end_us: int | None


async def ask(world: World, key: bytes, question: Question[T]) -> T:
    """The answer to a question about a channel: at once if it is short, else on a thread."""
    channel, closer = world.node.books.channels[key]
    with channel.store.read() as txn:
        few = txn.entries("lines") <= AT_ONCE_LINES
    if few:
        try:
            return question(channel, closer, AT_ONCE_RECORDS)
        except TooMuch:
            pass
    try:
        return await world.reader.ask(
            key, lambda channel, closer: question(channel, closer, COUNTED_RECORDS_MAX)
        )
    except TooMuch:
        raise Refusal(
            400,
            f"this takes reading more than {COUNTED_RECORDS_MAX} records one by one;"
            " ask for whole periods of the channel's calendar, or for less",
            "SCOPE_TOO_WIDE",
        ) from None


async def settle(channel: Channel, size: int) -> None:
    """Wait a little for the peer to co-sign our log up to `size`, if it is there to do so: who
    emitted and asks then finds what it emitted.
    """
    if channel.own.cosigned_size >= size or not channel.live or channel.withheld:
        return
    with trio.move_on_after(SETTLE_SECONDS):
        await channel.wait_cosigned(size)
        await channel.store.commit(_nothing)  # so that the co-signature is on the disk


def _nothing(txn: Txn) -> None:
    """Only its turn counts."""


def settled(customer: Customer, channel: Channel) -> Awaitable[None]:
    """Wait for all that is recorded for a customer."""
    return settle(channel, channel.own.durable_size if customer.ours else 0)


def count(
    customer: Customer, channel: Channel, size: int, scope: Scope | None, budget: int
) -> Counted:
    """What the first `size` records of the customer's log count in a scope."""
    log = customer.log(channel)
    if scope is None or scope.fits(calendar_of(channel)):
        return _sum(customer, _tallies(channel, log, size, budget), scope)
    return _count_each(customer, log, size, scope, budget)


def count_since(customer: Customer, channel: Channel, since: Since, budget: int) -> Counted:
    """What a starting point covers."""
    tallies = _tallies(channel, customer.log(channel), since.size, budget)
    bound = None if since.end_us is None else Scope(-(2**62), since.end_us, None)
    return _sum(customer, tallies, bound)


def count_all(
    customers: Sequence[Customer], channel: Channel, closer: Closer, budget: int
) -> list[Counted]:
    """What is co-signed of each of a channel's customers, of all time, in one go."""
    of_subjects: dict[tuple[Role, str, str], Counted] = {}
    of_meters: dict[tuple[Role, str], Counted] = {}
    for role in {customer.role for customer in customers}:
        log = channel.provider_log if role == "provider" else channel.consumer_log
        for key, tally in _tallies(channel, log, log.cosigned_size, budget).items():
            one = Counted(tally.total, tally.deltas)
            subject, meter = (role, key.meter, key.subject), (role, key.meter)
            of_subjects[subject] = of_subjects.get(subject, NOTHING) + one
            of_meters[meter] = of_meters.get(meter, NOTHING) + one
    counted = []
    for customer in customers:
        of = customer.role, customer.meter.name
        if customer.subject is None:
            found = of_meters.get(of, NOTHING)
        else:
            found = of_subjects.get((*of, customer.subject), NOTHING)
        counted.append(Counted(customer.sign * found.total, found.deltas))
    return counted


def by_period(
    customer: Customer, channel: Channel, size: int, budget: int
) -> list[tuple[int, Counted]]:
    """The same for every period of the channel's calendar, by its start."""
    found: dict[int, Counted] = {}
    for key, tally in _tallies(channel, customer.log(channel), size, budget).items():
        if customer.has(key.meter, key.subject):
            one = Counted(customer.sign * tally.total, tally.deltas)
            found[key.charge_start_us] = found.get(key.charge_start_us, NOTHING) + one
    return sorted((start, counted) for start, counted in found.items() if counted.deltas)


def _sum(customer: Customer, tallies: dict[LineKey, Tally], scope: Scope | None) -> Counted:
    total = deltas = 0
    for key, tally in tallies.items():
        if customer.has(key.meter, key.subject) and (
            scope is None or scope.start_us <= key.charge_start_us < scope.end_us
        ):
            total += tally.total
            deltas += tally.deltas
    return Counted(customer.sign * total, deltas)


def _tallies(channel: Channel, log: ChannelLog, size: int, budget: int) -> dict[LineKey, Tally]:
    behind = log.durable_size - size
    # What changed a highest quantity is found by reading the whole log.
    if behind > budget or (behind and _has_max(channel) and log.durable_size > budget):
        raise TooMuch
    return log.tallies_at(size)


def _has_max(channel: Channel) -> bool:
    return any(meter.aggregate == "max" for meter in channel.terms.meters)


def _count_each(
    customer: Customer, log: ChannelLog, size: int, scope: Scope, budget: int
) -> Counted:
    """The same by looking at every record."""
    if size > budget:
        raise TooMuch
    total = deltas = 0
    now: dict[tuple[str, str], int | None] = {}
    for _, records in log.records(0, size):
        for record in records:
            if type(record) is Delta:
                if _counts(customer, record, scope):
                    total += record.quantity
                    deltas += 1
            elif isinstance(record, Correction) and record.meter == customer.meter.name:
                found = log.find(record.meter, record.id)
                if found is None or not _counts(customer, found[1], scope):
                    continue
                before = now.get((record.meter, record.id), found[1].quantity) or 0
                now[record.meter, record.id] = record.quantity
                total += (record.quantity or 0) - before
                deltas -= record.quantity is None
    return Counted(customer.sign * total, deltas)


def _counts(customer: Customer, delta: Delta, scope: Scope) -> bool:
    return (
        customer.has(delta.meter, delta.subject)
        and scope.start_us <= delta.occurred_at < scope.end_us
    )


def newest(
    customer: Customer,
    channel: Channel,
    size: int,
    wanted: Callable[[int, Delta], bool],
    offset: int,
    limit: int,
    budget: int,
) -> list[tuple[int, Delta, int | None]]:
    """The customer's deltas among the first `size` records, the newest first, with their quantity
    as corrected; those that were voided are left out, as they are in the counts.
    """
    log = customer.log(channel)
    with channel.store.read() as txn:
        if txn.entries("corrections") > budget:
            raise TooMuch
    corrected = all_corrected(log, size)
    found: list[tuple[int, Delta, int | None]] = []
    for seen, (index, delta) in enumerate(_backwards(log, size)):
        if seen >= budget:
            raise TooMuch
        if (
            delta is None
            or not customer.has(delta.meter, delta.subject)
            or not wanted(index, delta)
        ):
            continue
        quantity = corrected.get((delta.meter, delta.id), delta.quantity)
        if quantity is None:
            continue
        if offset:
            offset -= 1
            continue
        if len(found) == limit:
            break
        found.append((index, delta, quantity))
    return found


def _backwards(log: ChannelLog, size: int) -> Iterator[tuple[int, Delta | None]]:
    """Every record below `size`, the newest first; None for what is no delta."""
    while size > 0:
        first, records = log.lookups.batch_around(size - 1)
        for index in range(size - 1, first - 1, -1):
            record = records[index - first]
            yield index, record if type(record) is Delta else None
        size = first
