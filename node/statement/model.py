"""What a statement says: every word and number of it, before it has a shape.

It is a pure function of what a bundle holds (checkpoint, terms, lines, verdict) and of the disputes
that stand in the logs beside it. Both renderers take everything from here, so the PDF and the HTML
say the same, and whoever has the bundle can make the same pages again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from tallystick.node.statement.texts import nonzero, readable
from tallystick.protocol.checkpoint import format_instant, parse_checkpoint
from tallystick.protocol.disputes import State
from tallystick.protocol.notes import parse_note
from tallystick.protocol.periods import Period, zone_named
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.records import ROLES, DisputeCode, Terms
from tallystick.protocol.statement import Line, line_scales, meter_units
from tallystick.protocol.terms import channel_id
from tallystick.protocol.verdict import Verdict

NUMBERS = ("provider", "consumer", "payable", "disputed", "pending")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


Number = Annotated[str, Meta(pattern=r"^-?[0-9]{1,39}(\.[0-9]{1,39})?$")]


class Claim(Struct, frozen=True, forbid_unknown_fields=True):
    """A dispute as it stood at the checkpoint's heads. Numbers are decimal text of its meter."""

    dispute: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  # the digest
    by: str
    against: str
    period: str
    meter: str
    subject: str
    unit: str
    amount: Number
    upheld: Number
    pending: Number
    code: DisputeCode
    reason: str
    state: State
    waits_for: str | None
    until: str | None
    then: Literal["upheld", "lapsed"] | None


@dataclass(frozen=True, slots=True)
class Row:
    """A balance line. Numbers are decimal text; None where that side does not record."""

    subject: str
    period: str | None  # that it is late for
    provider: str | None
    consumer: str | None
    payable: str
    disputed: str
    pending: str
    deltas: int


@dataclass(frozen=True, slots=True)
class MeterPart:
    """A meter: its sums over all lines, its verdict in words, and its lines in order."""

    meter: str
    unit: str
    provider: str | None
    consumer: str | None
    payable: str
    disputed: str
    pending: str
    rows: tuple[Row, ...]
    late: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the terms say of both declared totals of a meter; None: nothing was declared."""

    meter: str
    result: str
    provider: str | None
    consumer: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What the checkpoint adds: its text, digest and signatures, and the bundle that proves it."""

    text: str
    signature_lines: tuple[str, ...]
    digest: str
    signers: tuple[tuple[str, str, str], ...]  # the party, its role, its key's id
    heads: tuple[tuple[str, int], ...]  # the party, and how many of its records count
    bundle: str  # the attached file's name
    full: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """A period's statement; a draft if it has no `proof`."""

    title: str
    provider: str
    consumer: str
    channel: str
    period: str
    calendar: str
    time_zone: str
    start: str
    end: str
    start_utc: str
    end_utc: str
    start_us: int
    end_us: int
    headline: str
    payable_rule: str
    meters: tuple[MeterPart, ...]
    verdicts: tuple[Judged, ...] | None  # None: there were none yet; empty: nothing was declared
    pending_claims: tuple[Claim, ...]
    decided_claims: tuple[Claim, ...]
    lines: int
    proof: Proof | None

    @property
    def draft(self) -> bool:
        """Whether nobody has signed it."""
        return self.proof is None

    @property
    def mark(self) -> str:
        """What stands on every page: the digest's beginning, or that there is none."""
        return "Draft: not closed, not signed" if self.proof is None else self.proof.digest[:16]

    @property
    def late(self) -> list[tuple[MeterPart, Row]]:
        """Every late line, with its meter."""
        return [(part, row) for part in self.meters for row in part.late]


def closed_statement(
    note_bytes: bytes,
    terms: Terms,
    lines: Sequence[Line],
    verdict: Verdict | None,
    claims: Sequence[Claim],
    *,
    full: bool,
) -> Statement:
    """The statement of a closed period. Nothing is verified here: that is `verify`'s."""
    note = parse_note(note_bytes)
    checkpoint = parse_checkpoint(note.text)
    period = Period(checkpoint.period, checkpoint.start_us, checkpoint.end_us)
    parties = (checkpoint.provider, checkpoint.consumer)
    proof = Proof(
        text=note.text,
        signature_lines=tuple(signature.line().rstrip("\n") for signature in note.signatures),
        digest=checkpoint.digest().hex(),
        signers=tuple(
            (party, role, signature.key_id.hex())
            for party, role, signature in zip(parties, ROLES, note.signatures, strict=True)
        ),
        heads=tuple((head.party, head.size) for head in checkpoint.heads),
        bundle=f"{file_stem(period.label)}.tally",
        full=full,
    )
    return _statement(terms, period, lines, verdict, claims, proof)


def draft_statement(
    terms: Terms,
    period: Period,
    lines: Sequence[Line],
    verdict: Verdict,
    claims: Sequence[Claim],
) -> Statement:
    """What a period that is not closed yet would say, if it were closed now."""
    return _statement(terms, period, lines, verdict, claims, None)


def _statement(
    terms: Terms,
    period: Period,
    lines: Sequence[Line],
    verdict: Verdict | None,
    claims: Sequence[Claim],
    proof: Proof | None,
) -> Statement:
    provider, consumer = terms.provider.name, terms.consumer.name
    meters = tuple(_parts(terms, lines))
    shown = [_readable_claim(claim) for claim in claims]
    pending = tuple(claim for claim in shown if nonzero(claim.pending))
    return Statement(
        title=f"Usage statement {period.label}{'' if proof else ' (draft)'}",
        provider=provider,
        consumer=consumer,
        channel=channel_id(terms).hex(),
        period=period.label,
        calendar=terms.calendar,
        time_zone=terms.time_zone,
        start=_local(period.start_us, terms.time_zone),
        end=_local(period.end_us, terms.time_zone),
        start_utc=format_instant(period.start_us),
        end_utc=format_instant(period.end_us),
        start_us=period.start_us,
        end_us=period.end_us,
        headline=_headline(meters, verdict, pending, signed=proof is not None),
        payable_rule=_rules(terms),
        meters=meters,
        verdicts=_verdicts(verdict),
        pending_claims=pending,
        decided_claims=tuple(claim for claim in shown if not nonzero(claim.pending)),
        lines=len(lines),
        proof=proof,
    )


def _verdicts(verdict: Verdict | None) -> tuple[Judged, ...] | None:
    if verdict is None:
        return None
    if all(row.result == "not declared" for row in verdict.meters):
        return ()
    return tuple(
        Judged(readable(row.meter), row.result, row.provider, row.consumer)
        for row in verdict.meters
    )


def _parts(terms: Terms, lines: Sequence[Line]) -> Iterable[MeterPart]:
    units, scales = meter_units(terms), line_scales(terms)
    by_meter: dict[str, list[Line]] = {meter.name: [] for meter in terms.meters}
    for line in lines:
        by_meter[line.meter].append(line)
    for meter in terms.meters:
        found = by_meter[meter.name]
        scale = scales[meter.name]
        rows = [_row(line) for line in found]
        yield MeterPart(
            meter=readable(meter.name),
            unit=readable(units[meter.name]),
            provider=None if meter.source == "consumer" else _sum(found, "provider", scale),
            consumer=None if meter.source == "provider" else _sum(found, "consumer", scale),
            payable=_sum(found, "payable", scale),
            disputed=_sum(found, "disputed", scale),
            pending=_sum(found, "pending", scale),
            rows=tuple(row for row in rows if row.period is None),
            late=tuple(row for row in rows if row.period is not None),
        )


def _readable_claim(claim: Claim) -> Claim:
    return structs.replace(
        claim,
        meter=readable(claim.meter),
        subject=readable(claim.subject),
        unit=readable(claim.unit),
        reason=readable(claim.reason),
    )


def _row(line: Line) -> Row:
    return Row(
        subject=readable(line.subject),
        period=line.late_for,
        provider=line.provider,
        consumer=line.consumer,
        payable=line.payable,
        disputed=line.disputed,
        pending=line.pending,
        deltas=line.deltas,
    )


def _sum(lines: Sequence[Line], field: str, scale: int) -> str:
    texts = (getattr(line, field) for line in lines)
    return format_quantity(sum(parse_total(text, scale) for text in texts if text), scale)


def _headline(
    meters: Sequence[MeterPart],
    verdict: Verdict | None,
    pending: Sequence[Claim],
    *,
    signed: bool,
) -> str:
    """The answer in a sentence or two."""
    first = (
        "Both parties signed these numbers."
        if signed
        else "Nobody has signed these numbers, and they may still change."
    )
    results = [row.result for row in verdict.meters] if verdict else []
    disputed = [part.meter for part in meters if nonzero(part.disputed)]
    late = sum(len(part.late) for part in meters)
    parts = [first]
    differing = results.count("disputed")
    if results and results.count("agreed") == len(results):
        parts.append("Both had declared the same totals before.")
    elif differing:
        parts.append(
            f"{differing} of {len(results)} {'meter' if len(results) == 1 else 'meters'}"
            f" {'is' if differing == 1 else 'are'} in dispute."
        )
    if disputed and not pending:
        parts.append(f"What is disputed of {', '.join(disputed)} is not in what is payable.")
    elif disputed:
        parts.append(
            f"{len(pending)} {'dispute is' if len(pending) == 1 else 'disputes are'} carried, of"
            f" {', '.join(disputed)}; what is disputed is not in what is payable."
        )
    if late:
        parts.append(
            f"{late} late {'line belongs' if late == 1 else 'lines belong'} to earlier periods."
        )
    return " ".join(parts)


def _rules(terms: Terms) -> str:
    """Whose number is payable, by the terms."""
    names = {
        "provider": f"{terms.provider.name}'s number",
        "consumer": f"{terms.consumer.name}'s number",
        "minimum": "the smaller of the two numbers",
    }
    alone = {"provider": terms.provider.name, "consumer": terms.consumer.name}
    rules: dict[str, list[str]] = {}
    for meter in terms.meters:
        if meter.source == "both":
            said = names[meter.payable]
        else:
            said = f"what {alone[meter.source]} alone records"
        rules.setdefault(said, []).append(readable(meter.name))
    if len(rules) == 1:
        return f"By the terms, {next(iter(rules))} is payable."
    told = [f"of {', '.join(meters)} {rule}" for rule, meters in rules.items()]
    return f"By the terms these numbers are payable: {'; '.join(told)}."


def _local(instant_us: int, zone: str) -> str:
    instant = (_EPOCH + timedelta(microseconds=instant_us)).astimezone(zone_named(zone))
    return instant.strftime("%Y-%m-%d %H:%M")


def file_stem(label: str) -> str:
    """A period's label as a file's name: an hour's offset has a colon."""
    return re.sub(r"[^0-9A-Za-z.+-]", "", label)
