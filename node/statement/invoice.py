"""A period's proof in a UBL invoice: attached as a supporting document, and found again to check.

EN 16931 lets an invoice carry supporting documents (BG-24) of few kinds, and a ZIP is none of them:
what goes in is the statement as PDF, which holds the bundle. Those who need the bundle itself, and
whose receiver takes it, get it with its own kind.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from tallystick.node.statement.attached import find_attached, is_statement
from tallystick.node.statement.making import Made
from tallystick.node.statement.model import Statement, file_stem
from tallystick.node.statement.ubl import Document, Reference, read_document, with_reference
from tallystick.node.statement.verifying import verify_statement
from tallystick.protocol.bundle import CHECKPOINT, open_bundle
from tallystick.protocol.checkpoint import Checkpoint, parse_checkpoint
from tallystick.protocol.checks import Check
from tallystick.protocol.errors import FormatError, InputError, TallyError
from tallystick.protocol.messages import plain
from tallystick.protocol.notes import parse_note
from tallystick.protocol.periods import zone_named
from tallystick.protocol.verify import verify_bundle

PREFIX = "tallystick:"
PDF_TYPE, ZIP_TYPE = "application/pdf", "application/zip"
# What EN 16931 lets an invoice carry (rule BR-CL-24).
ALLOWED_TYPES = (
    PDF_TYPE,
    "image/png",
    "image/jpeg",
    "text/csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.oasis.opendocument.spreadsheet",
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Attached:
    """An invoice with a proof in it, and what a person should look at."""

    data: bytes
    name: str
    mime_type: str
    replaced: bool
    notes: tuple[str, ...]


def attach(invoice: bytes, made: Made, *, pdf: bytes | None, any_period: bool = False) -> Attached:
    """The invoice with a statement's PDF in it, or with its bundle if there is no PDF.

    `InputError` if the file cannot take it, or if it is an invoice of other days.
    """
    document, statement = read_document(invoice), made.statement
    assert statement.proof is not None, "a draft is no proof"
    problem = period_problem(document, statement)
    if problem and not any_period:
        raise InputError(problem, "Take the period that it bills, or --any-period if it is meant")
    stem = f"usage-{file_stem(statement.period)}-{statement.proof.digest[:8]}"
    if pdf is None:
        name, mime_type, content = f"{stem}.tally", ZIP_TYPE, made.attached[statement.proof.bundle]
    else:
        name, mime_type, content = f"{stem}.pdf", PDF_TYPE, pdf
    id_ = PREFIX + statement.proof.digest
    data = with_reference(document, id_, describe(statement), name, mime_type, content)
    if with_ids(read_document(data), id_) != 1:
        raise FormatError("the proof did not arrive in the invoice as it should")
    replaced = with_ids(document, id_) > 0
    return Attached(data, name, mime_type, replaced, tuple(_notes(document, statement, mime_type)))


def with_ids(document: Document, id_: str) -> int:
    """How many references have an id."""
    return sum(one.id == id_ for one in document.references)


def describe(statement: Statement) -> str:
    """What the invoice says of the attachment."""
    return (
        f"Usage statement {statement.period}, {statement.provider} to {statement.consumer}, signed"
        " by both; check it with: tally verify"
    )


def _notes(document: Document, statement: Statement, mime_type: str) -> list[str]:
    notes = []
    if document.supplier or document.customer:
        notes.append(
            f"the invoice is from {plain(document.supplier) or 'nobody named'} to"
            f" {plain(document.customer) or 'nobody named'}; the proof is between"
            f" {statement.provider} and {statement.consumer}"
        )
    if mime_type not in ALLOWED_TYPES:
        notes.append(
            f"EN 16931 has no attachments of the kind {mime_type}: a receiver that keeps to it"
            " refuses this invoice; without --bundle the proof goes in as PDF"
        )
    return notes


def period_problem(document: Document, statement: Statement) -> str:
    """How the invoice's period contradicts the statement's; empty if it does not, or has none."""
    zone = zone_named(statement.time_zone)
    first = (_EPOCH + timedelta(microseconds=statement.start_us)).astimezone(zone).date()
    last = (_EPOCH + timedelta(microseconds=statement.end_us - 1)).astimezone(zone).date()
    for start, end in document.periods:
        begins, ends = _day(start) or first, _day(end) or last
        if begins <= first and last <= ends:
            return ""
    if not document.periods:
        return ""
    told = " and ".join(
        f"{plain(start) or '…'} to {plain(end) or '…'}" for start, end in document.periods
    )
    return f"the invoice bills {told}, and {statement.period} is {first} to {last}"


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def verify_invoice(data: bytes) -> list[Check]:
    """The checks of each proof in an invoice, and that it is the one that the invoice names."""
    try:
        document = read_document(data)
        ours = [one for one in document.references if one.id.startswith(PREFIX)]
        if not ours:
            raise InputError(
                "the invoice carries no proof of ours", "Its maker adds one: tally attach"
            )
    except TallyError as error:
        return [Check(1, "attachment", False, plain(str(error)))]
    checks: list[Check] = []
    for reference in ours:
        found = _verify_reference(reference)
        checks += [replace(one, number=len(checks) + n) for n, one in enumerate(found, 1)]
    return checks


def _verify_reference(reference: Reference) -> list[Check]:
    try:
        content = reference.decoded()
        bundle = find_attached(content).bundle if is_statement(content[:64]) else content
    except TallyError as error:
        return [Check(1, "attachment", False, plain(str(error)))]
    if bundle is content:
        checks = verify_bundle(io.BytesIO(content))
    else:
        checks = verify_statement(content)
    number = len(checks) + 1
    failed = next((check for check in checks if not check.ok), None)
    if failed is not None:
        return [*checks, Check(number, "invoice", False, f"not reached: {failed.name} failed")]
    checkpoint = _checkpoint(bundle)
    digest = checkpoint.digest().hex()
    if reference.id != PREFIX + digest:
        said = f"it names {plain(reference.id)}, and what it attaches is {digest}"
        return [*checks, Check(number, "invoice", False, said)]
    said = (
        f"it attaches the proof of {checkpoint.period} that it names; what it charges for it is"
        " not checked"
    )
    return [*checks, Check(number, "invoice", True, said)]


def _checkpoint(bundle: bytes) -> Checkpoint:
    members = open_bundle(io.BytesIO(bundle)).members
    return parse_checkpoint(parse_note(members[CHECKPOINT]).text)
