"""The events behind what is to be looked into: ids of which bought and sold are not the same.

Who sells events under the ids under which they were bought can tell which are missing. The logs are
read twice: first for what each id comes to, kept as 17 bytes an event; then for those ids alone of
which something is left. A row is one id; the rows of a subject add up to what of its usage of the
period differs in the end, whatever came late, corrections included and disputes left out.
"""

from __future__ import annotations

import csv
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tallystick.node.corrected import corrected
from tallystick.node.files import whole_file
from tallystick.node.formulas import shown_as_text
from tallystick.node.logs import ChannelLog
from tallystick.node.passthrough.checking import Passthrough
from tallystick.node.passthrough.gathering import Gathered
from tallystick.node.store.idindex import fingerprints
from tallystick.protocol.errors import InputError
from tallystick.protocol.passthrough import Group, Name, Sorter
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Delta
from tallystick.protocol.statement import line_scales

DIFFERING_MAX = 1_000_000  # ids that are written
COLUMNS = (
    "meter", "bought_as", "sold_as", "customer", "id", "bought", "sold", "difference",
    "occurred_at",
)  # fmt: skip

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UP, _DOWN = 1, 2  # flags of an id: on which sides it is
_64_BITS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: how many ids differ, and how many are on both sides."""

    ids: int
    shared: int


@dataclass(frozen=True, slots=True)
class _Event:
    """A delta of one side in a group that is to be looked into, as corrected, in its scale."""

    group: Group
    downstream: bool
    customer: str
    delta: Delta
    quantity: int


@dataclass(slots=True)
class _Row:
    """What there is of one id."""

    group: Group
    bought: int = 0
    sold: int = 0
    subjects: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    customers: set[str] = field(default_factory=set)
    occurred_at: int = 0

    def add(self, event: _Event) -> None:
        """Take a delta in."""
        self.subjects[event.downstream].add(event.delta.subject)
        self.occurred_at = min(self.occurred_at or event.delta.occurred_at, event.delta.occurred_at)
        if event.downstream:
            self.sold += event.quantity
            self.customers.add(event.customer)
        else:
            self.bought += event.quantity


def write_events(path: Path, found: Passthrough) -> Written:
    """Write the file, whole or not at all. `InputError` if too many ids differ."""
    groups = {
        (group.meter.upstream, group.meter.downstream, group.name): group
        for group in found.groups
        if not group.settled
    }
    seed = secrets.randbits(64)
    differing, shared = _differing(found, groups, seed)
    rows: dict[tuple[int, str], _Row] = {}
    if differing:
        for event, print_ in _events(found, groups, seed):
            if print_ in differing:
                key = (id(event.group), event.delta.id)
                rows.setdefault(key, _Row(event.group)).add(event)
    left = [(key[1], row) for key, row in rows.items() if row.bought != row.sold]
    places = {id(group): place for place, group in enumerate(found.groups)}
    left.sort(key=lambda one: (places[id(one[1].group)], one[0]))
    with whole_file(path) as made, made.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(name, row) for name, row in left)
    return Written(len(left), shared)


_Groups = dict[tuple[str | None, str | None, Name], Group]


def _meter(group: Group) -> str:
    return group.meter.upstream or group.meter.downstream or ""


def _cells(name: str, row: _Row) -> list[str]:
    bought_as, sold_as = (" ".join(sorted(subjects)) for subjects in row.subjects)
    scale = row.group.meter.scale
    amounts = (row.bought, row.sold, row.sold - row.bought)
    return [
        _meter(row.group),
        shown_as_text(bought_as),
        shown_as_text(sold_as),
        " ".join(sorted(row.customers)),
        shown_as_text(name),
        *(format_quantity(amount, scale) for amount in amounts),
        (_EPOCH + timedelta(microseconds=row.occurred_at)).isoformat().replace("+00:00", "Z"),
    ]


def _differing(found: Passthrough, groups: _Groups, seed: int) -> tuple[set[int], int]:
    """The fingerprints of ids of which something is left, and how many ids are on both sides."""
    prints, left, sides = bytearray(), bytearray(), bytearray()
    for event, print_ in _events(found, groups, seed):
        quantity = event.quantity if event.downstream else -event.quantity
        prints += print_.to_bytes(8, "little")
        left += (quantity & _64_BITS).to_bytes(8, "little")  # sums need no more than the rest
        sides.append(_DOWN if event.downstream else _UP)
    if not prints:
        return set(), 0
    all_prints: npt.NDArray[np.uint64] = np.frombuffer(prints, "<u8")
    order = np.argsort(all_prints, kind="stable")
    ordered = all_prints[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sums = np.add.reduceat(np.frombuffer(left, "<u8")[order], begins)
    flags = np.bitwise_or.reduceat(np.frombuffer(sides, np.uint8)[order], begins)
    shared = int(np.count_nonzero(flags == _UP | _DOWN))
    differing = ordered[begins][sums != 0]
    if len(differing) > DIFFERING_MAX:
        raise InputError(
            f"{len(differing):,} ids differ; {DIFFERING_MAX:,} can be written",
            "Choose a shorter period, or fewer subjects in the mapping",
        )
    return set(differing.tolist()), shared


def _events(found: Passthrough, groups: _Groups, seed: int) -> Iterator[tuple[_Event, int]]:
    """The deltas of the span's usage in these groups on both sides, each with the fingerprint of
    its group and id.
    """
    numbers = {id(group): str(number).encode() for number, group in enumerate(groups.values())}
    sorter = Sorter(found.mapping)
    for one in (found.upstream, *found.downstream):
        for event in _of_channel(one, one is not found.upstream, groups, sorter):
            name = numbers[id(event.group)] + b"\0" + event.delta.id.encode()
            yield event, fingerprints([name], seed)[0]


def _of_channel(
    one: Gathered, downstream: bool, groups: _Groups, sorter: Sorter
) -> Iterator[_Event]:
    scales = line_scales(one.channel.terms)
    by_meter: dict[str, dict[Name, Group]] = {}
    for (up, down, name), group in groups.items():
        meter = down if downstream else up
        if meter is not None:
            by_meter.setdefault(meter, {})[name] = group
    for log in (one.channel.provider_log, one.channel.consumer_log):
        own = {
            meter.name: meter
            for meter in one.channel.terms.meters
            if meter.name in by_meter and meter.payable in (log.role, "minimum")
        }
        lower = next((name for name, meter in own.items() if meter.payable == "minimum"), None)
        if lower is not None:
            raise InputError(
                f"of {lower} the lower of two sums is payable, which is not made of events",
                "Leave it out of the meters in the mapping",
            )
        if not own:
            continue
        now = corrected(log)
        for delta in _deltas(log, one):
            named = by_meter.get(delta.meter) if delta.meter in own else None
            if named is None:
                continue
            subject = delta.subject
            name = sorter.downstream(one.id, subject) if downstream else sorter.upstream(subject)
            if name not in named:
                continue
            group = named[name]
            quantity = now.get((delta.meter, delta.id), delta.quantity)
            if own[delta.meter].aggregate == "count":
                quantity = 0 if quantity is None else 1
            factor = 10 ** (group.meter.scale - scales[delta.meter])
            yield _Event(group, downstream, one.peer, delta, (quantity or 0) * factor)


def _deltas(log: ChannelLog, one: Gathered) -> Iterator[Delta]:
    """The deltas of a log that belong to the span."""
    for _, records in log.records(0, log.durable_size):
        for record in records:
            if type(record) is Delta and one.span.start_us <= record.occurred_at < one.span.end_us:
                yield record
