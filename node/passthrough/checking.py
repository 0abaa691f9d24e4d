"""Check a passthrough: choose the channels, gather what they say of a span, compare both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tallystick.node.books import Books
from tallystick.node.passthrough.gathering import Gathered, gather
from tallystick.node.passthrough.mapping import SAME_NAMES, load_passthrough_map
from tallystick.protocol.errors import InputError, UnknownName
from tallystick.protocol.passthrough import Group, ResaleMap, ResoldMeter, compare_sides
from tallystick.protocol.records import Meter, Role, Terms
from tallystick.protocol.statement import line_scales, meter_units
from tallystick.protocol.terms import meter_named


@dataclass(frozen=True, slots=True)
class Passthrough:
    """What was bought and sold in a span. `left_out` are meters that are not compared, and why."""

    label: str
    upstream: Gathered
    downstream: list[Gathered]
    mapping: ResaleMap
    groups: list[Group]
    left_out: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether nothing is left for people to look into."""
        return all(group.settled for group in self.groups)

    def peer_of(self, channel: str) -> str:
        """Who is on the other side of a channel, by its id in hex."""
        return next(one.peer for one in (self.upstream, *self.downstream) if one.id == channel)


def check_passthrough(
    books: Books,
    upstream: str | None,
    downstream: Sequence[str],
    label: str,
    mapping_file: Path | None,
) -> Passthrough:
    """The passthrough of a span. Channels are chosen by their peer or the beginning of their id:
    one upstream, and all downstream ones if none is named.
    """
    bought = _upstream(books, upstream)
    sold = list(
        dict.fromkeys(key for name in downstream for key in _chosen(books, name, "provider"))
    )
    sold = sold or _of_role(books, "provider")
    if not sold:
        raise UnknownName(
            "nothing is sold from this home: it is the provider of no channel", "See tally channels"
        )

    def among_sold(name: str) -> list[str]:
        return [key.hex() for key in _chosen(books, name, "provider") if key in sold]

    mapping = load_passthrough_map(mapping_file, among_sold) if mapping_file else SAME_NAMES
    source = gather(*books.channels[bought], label)
    sinks = [gather(*books.channels[key], label) for key in sold]
    terms = [one.channel.terms for one in sinks]
    meters, left_out = _pair_meters(source.channel.terms, terms, mapping.meters)
    amounts = [amount for one in sinks for amount in one.amounts]
    groups = compare_sides(source.span.label, mapping.resales, meters, source.amounts, amounts)
    return Passthrough(source.span.label, source, sinks, mapping.resales, groups, left_out)


def _of_role(books: Books, role: Role) -> list[bytes]:
    return [key for key, (channel, _) in books.channels.items() if channel.role == role]


def _chosen(books: Books, name: str, role: Role) -> list[bytes]:
    """The channels in which we have a role, by their peer's name or the beginning of their id."""
    ours = _of_role(books, role)
    begun = name.lower()
    found = [key for key in ours if begun and key.hex().startswith(begun)]
    found = found or [key for key in ours if books.founding.rows[key].peer == name]
    if not found:
        known = ", ".join(_shown(books, ours)) or "none"
        raise UnknownName(
            f"we are the {role} of no channel that matches {name!r}", f"Those there are: {known}"
        )
    return found


def _shown(books: Books, keys: Sequence[bytes]) -> list[str]:
    return [f"{key.hex()[:8]} ({books.founding.rows[key].peer})" for key in keys]


def _upstream(books: Books, name: str | None) -> bytes:
    found = _chosen(books, name, "consumer") if name else _of_role(books, "consumer")
    if not found:
        raise UnknownName(
            "nothing is bought here: this home is the consumer of no channel", "See tally channels"
        )
    if len(found) > 1:
        raise InputError(
            f"there are several channels upstream: {', '.join(_shown(books, found))}",
            "Choose one with --upstream and the beginning of its id, or its peer's name",
        )
    return found[0]


def _pair_meters(
    upstream: Terms, downstream: Sequence[Terms], named: dict[str, str] | None
) -> tuple[list[ResoldMeter], dict[str, str]]:
    """The meters that are compared, and those that are not and why."""
    ours = {meter.name for meter in upstream.meters}
    theirs = {meter.name for terms in downstream for meter in terms.meters}
    left_out: dict[str, str] = {}
    pairs: dict[str, tuple[str | None, str | None]]
    if named is None:
        pairs = {
            name: (name if name in ours else None, name if name in theirs else None)
            for name in sorted(ours | theirs)
        }
    else:
        pairs = {up: (up, down) for up, down in named.items()}
        for bought, sold in named.items():
            meter_named(upstream, bought)  # says which there are
            if sold not in theirs:
                known = ", ".join(sorted(theirs))
                raise InputError(f"no channel downstream has a meter {sold!r}", f"Meters: {known}")
        others = sorted((ours - named.keys()) | (theirs - set(named.values())))
        left_out = dict.fromkeys(others, "the mapping does not name it")
    meters = []
    for title, (up, down) in pairs.items():
        found = [(upstream, meter) for meter in upstream.meters if meter.name == up]
        found += [(terms, m) for terms in downstream for m in terms.meters if m.name == down]
        if any(meter.aggregate == "max" for _, meter in found):
            left_out[title] = "it is a highest value, and highest values do not add up"
            continue
        meters.append(_resold(up, down, found))
    return meters, left_out


def _resold(up: str | None, down: str | None, found: Sequence[tuple[Terms, Meter]]) -> ResoldMeter:
    """A meter as all these terms have it; `InputError` if they count different things."""
    units = [(meter_units(terms)[meter.name], terms, meter) for terms, meter in found]
    unit = units[0][0]
    for other, terms, meter in units:
        if other != unit:
            between = f"{terms.provider.name} and {terms.consumer.name}"
            raise InputError(
                f"{meter.name} is in {other} between {between}, and in {unit} upstream or before",
                "Name the meters to compare in the mapping, under meters",
            )
    scale = max(line_scales(terms)[meter.name] for terms, meter in found)
    return ResoldMeter(up, down, unit, scale)
