"""Passthrough: whether what a reseller bought upstream is what it sold downstream.

A reseller is the consumer of one channel and the provider of others. What it bought and what it
sold are the payable quantities of balance lines; a mapping says which subjects upstream are sold as
which downstream. For each such *resale* and meter the difference, sold minus bought, is taken apart
into classes that add up to it exactly:

    late                   one side counts it in another period
    corrected              one side was corrected after it was closed, so that both agree in the end
    disputed               taken off by disputes on one side
    rounding               the scales differ, and so little is lost between them
    own-use                the mapping says that it was not bought to be sold
    not-resold             nothing downstream is what it was sold as
    sold-without-purchase  nothing upstream is what it was bought as
    not-passed-on          one side was corrected after it was closed, and the other was not
    unmapped               a subject that the mapping does not name
    unexplained            what is left

The last five are for people to look into; the others settle by themselves. Integers only.

Usage is judged by the period that it is of, over all periods in which it counts: of what it adds to
the difference here, that is open by which both sides differ in the end; the rest is timing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from tallystick.protocol.quantities import format_quantity

Class = Literal[
    "late",
    "corrected",
    "disputed",
    "rounding",
    "own-use",
    "not-resold",
    "sold-without-purchase",
    "not-passed-on",
    "unmapped",
    "unexplained",
]
CLASSES: tuple[Class, ...] = get_args(Class)
OPEN_CLASSES = frozenset(CLASSES[CLASSES.index("not-resold") :])

Kind = Literal["resale", "own-use", "unmapped"]


@dataclass(frozen=True, slots=True)
class Amount:
    """A balance line on one side, taken apart: `counted + corrected + disputed` is what is payable,
    in the line's scale. `corrected` is what corrections of closed periods did, `disputed` what
    disputes did. `of` is the period that it belongs to; it counts in the one that is looked at if
    it is `here`.
    """

    channel: str
    meter: str
    subject: str
    of: str
    here: bool
    counted: int
    corrected: int
    disputed: int
    deltas: int
    scale: int

    @property
    def payable(self) -> int:
        """What is payable of it."""
        return self.counted + self.corrected + self.disputed


@dataclass(frozen=True, slots=True)
class ResoldMeter:
    """A meter on both sides: its names (None: that side has none), its unit, and the decimal places
    in which all its lines are exact.
    """

    upstream: str | None
    downstream: str | None
    unit: str
    scale: int


@dataclass(frozen=True, slots=True)
class Resale:
    """Upstream subjects that are sold together, and what as: pairs of a channel and a subject.

    `ANY` stands for every subject that nothing else names: upstream, or of a channel.
    """

    upstream: tuple[str, ...]
    downstream: tuple[tuple[str, str], ...]


ANY = "*"


@dataclass(frozen=True, slots=True)
class ResaleMap:
    """Which subjects are sold as which. What it does not name is sold under its own name if
    `same_names`, else it is unmapped; `own_use` are upstream subjects that are not sold.
    """

    resales: tuple[Resale, ...] = ()
    own_use: tuple[str, ...] = ()
    same_names: bool = True


@dataclass(frozen=True, slots=True)
class Name:
    """What a group is: a resale of the map by its place, or a subject by its name."""

    kind: Kind
    place: int = -1
    subject: str = ""


class Sorter:
    """Tells of each subject which group it belongs to."""

    def __init__(self, mapping: ResaleMap) -> None:
        self._upstream: dict[str, Name] = {
            name: Name("own-use", -1, name) for name in mapping.own_use
        }
        self._downstream: dict[tuple[str, str], Name] = {}
        self._rest: Kind = "resale" if mapping.same_names else "unmapped"
        for place, resale in enumerate(mapping.resales):
            name = Name("resale", place)
            self._upstream |= dict.fromkeys(resale.upstream, name)
            self._downstream |= dict.fromkeys(resale.downstream, name)

    def upstream(self, subject: str) -> Name:
        """The group of an upstream subject."""
        found = self._upstream.get(subject) or self._upstream.get(ANY)
        return found or Name(self._rest, -1, subject)

    def downstream(self, channel: str, subject: str) -> Name:
        """The group of a subject of a downstream channel."""
        found = self._downstream.get((channel, subject)) or self._downstream.get((channel, ANY))
        return found or Name(self._rest, -1, subject)


@dataclass(slots=True)
class _Side:
    """One side's sums in a group of what belongs to one period, in the common scale."""

    here: int = 0  # that counts in the period which is looked at
    corrected_here: int = 0  # of it, by corrections
    corrected_elsewhere: int = 0
    true: int = 0  # that counts anywhere
    deltas: dict[int, int] = field(default_factory=dict)  # by the lines' scale

    def add(self, amount: Amount, factor: int) -> None:
        """Take a line in."""
        counted, corrected = amount.counted * factor, amount.corrected * factor
        self.true += counted + corrected
        if amount.here:
            self.here += counted + corrected
            self.corrected_here += corrected
        else:
            self.corrected_elsewhere += corrected
        self.deltas[amount.scale] = self.deltas.get(amount.scale, 0) + amount.deltas


Parts = dict[tuple[str, str], int]  # by channel and subject


@dataclass(slots=True)
class Group:
    """What was bought and sold of one meter in one resale. Quantities are in the meter's common
    scale; `upstream` and `downstream` say how much of it is of which channel and subject.
    """

    name: Name
    meter: ResoldMeter
    bought: int = 0
    sold: int = 0
    classes: dict[Class, int] = field(default_factory=dict)
    upstream: Parts = field(default_factory=dict)
    downstream: Parts = field(default_factory=dict)

    @property
    def difference(self) -> int:
        """By how much more was sold than bought: the sum of the classes."""
        return self.sold - self.bought

    @property
    def settled(self) -> bool:
        """Whether nothing is left for people to look into."""
        return not OPEN_CLASSES & self.classes.keys()

    def text(self, quantity: int) -> str:
        """A quantity of it as people write it."""
        return format_quantity(quantity, self.meter.scale)


@dataclass(slots=True)
class _Sums:
    """A group while lines come in: both sides by the period that they belong to."""

    group: Group
    by_period: dict[str, tuple[_Side, _Side]] = field(default_factory=dict)
    disputed: int = 0  # sold minus bought

    def add(self, which: int, amount: Amount) -> None:
        """Take a line of one side in: 0 upstream, 1 downstream."""
        group = self.group
        factor = 10 ** (group.meter.scale - amount.scale)
        sides = self.by_period.setdefault(amount.of, (_Side(), _Side()))
        sides[which].add(amount, factor)
        if not amount.here:
            return
        payable = amount.payable * factor
        part = (amount.channel, amount.subject)
        if which:
            group.sold += payable
            group.downstream[part] = group.downstream.get(part, 0) + payable
            self.disputed += amount.disputed * factor
        else:
            group.bought += payable
            group.upstream[part] = group.upstream.get(part, 0) + payable
            self.disputed -= amount.disputed * factor

    def finish(self, label: str) -> Group:
        """The group with its classes; those of nothing are left out."""
        group, kind = self.group, self.group.name.kind
        found: dict[Class, int] = {}
        if kind == "resale":
            found["disputed"] = self.disputed
            for period, (up, down) in self.by_period.items():
                for name, quantity in _split(period == label, up, down, group.meter.scale):
                    found[name] = found.get(name, 0) + quantity
        else:
            found[kind] = group.difference
        group.classes = {name: found[name] for name in CLASSES if found.get(name)}
        return group


def compare_sides(
    label: str,
    mapping: ResaleMap,
    meters: Sequence[ResoldMeter],
    bought: Iterable[Amount],
    sold: Iterable[Amount],
) -> list[Group]:
    """Every group of the meters in which there is something in the period of a label, in the
    meters' order and then by name. Each line of these meters that is here is in exactly one.
    """
    sorter = Sorter(mapping)
    places = (
        {meter.upstream: place for place, meter in enumerate(meters)},
        {meter.downstream: place for place, meter in enumerate(meters)},
    )
    named = [(0, amount, sorter.upstream(amount.subject)) for amount in bought]
    named += [(1, amount, sorter.downstream(amount.channel, amount.subject)) for amount in sold]
    found: dict[tuple[int, Name], _Sums] = {}
    concerned = set()
    for which, amount, name in named:
        place = places[which].get(amount.meter)
        if place is None:
            continue
        key = (place, name)
        found.setdefault(key, _Sums(Group(name, meters[place]))).add(which, amount)
        if amount.here or amount.of == label:
            concerned.add(key)
    groups = [found[key].finish(label) for key in sorted(concerned, key=_order)]
    return [group for group in groups if group.bought or group.sold or group.classes]


def _order(key: tuple[int, Name]) -> tuple[int, bool, int, str]:
    """By meter; the map's resales first, in its order, then subjects by name."""
    place, name = key
    return (place, name.place < 0, name.place, name.subject)


def _between(quantity: int, bound: int) -> int:
    """The quantity, or of it what lies between zero and a bound."""
    return max(min(quantity, max(bound, 0)), min(bound, 0))


def _split(own: bool, up: _Side, down: _Side, scale: int) -> Iterable[tuple[Class, int]]:
    """What usage of one period adds to the difference, by classes; `own` if it is the period that
    is looked at.
    """
    here = down.here - up.here
    in_the_end = down.true - up.true
    left = _between(in_the_end, here)
    timing = here - left
    corrected_here = down.corrected_here - up.corrected_here
    corrected_later = down.corrected_elsewhere - up.corrected_elsewhere
    corrected = _between(-corrected_later if own else corrected_here, timing)
    yield "corrected", corrected
    yield "late", timing - corrected
    if not down.deltas:
        yield "not-resold", left
    elif not up.deltas:
        yield "sold-without-purchase", left
    else:
        rounding = _between(_rounding(in_the_end, scale, up.deltas, down.deltas), left)
        not_passed_on = _between(corrected_here, left - rounding)
        yield "rounding", rounding
        yield "not-passed-on", not_passed_on
        yield "unexplained", left - rounding - not_passed_on


def _rounding(rest: int, scale: int, *deltas: Mapping[int, int]) -> int:
    """How much of what is left is rounding to a coarser scale than the finest: all of it, if half a
    unit of its own scale for each coarser delta is enough, else what is less than a unit.

    `deltas` are both sides' by their scale.
    """
    scales = set().union(*deltas)
    coarser = scales - {max(scales)}
    if not coarser:
        return 0
    units: int = sum(
        count * 10 ** (scale - own)
        for side in deltas
        for own, count in side.items()
        if own in coarser
    )
    if 2 * abs(rest) <= units:
        return rest
    unit: int = 10 ** (scale - min(coarser))
    below = abs(rest) % unit
    return below if rest > 0 else -below


def sum_classes(groups: Iterable[Group]) -> dict[Class, int]:
    """The classes of several groups of one meter together."""
    found: dict[Class, int] = {}
    for group in groups:
        for name, quantity in group.classes.items():
            found[name] = found.get(name, 0) + quantity
    return {name: found[name] for name in CLASSES if name in found}
