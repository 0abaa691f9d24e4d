"""Passthrough: whether what a reseller bought upstream is what it sold downstream.

A reseller is the consumer of one channel and the provider of others. What it bought and what it
sold are the payable quantities of balance lines; a mapping says which subjects upstream are sold as
which downstream. For each such *resale* and meter the difference, sold minus bought, is taken apart
into classes that add up to it exactly:

    late                   counted in another period on one side
    corrected              corrected after its period was closed, on one side
    disputed               taken off by disputes on one side
    rounding               the two scales differ, and so little is lost between them
    own-use                the mapping says that it was not bought to be sold
    not-resold             there is nothing downstream that it was sold as
    sold-without-purchase  there is nothing upstream that it was bought as
    unmapped               a subject that the mapping does not name
    unexplained            what is left

The last four are for people to look into; the others settle by themselves. Integers only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tallystick.protocol.quantities import format_quantity

Class = Literal[
    "late",
    "corrected",
    "disputed",
    "rounding",
    "own-use",
    "not-resold",
    "sold-without-purchase",
    "unmapped",
    "unexplained",
]
CLASSES: tuple[Class, ...] = (
    "late",
    "corrected",
    "disputed",
    "rounding",
    "own-use",
    "not-resold",
    "sold-without-purchase",
    "unmapped",
    "unexplained",
)
OPEN_CLASSES: frozenset[Class] = frozenset(
    ("not-resold", "sold-without-purchase", "unmapped", "unexplained")
)

# Where a line counts: in the period and of it; in it, but of another; of it, but in another.
Place = Literal["own", "in", "out"]
Kind = Literal["resale", "own-use", "unmapped"]


@dataclass(frozen=True, slots=True)
class Amount:
    """A balance line on one side, taken apart: `counted + corrected + disputed` is what is payable,
    in the line's scale. `corrected` is what corrections of closed periods did, `disputed` what
    disputes did.
    """

    channel: str
    meter: str
    subject: str
    place: Place
    counted: int
    corrected: int
    disputed: int
    deltas: int
    scale: int

    @property
    def payable(self) -> int:
        """What is payable of it in the period."""
        return 0 if self.place == "out" else self.counted + self.corrected + self.disputed


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
    """One side's sums in a group, in the common scale."""

    total: int = 0  # payable in the period
    true: int = 0  # counted of the period, wherever
    disputed: int = 0
    late: int = 0  # of other periods in it, less what of it is in others
    corrected: int = 0  # likewise
    lines: int = 0  # that are of the period
    deltas: dict[int, int] = field(default_factory=dict)  # in these, by the lines' scale

    def add(self, amount: Amount, factor: int) -> None:
        """Take a line in."""
        counted, corrected, disputed = (
            part * factor for part in (amount.counted, amount.corrected, amount.disputed)
        )
        if amount.place != "out":
            self.total += counted + corrected + disputed
            self.disputed += disputed
        if amount.place != "in":
            self.true += counted + corrected
            self.lines += 1
            self.deltas[amount.scale] = self.deltas.get(amount.scale, 0) + amount.deltas
        if amount.place != "own":
            sign = 1 if amount.place == "in" else -1
            self.late += sign * counted
            self.corrected += sign * corrected


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
        return not any(self.classes.get(one) for one in OPEN_CLASSES)

    def text(self, quantity: int) -> str:
        """A quantity of it as people write it."""
        return format_quantity(quantity, self.meter.scale)


def compare_sides(
    mapping: ResaleMap,
    meters: Sequence[ResoldMeter],
    bought: Iterable[Amount],
    sold: Iterable[Amount],
) -> list[Group]:
    """Every group of the meters, in their order and then by name; each line of these meters is in
    exactly one.
    """
    sorter = Sorter(mapping)
    places = (
        {meter.upstream: place for place, meter in enumerate(meters)},
        {meter.downstream: place for place, meter in enumerate(meters)},
    )
    groups: dict[tuple[int, Name], Group] = {}
    sides: dict[tuple[int, Name], tuple[_Side, _Side]] = {}
    named = [(0, amount, sorter.upstream(amount.subject)) for amount in bought]
    named += [(1, amount, sorter.downstream(amount.channel, amount.subject)) for amount in sold]
    for which, amount, name in named:
        place = places[which].get(amount.meter)
        if place is None:
            continue
        key = (place, name)
        group = groups.setdefault(key, Group(name, meters[place]))
        factor = 10 ** (group.meter.scale - amount.scale)
        sides.setdefault(key, (_Side(), _Side()))[which].add(amount, factor)
        parts = group.downstream if which else group.upstream
        part = (amount.channel, amount.subject)
        parts[part] = parts.get(part, 0) + amount.payable * factor
    for key, group in groups.items():
        up, down = sides[key]
        group.bought, group.sold = up.total, down.total
        group.classes = _classes(group, up, down)
    return [groups[key] for key in sorted(groups, key=_order)]


def _order(key: tuple[int, Name]) -> tuple[int, bool, int, str]:
    """By meter; the map's resales first, in its order, then subjects by name."""
    place, name = key
    return (place, name.place < 0, name.place, name.subject)


def _classes(group: Group, up: _Side, down: _Side) -> dict[Class, int]:
    """What the difference is made of; classes of nothing are left out."""
    found: dict[Class, int]
    if group.name.kind != "resale":
        found = {group.name.kind: down.total - up.total}
    else:
        found = {
            "late": down.late - up.late,
            "corrected": down.corrected - up.corrected,
            "disputed": down.disputed - up.disputed,
        }
        rest = down.true - up.true
        if not down.lines:
            found["not-resold"] = rest
        elif not up.lines:
            found["sold-without-purchase"] = rest
        else:
            found["rounding"] = _rounding(rest, group.meter.scale, up.deltas, down.deltas)
            found["unexplained"] = rest - found["rounding"]
    return {name: found[name] for name in CLASSES if found.get(name)}


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
