"""Statements out of the books: which lines and disputes, and the bundle that travels inside.

`statement_pdf` and `statement_html` are what the HTTP interface calls, in a thread: they read the
store, and typesetting takes its time.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tallystick.node import proving
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.statement.carrying import claims_at, claims_now
from tallystick.node.statement.model import (
    Claim,
    Statement,
    closed_statement,
    draft_statement,
)
from tallystick.node.statement.wording import DISPUTES_FILE
from tallystick.node.store.keyspace import CheckpointRow
from tallystick.node.verdicts import durable_sizes, verdict_on
from tallystick.protocol.bundle import (
    CHECKPOINT,
    STATEMENT_JSON,
    TERMS,
    VERDICT,
    Bundle,
)
from tallystick.protocol.derive import period_lines
from tallystick.protocol.errors import FormatError, InputError
from tallystick.protocol.records import Terms, decode_record
from tallystick.protocol.rendering import parse_statement_json, parse_verdict_json
from tallystick.protocol.statement import decode_line
from tallystick.protocol.verdict import decode_verdict

if TYPE_CHECKING:
    from tallystick.node.statement.pdf import Paper

ATTACHED_BYTES_MAX = 64 << 20  # a bundle inside a PDF or a page

_decode_claims = msgspec.json.Decoder(list[Claim]).decode


@dataclass(frozen=True, slots=True)
class Made:
    """A statement, and the files that travel inside its renderings by name, the bundle first."""

    statement: Statement
    attached: dict[str, bytes]


def statement_pdf(
    channel: Channel,
    closer: Closer,
    period: str,
    *,
    full: bool = False,
    draft: bool = False,
    paper: Paper = "a4",
) -> bytes:
    """The statement of a period as PDF; see `make_statement`."""
    from tallystick.node.statement.pdf import render_pdf

    made = make_statement(channel, closer, period, full=full, draft=draft)
    return render_pdf(made.statement, made.attached, paper=paper)


def statement_html(
    channel: Channel, closer: Closer, period: str, *, full: bool = False, draft: bool = False
) -> bytes:
    """The same as an HTML page."""
    from tallystick.node.statement.html import render_html

    made = make_statement(channel, closer, period, full=full, draft=draft)
    return render_html(made.statement, made.attached)


def make_statement(
    channel: Channel, closer: Closer, label: str, *, full: bool = False, draft: bool = False
) -> Made:
    """A period's statement. `InputError` if it is not closed and no draft is asked for, or is
    closed and a draft is; `FormatError` if its bundle is too large to travel inside.
    """
    period = channel.own.folder.calendar.parse(label)
    row = closer.row_of(period)
    if draft:
        if row is not None:
            raise InputError(f"{label} is closed, so it needs no draft", "Leave --draft away")
        lines = period_lines(closer.open_lines(), period.label)
        verdict = verdict_on(channel, period.label, lines, durable_sizes(channel))
        claims = claims_now(channel)
        return Made(draft_statement(channel.terms, period, lines, verdict, claims), {})
    if row is None:
        raise InputError(
            f"{label} is not closed, so nobody has signed a statement of it",
            f"Close it: tally checkpoint {label}; or look at what it would say with --draft",
        )
    return _closed(channel, row, claims_at(channel, closer, row), full)


def _closed(channel: Channel, row: CheckpointRow, claims: list[Claim], full: bool) -> Made:
    statement = closed_statement(
        row.note,
        channel.terms,
        [decode_line(data) for data in row.lines],
        decode_verdict(row.verdict) if row.verdict else None,
        claims,
        full=full,
    )
    out = _Bounded()
    proving.bundle(channel, row, out, full=full, plain=True)  # the same at both parties
    return _with_files(statement, out.getvalue(), claims)


def from_bundle(bundle: Bundle, data: bytes, claims: list[Claim]) -> Made:
    """The statement that a bundle gives, together with what is said of disputes beside it.

    The bundle must have been verified. `FormatError` if a member does not have its shape.
    """
    terms = decode_record(bundle.members[TERMS])
    if not isinstance(terms, Terms):
        raise FormatError(f"{TERMS} holds a record of another kind")
    verdict = bundle.members.get(VERDICT)
    statement = closed_statement(
        bundle.members[CHECKPOINT],
        terms,
        parse_statement_json(bundle.members[STATEMENT_JSON]),
        parse_verdict_json(verdict) if verdict is not None else None,
        claims,
        full=bundle.logs is not None,
    )
    return _with_files(statement, data, claims)


def _with_files(statement: Statement, bundle: bytes, claims: list[Claim]) -> Made:
    assert statement.proof is not None, "a bundle is of a closed period"
    attached = {statement.proof.bundle: bundle}
    if claims:
        attached[DISPUTES_FILE] = encode_claims(claims)
    return Made(statement, attached)


def encode_claims(claims: list[Claim]) -> bytes:
    """What is said of disputes, as the file beside a bundle."""
    return msgspec.json.format(msgspec.json.encode(claims), indent=2) + b"\n"


def decode_claims(data: bytes) -> list[Claim]:
    """The disputes of that file; `FormatError` if it is not in its one form."""
    try:
        claims = _decode_claims(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{DISPUTES_FILE} cannot be read: {error}") from None
    if not claims or encode_claims(claims) != data:
        raise FormatError(f"{DISPUTES_FILE} is not in the form in which it is written")
    return claims


class _Bounded(io.BytesIO):
    """A file in memory that refuses to become larger than what travels inside a statement."""

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        if self.tell() + view.nbytes > ATTACHED_BYTES_MAX:
            raise FormatError(
                f"the bundle is larger than the {ATTACHED_BYTES_MAX >> 20} MiB that travel inside"
                " a statement",
                "Leave --full away, and send the full bundle beside it: tally bundle PERIOD --full",
            )
        return super().write(view)
