"""A proof in an invoice: of the right days, found again, checked, refused where it would harm."""

from __future__ import annotations

import io

import builders
import pytest
import stating
from ubl_files import KINDS, rule_errors, schema_errors, ubl

from tallystick.node.cli.proofs import checks_of
from tallystick.node.statement.invoice import ALLOWED_TYPES, PREFIX, attach, verify_invoice
from tallystick.node.statement.making import Made
from tallystick.node.statement.pdf import render_pdf
from tallystick.node.statement.ubl import read_document
from tallystick.protocol.errors import InputError


def _made(place: int = 0) -> tuple[Made, bytes]:
    channel = builders.busy_channel()
    made = stating.made_of(channel, channel.closed[place])
    return made, render_pdf(made.statement, made.attached)


OCTOBER, OCTOBER_PDF = _made()
NOVEMBER, NOVEMBER_PDF = _made(1)
DIGEST = OCTOBER.statement.proof.digest  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_the_pdf_goes_in_and_is_checked_again(kind: str) -> None:
    done = attach(ubl(kind), OCTOBER, pdf=OCTOBER_PDF)
    assert schema_errors(done.data) == [] and rule_errors(done.data) == []
    (one,) = read_document(done.data).references
    assert one.id == PREFIX + DIGEST and one.decoded() == OCTOBER_PDF
    assert done.name == f"usage-2026-10-{DIGEST[:8]}.pdf" and done.mime_type in ALLOWED_TYPES
    assert done.notes == (
        "the invoice is from Acme GmbH to Beta AG; the proof is between acme.example and"
        " beta.example",
    )
    checks = checks_of(io.BytesIO(done.data))
    assert all(check.ok for check in checks), checks
    assert [check.number for check in checks] == list(range(1, 10))
    assert [check.name for check in checks[-2:]] == ["pages", "invoice"]
    assert "what it charges for it is not checked" in checks[-1].detail


def test_twice_is_the_same_file() -> None:
    done = attach(ubl(), OCTOBER, pdf=OCTOBER_PDF)
    again = attach(done.data, OCTOBER, pdf=OCTOBER_PDF)
    assert (done.replaced, again.replaced) == (False, True)
    assert again.data == done.data
    bundled = attach(again.data, OCTOBER, pdf=None)
    assert bundled.replaced and len(read_document(bundled.data).references) == 1


def test_a_bundle_goes_in_with_a_warning() -> None:
    done = attach(ubl(), OCTOBER, pdf=None)
    assert schema_errors(done.data) == [] and done.mime_type == "application/zip"
    assert "EN 16931 has no attachments of the kind application/zip" in done.notes[-1]
    checks = checks_of(io.BytesIO(done.data))
    assert len(checks) == 8 and all(check.ok for check in checks)


def test_an_invoice_of_other_days_is_refused() -> None:
    with pytest.raises(InputError, match="bills 2026-10-01 to 2026-10-31, and 2026-11 is 2026-"):
        attach(ubl(), NOVEMBER, pdf=NOVEMBER_PDF)
    done = attach(ubl(), NOVEMBER, pdf=NOVEMBER_PDF, any_period=True)
    assert all(check.ok for check in verify_invoice(done.data))
    for other in (
        ubl().replace(b"2026-10-01", b"2026-09-01").replace(b"2026-10-31", b"2026-12-31"),
        ubl().replace(b"2026-10-31</cbc:EndDate>", b"2026-10-31+01:00</cbc:EndDate>"),
        ubl().replace(b"    <cbc:EndDate>2026-10-31</cbc:EndDate>\n", b""),
    ):
        attach(other, OCTOBER, pdf=OCTOBER_PDF)
    with pytest.raises(InputError, match="bills 2026-10-01 to 2026-10-30"):
        attach(ubl().replace(b"2026-10-31", b"2026-10-30"), OCTOBER, pdf=OCTOBER_PDF)
    start = ubl().index(b"  <cac:InvoicePeriod>")
    end = ubl().index(b"</cac:InvoicePeriod>\n") + len(b"</cac:InvoicePeriod>\n")
    attach(ubl()[:start] + ubl()[end:], NOVEMBER, pdf=NOVEMBER_PDF)


def test_two_proofs_in_one_invoice_are_both_checked() -> None:
    one = attach(ubl(), OCTOBER, pdf=OCTOBER_PDF)
    both = attach(one.data, NOVEMBER, pdf=NOVEMBER_PDF, any_period=True)
    checks = verify_invoice(both.data)
    assert [check.number for check in checks] == list(range(1, 19))
    assert all(check.ok for check in checks)
    swapped = both.data.replace(DIGEST.encode(), b"0" * 64, 1)
    failed = [check for check in verify_invoice(swapped) if not check.ok]
    assert [check.number for check in failed] == [9]
    assert f"it names {PREFIX}{'0' * 64}" in failed[0].detail


def test_what_is_damaged_inside_is_found() -> None:
    done = attach(ubl(), OCTOBER, pdf=OCTOBER_PDF).data
    start = done.index(b"JVBERi0")
    for place in (start + 2000, start + 60_000):
        changed = done[:place] + (b"B" if done[place : place + 1] == b"A" else b"A")
        changed += done[place + 1 :]
        failed = [check for check in verify_invoice(changed) if not check.ok]
        assert failed and failed[0].name in ("attachment", "archive", "pages")
    for content, said in ((b"%%%", "base64"), (b"", "archive"), (b"JVBERi0=", "no bundle")):
        end = done.index(b"<", start)
        (check, *_) = [c for c in verify_invoice(done[:start] + content + done[end:]) if not c.ok]
        assert said in f"{check.name}: {check.detail}"


def test_an_invoice_without_ours_says_so() -> None:
    (check,) = checks_of(io.BytesIO(ubl()))
    assert not check.ok and "no proof of ours" in check.detail
    (check,) = checks_of(io.BytesIO(b'<!DOCTYPE x><a xmlns="urn::ubl:schema:xsd:x"/>'))
    assert not check.ok and "document type" in check.detail
