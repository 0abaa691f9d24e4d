"""Targets for what accountants hand in: statements as PDF and pages, and UBL invoices."""

from __future__ import annotations

import builders
import stating
import ubl_files

from fuzzing.contract import attempt
from tallystick.node.statement.attached import find_attached
from tallystick.node.statement.html import render_html
from tallystick.node.statement.invoice import verify_invoice
from tallystick.node.statement.making import decode_claims, encode_claims
from tallystick.node.statement.pdf import render_pdf
from tallystick.node.statement.ubl import read_document, with_reference
from tallystick.node.statement.verifying import verify_statement
from tallystick.protocol.errors import FormatError, InputError

_ID = "tallystick:x"


def honest_statements() -> list[bytes]:
    """A statement as PDF and as a page."""
    channel = builders.busy_channel()
    made = stating.made_of(channel, channel.closed[0], [stating.CLAIM])
    return [render_pdf(made.statement, made.attached), render_html(made.statement, made.attached)]


_HONEST: list[bytes] = []


def statements(data: bytes) -> None:
    """Any file: verifying never fails, and only what was made of the bundle holds."""
    attempt(FormatError, find_attached, data)
    checks = verify_statement(data)
    for check in checks:
        check.detail.encode()
    if all(check.ok for check in checks):
        _HONEST[:] = _HONEST or honest_statements()
        assert data in _HONEST


def claims(data: bytes) -> None:
    """What is said of disputes has one form."""
    found = attempt(FormatError, decode_claims, data)
    if found is not None:
        assert encode_claims(found) == data


def invoices(data: bytes) -> None:
    """An invoice takes a reference once, and is as it was without it; or it is refused."""
    for check in verify_invoice(data):
        check.detail.encode()
    document = attempt(InputError, read_document, data)
    if document is None:
        return
    made = with_reference(document, _ID, "d", "f.pdf", "application/pdf", b"content")
    again = read_document(made)
    (one,) = [reference for reference in again.references if reference.id == _ID]
    assert one.decoded() == b"content"
    assert with_reference(again, _ID, "d", "f.pdf", "application/pdf", b"content") == made
    if not any(reference.id == _ID for reference in document.references):
        between = len(made) - len(data) - (one.end - one.start)
        assert made[: one.start] + made[one.end + between :] == data


def some_invoices() -> list[bytes]:
    """An invoice and a credit note, plain and with other references."""
    return [
        ubl_files.ubl(kind, references)
        for kind, beside in ubl_files.REFERENCES.items()
        for references in ("", beside)
    ]
