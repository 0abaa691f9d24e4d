"""The proof that what a customer is billed was bought, and the seal on it for the customer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tallystick.node.passthrough.checking import Passthrough
from tallystick.node.passthrough.gathering import Gathered
from tallystick.protocol.errors import InputError, ProofError, UnknownName
from tallystick.protocol.keys import Vkey
from tallystick.protocol.passthrough import Group, Parts
from tallystick.protocol.passthrough_proof import (
    Direction,
    Section,
    build_proof,
    build_section,
    encode_passthrough,
    proof_digest,
    seal_of,
)
from tallystick.protocol.records import ROLES
from tallystick.protocol.statement import decode_line


@dataclass(frozen=True, slots=True)
class ProvedSale:
    """The two files, the digest that ties them, the customers whose lines the proof shows, and the
    keys that verify it: those of the purchase, and those of the sales.
    """

    stem: str
    proof: bytes
    seal: bytes
    digest: bytes
    customers: tuple[str, ...]
    bought_by: tuple[Vkey, ...]
    sold_by: tuple[Vkey, ...]


def prove_sale(found: Passthrough, name: str) -> ProvedSale:
    """The proof of a line downstream, `CUSTOMER/METER/SUBJECT`; the customer by its name or by the
    beginning of the channel's id. What it is sold together with is in it as well.
    """
    customer, meter, group = _group_of(found, name)
    sellers = {id for id, _ in group.downstream}
    sides = [found.upstream, *(one for one in found.downstream if one.id in sellers)]
    _check(found, group, sides)
    sections = list(_sections("bought", found.upstream, group.meter.upstream, group.upstream))
    for one in sides[1:]:
        sections += _sections("sold", one, group.meter.downstream, group.downstream)
    proof = encode_passthrough(build_proof(found.label, sections))
    seal = encode_passthrough(seal_of(proof, customer.channel.id))
    subject = name.split("/", 2)[2]
    return ProvedSale(
        f"{found.label}-{customer.peer}-{meter}-{subject}",
        proof,
        seal,
        proof_digest(proof),
        tuple(dict.fromkeys(one.peer for one in sides[1:])),
        _keys(sides[:1], sections),
        _keys(sides[1:], sections),
    )


def _group_of(found: Passthrough, name: str) -> tuple[Gathered, str, Group]:
    """The customer's channel, the meter and the group of a line."""
    parts = name.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise InputError(
            f"{name!r} is no line of a customer",
            "Write CUSTOMER/METER/SUBJECT, as in beta.example/tokens/project-7",
        )
    who, meter, subject = parts
    chosen = [one for one in found.downstream if one.id.startswith(who.lower())]
    chosen = chosen or [one for one in found.downstream if one.peer == who]
    if not chosen:
        known = ", ".join(dict.fromkeys(one.peer for one in found.downstream))
        raise UnknownName(f"nothing is sold to {who!r}", f"Customers: {known}")
    for one in chosen:
        for group in found.groups:
            if group.meter.downstream == meter and (one.id, subject) in group.downstream:
                return one, meter, group
    raise UnknownName(
        f"{found.label} has no line {meter}/{subject} of {who}",
        f"See: tally derive --period {found.label} --channel {who}",
    )


def _check(found: Passthrough, group: Group, sides: list[Gathered]) -> None:
    """Refuse what cannot be proved, and say why."""
    for one in sides:
        if one.open:
            raise InputError(
                f"{one.open[0].label} is not closed with {one.peer}, and only what both signed is"
                " proved",
                f"Close it: tally checkpoint {one.open[0].label} --channel {one.peer}",
            )
        if (one.span.start_us, one.span.end_us) != (
            found.upstream.span.start_us,
            found.upstream.span.end_us,
        ):
            raise InputError(
                f"{found.label} is another time with {one.peer} than with {found.upstream.peer}:"
                " their terms have other time zones"
            )
    if group.name.kind != "resale" or group.difference:
        bought, sold = group.text(group.bought), group.text(group.sold)
        raise ProofError(
            f"{bought} {group.meter.unit} was bought, {sold} was sold: they are not the same",
            "See why with tally passthrough, without --prove",
        )


def _sections(
    direction: Direction, one: Gathered, meter: str | None, parts: Parts
) -> Iterator[Section]:
    """The group's lines of a channel, by the closed periods in which they count."""
    for period in one.span.periods:
        row = one.closer.row_of(period)
        if row is None:
            continue
        statement = [decode_line(data) for data in row.lines]
        lines = [
            line for line in statement if line.meter == meter and (one.id, line.subject) in parts
        ]
        if lines:
            yield build_section(direction, statement, lines, row.note)


def _keys(sides: list[Gathered], sections: list[Section]) -> tuple[Vkey, ...]:
    """The keys of these channels' logs that signed one of the checkpoints."""
    ids = {
        (signature.name, signature.key_id)
        for section in sections
        for signature in section.note.signatures
    }
    return tuple(
        vkey
        for one in sides
        for role in ROLES
        for vkey in one.channel.own.keyring.log_vkeys(role)
        if (vkey.name, vkey.id) in ids
    )
