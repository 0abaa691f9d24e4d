"""Declarations: each party's own totals of a period, committed to before either reveals them.

A `Declaration` record commits: a salted hash, from which nobody learns a total. A `Reveal` opens it
and names the peer's `Declaration` by its digest, so the peer's was there before. Two reveals that
name each other's declaration are a *pair*: neither party can have copied the other's number. What
counts (`declared`) is a pure function of both logs, and so is what an honest node opens next
(`next_opening`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec

from tallystick.protocol.errors import FormatError, InvalidRecord
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.records import (
    Declaration,
    DeclaredTotal,
    Record,
    Reveal,
    Role,
    Terms,
    record_digest,
)
from tallystick.protocol.statement import line_scales
from tallystick.protocol.terms import channel_id

SALT_SIZE = 32
TITLE = b"tallystick declaration v1\n"
_encode = msgspec.msgpack.Encoder().encode

Placed = tuple[int, Record]  # a record's index in its log, and the record


def commitment(
    terms: Terms, role: Role, period: str, salt: bytes, totals: Sequence[DeclaredTotal]
) -> bytes:
    """What a declaration of these totals commits to; nobody else's declaration has the same."""
    said = _encode([period, salt, list(totals)])
    return hashlib.sha256(TITLE + channel_id(terms) + role.encode() + said).digest()


def check_reveal(terms: Terms, role: Role, declaration: Declaration, reveal: Reveal) -> None:
    """Refuse (`InvalidRecord`) a reveal that opens something else than what was committed to."""
    opened = commitment(terms, role, declaration.period, reveal.salt, reveal.totals)
    if opened != declaration.commitment:
        raise InvalidRecord("what it opens is not what its declaration committed to")


def totals_of(terms: Terms, quantities: Mapping[str, int]) -> tuple[DeclaredTotal, ...]:
    """Totals in their one form, of integers in each meter's scale: by meter, sorted."""
    scales = line_scales(terms)
    return tuple(
        DeclaredTotal(meter, format_quantity(quantity, scales[meter]))
        for meter, quantity in sorted(quantities.items())
    )


def read_totals(terms: Terms, totals: Sequence[DeclaredTotal]) -> dict[str, int]:
    """Integers in each meter's scale; `FormatError` if the totals are not in their one form."""
    scales = line_scales(terms)
    found: dict[str, int] = {}
    for row in totals:
        if row.meter not in scales:
            raise FormatError(f"the terms have no meter {row.meter!r}")
        found[row.meter] = parse_total(row.total, scales[row.meter])
    if [row.meter for row in totals] != sorted(found):
        raise FormatError("the meters are not in order, or one is there twice")
    return found


@dataclass(frozen=True, slots=True)
class Opening:
    """A reveal of one party's: which declaration it opens, and which of the peer's it names.

    `totals` are in each meter's scale; `fault` says what makes it improper, empty if nothing does.
    """

    index: int
    declaration: bytes
    names: bytes
    totals: Mapping[str, int]
    fault: str


@dataclass(frozen=True, slots=True)
class Commitments:
    """What one party's log says of a period: its declarations by digest, with their indexes in
    the log, oldest first, and the reveals that open them, each declaration's first one.
    """

    role: Role
    declarations: Mapping[bytes, int]
    openings: Mapping[bytes, Opening]

    @property
    def newest(self) -> bytes | None:
        """The digest of the newest declaration."""
        return next(reversed(list(self.declarations)), None)


@dataclass(frozen=True, slots=True)
class Declared:
    """What counts of one party's declarations of a period.

    `totals` are None if nothing counts; then `problem` says why, if the party revealed something.
    """

    role: Role
    committed: int
    revealed: bool
    totals: Mapping[str, int] | None
    problem: str


def commitments_in(terms: Terms, role: Role, period: str, records: Iterable[Placed]) -> Commitments:
    """What the log of a role says of a period, from its records in order (others are skipped)."""
    declarations: dict[bytes, int] = {}
    made: dict[bytes, Declaration] = {}
    openings: dict[bytes, Opening] = {}
    for index, record in records:
        if isinstance(record, Declaration) and record.period == period:
            digest = record_digest(record)
            declarations.setdefault(digest, index)
            made[digest] = record
        elif isinstance(record, Reveal) and record.declaration in declarations:
            totals: Mapping[str, int] = {}
            fault = ""
            try:
                check_reveal(terms, role, made[record.declaration], record)
                totals = read_totals(terms, record.totals)
            except (FormatError, InvalidRecord) as error:
                fault = error.message
            opening = Opening(index, record.declaration, record.peer_declaration, totals, fault)
            openings.setdefault(record.declaration, opening)
    return Commitments(role, declarations, openings)


def declared(provider: Commitments, consumer: Commitments) -> tuple[Declared, Declared]:
    """What counts of both parties' declarations of one period.

    The first pair counts, in the order of the provider's log. Without one, a proper reveal that
    the other can still answer counts by itself, unless both have one.
    """
    pair = next(_pairs(provider, consumer), None)
    if pair is not None:
        return _counted(provider, pair[0]), _counted(consumer, pair[1])
    alone = [_alone(provider, consumer), _alone(consumer, provider)]
    if all(alone):
        crossed = "each revealed against another declaration of the other party's"
        return _nothing(provider, crossed), _nothing(consumer, crossed)
    sides = []
    for said, other, opening in zip((provider, consumer), (consumer, provider), alone, strict=True):
        sides.append(
            _counted(said, opening) if opening else _nothing(said, _first_fault(said, other))
        )
    return sides[0], sides[1]


def _pairs(provider: Commitments, consumer: Commitments) -> Iterator[tuple[Opening, Opening]]:
    for opening in sorted(provider.openings.values(), key=lambda one: one.index):
        answer = consumer.openings.get(opening.names)
        if answer is None or answer.names != opening.declaration:
            continue
        if not opening.fault and not answer.fault:
            yield opening, answer


def _alone(said: Commitments, other: Commitments) -> Opening | None:
    """The first reveal that only waits for the other party's."""
    openings = sorted(said.openings.values(), key=lambda one: one.index)
    return next((one for one in openings if not _fault(one, other)), None)


def _fault(opening: Opening, other: Commitments) -> str:
    """What keeps a reveal from counting, in words."""
    if opening.fault:
        return opening.fault
    if opening.names not in other.declarations:
        return "it names no declaration of the other party's for this period"
    answer = other.openings.get(opening.names)
    if answer is None:
        return ""
    if answer.names != opening.declaration:
        return "the declaration that it names was opened against another one"
    return f"the other party's reveal does not hold: {answer.fault}"


def _first_fault(said: Commitments, other: Commitments) -> str:
    openings = sorted(said.openings.values(), key=lambda one: one.index)
    return next((_fault(one, other) for one in openings), "")


def _counted(said: Commitments, opening: Opening) -> Declared:
    return Declared(said.role, len(said.declarations), True, opening.totals, "")


def _nothing(said: Commitments, problem: str) -> Declared:
    revealed = bool(said.openings)
    return Declared(said.role, len(said.declarations), revealed, None, problem if revealed else "")


def somebody_revealed(provider: Commitments, consumer: Commitments) -> bool:
    """Whether a party opened a declaration of the period; then neither may declare again."""
    return bool(provider.openings or consumer.openings)


def next_opening(
    own: Commitments,
    peer: Commitments,
    cosigned: tuple[int, int],
    openable: AbstractSet[bytes],
) -> tuple[bytes, bytes] | None:
    """Which declaration of its own an honest party opens now, and which of the peer's it names.

    `cosigned` are the sizes up to which our log is co-signed by the peer, and the peer's by us;
    `openable` are the digests of our declarations whose salts we have. A party that revealed opens
    another declaration only to answer the one of the peer's that it named already: so nobody who
    saw its totals can choose among several of his own.
    """
    named = {opening.names for opening in own.openings.values()}
    answers = sorted(peer.openings.values(), key=lambda one: one.index)
    for answer in answers:
        ours = answer.names
        if ours in own.openings or ours not in openable or ours not in own.declarations:
            continue
        if (
            answer.index < cosigned[1]
            and not answer.fault
            and (not named or named == {answer.declaration})
        ):
            return ours, answer.declaration
    if named or answers:
        return None
    mine = own.newest
    theirs = next(
        (d for d, index in reversed(list(peer.declarations.items())) if index < cosigned[1]), None
    )
    if mine is None or theirs is None or mine not in openable:
        return None
    return (mine, theirs) if own.declarations[mine] < cosigned[0] else None


def periods_of(records: Iterable[Placed]) -> list[str]:
    """The periods that a log's declarations are of, each once, in the order of the records."""
    found = (record.period for _, record in records if isinstance(record, Declaration))
    return list(dict.fromkeys(found))


def sides_of(
    terms: Terms, period: str, provider: Iterable[Placed], consumer: Iterable[Placed]
) -> tuple[Commitments, Commitments]:
    """What both logs say of a period."""
    return (
        commitments_in(terms, "provider", period, provider),
        commitments_in(terms, "consumer", period, consumer),
    )
