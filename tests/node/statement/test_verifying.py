"""Verifying statements: pages follow from the bundle, and whatever does not is found."""

from __future__ import annotations

import io
import re
import zlib

import builders
import msgspec
import pypdf
import pytest
import stating
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.node.cli.proofs import checks_of
from tallystick.node.statement import html, pdf
from tallystick.node.statement.attached import find_attached
from tallystick.node.statement.html import render_html
from tallystick.node.statement.making import Made, encode_claims
from tallystick.node.statement.pdf import render_pdf
from tallystick.node.statement.verifying import remade, verify_statement
from tallystick.node.statement.wording import CLAIMS_MAX
from tallystick.protocol.errors import FormatError, ProofError


def _october(*, full: bool = False, disputed: bool = True) -> Made:
    channel = builders.busy_channel()
    claims = [stating.CLAIM] if disputed else []
    return stating.made_of(channel, channel.closed[0], claims, full=full)


MADE = _october()
PDF = render_pdf(MADE.statement, MADE.attached)
PAGE = render_html(MADE.statement, MADE.attached)


@pytest.mark.parametrize("data", [PDF, PAGE], ids=["pdf", "html"])
def test_a_statement_verifies(data: bytes) -> None:
    checks = checks_of(io.BytesIO(data))
    assert [check.number for check in checks] == list(range(1, 9))
    assert all(check.ok for check in checks), checks
    assert checks[-1].name == "pages"
    assert "as its maker says" in checks[-1].detail


def test_a_full_bundle_and_letter_paper_verify() -> None:
    made = _october(full=True, disputed=False)
    data = render_pdf(made.statement, made.attached, paper="us-letter")
    checks = verify_statement(data)
    assert len(checks) == 13 and all(check.ok for check in checks)
    assert "maker" not in checks[-1].detail


def _failing(data: bytes) -> tuple[str, str]:
    failed = [check for check in verify_statement(data) if not check.ok]
    return failed[0].name, failed[0].detail


def test_a_changed_number_on_a_page_is_found() -> None:
    changed = PAGE.replace(b">608<", b">609<", 1)
    assert changed != PAGE
    name, detail = _failing(changed)
    assert name == "pages" and "somebody changed them" in detail and "--from" in detail


def test_a_changed_drawing_in_the_pdf_is_found() -> None:
    streams = list(re.finditer(rb"/Length (\d+)[^>]*>>\r?\nstream\r?\n", PDF))
    start = streams[0].end()
    changed = bytearray(PDF)
    changed[start + 20] ^= 1
    assert _failing(bytes(changed))[0] == "pages"
    assert _failing(PDF + b"\n%%EOF")[0] == "pages"


def test_pages_of_another_version_are_not_compared_and_not_believed() -> None:
    for data, maker in ((PDF, pdf.maker()), (PAGE, html.maker())):
        other = maker.replace("tallystick 0", "tallystick 9")
        name, detail = _failing(data.replace(maker.encode(), other.encode()))
        assert name == "pages"
        assert f"made by {other}" in detail and f"this is {maker}" in detail


def test_what_is_said_of_disputes_is_part_of_the_pages() -> None:
    lying = encode_claims([stating.CLAIM, stating.CLAIM])
    swapped = MADE.attached | {"disputes.json": lying}
    data = render_pdf(MADE.statement, swapped)
    assert _failing(data)[0] == "pages"
    for bad in (b"[]\n", b"{", b"[" * 2000, lying.replace(b'"120"', b'"12x"')):
        data = render_html(MADE.statement, MADE.attached | {"disputes.json": bad})
        assert "disputes.json" in _failing(data)[1]


def test_a_damaged_bundle_inside_is_found_by_its_own_check() -> None:
    bundle = MADE.attached["2026-10.tally"].replace(b"total tokens 608", b"total tokens 609")
    data = render_pdf(MADE.statement, {"2026-10.tally": bundle})
    assert _failing(data)[0] == "archive"
    assert verify_statement(data)[-1].detail == "not reached: check 1 failed"


def test_what_is_no_statement_is_said_not_to_be() -> None:
    for data in (
        b"%PDF-", b"%PDF-1.7\n" + b"x" * 5000, b"<!doctype html>", PDF[: len(PDF) // 2],
        PAGE[: PAGE.index(b"base64,") + 40], PAGE.replace(b"base64,UEs", b"base64,U*s", 1),
        render_pdf(MADE.statement, {}),
    ):  # fmt: skip
        (check,) = checks_of(io.BytesIO(data))
        assert (check.name, check.ok) == ("attachment", False)
    twice = MADE.attached | {"other.tally": MADE.attached["2026-10.tally"]}
    assert "not one bundle" in _failing(render_pdf(MADE.statement, twice))[1]


def test_an_inflated_attachment_is_refused() -> None:
    bomb = zlib.compress(b"\0" * (65 << 20), 9)
    header = (
        b"%%PDF-1.7\n1 0 obj\n<</Type/Filespec/F(a.tally)/UF(a.tally)/EF<</F 2 0 R/UF 2 0 R>>>>\n"
        b"endobj\n2 0 obj\n<</Length %d/Type/EmbeddedFile/Filter/FlateDecode/Subtype/x"
        b"/Params<</Size 1>>>>\nstream\n" % len(bomb)
    )
    assert "too large" in _failing(header + bomb + b"\nendstream")[1]


def test_a_pdf_that_another_tool_saved_anew_says_what_to_do() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(PDF))
    out = io.BytesIO()
    writer.write(out)
    name, detail = _failing(out.getvalue())
    assert name in ("attachment", "pages")
    assert ".tally" in detail
    # Another reader still finds the bundle, and it holds.
    (data,) = pypdf.PdfReader(io.BytesIO(out.getvalue())).attachments["2026-10.tally"]
    assert all(check.ok for check in checks_of(io.BytesIO(data)))


def test_pages_are_made_of_a_bundle_or_of_other_pages() -> None:
    assert remade(PDF) == MADE == remade(PAGE)
    assert remade(MADE.attached["2026-10.tally"]) == _october(disputed=False)
    with pytest.raises(ProofError, match="check 1, archive"):
        remade(MADE.attached["2026-10.tally"][:-1])
    with pytest.raises(FormatError, match="no bundle"):
        remade(b"%PDF-")


@settings(max_examples=60)
@given(st.integers(0, len(PDF) - 1), st.integers(1, 255), st.booleans())
def test_no_byte_of_a_statement_can_be_changed(place: int, flip: int, page: bool) -> None:
    changed = bytearray(PAGE if page else PDF)
    changed[place % len(changed)] ^= flip
    checks = checks_of(io.BytesIO(bytes(changed)))
    assert not all(check.ok for check in checks)


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_garbage_is_a_check_that_fails(data: bytes) -> None:
    for start in (b"%PDF-", b"<!doctype html>"):
        with pytest.raises(FormatError):
            find_attached(start + data)
        assert not all(check.ok for check in checks_of(io.BytesIO(start + data)))


def test_a_bundle_with_a_strange_subject_is_still_a_bundle() -> None:
    channel = builders.Channel()
    for subject in ("urn:oasis:names:specification:ubl:schema:xsd:Invoice-2", "%PDF-", "<a>"):
        channel.provider_log.delta(subject, "tokens", 1, subject=subject)
    closed = channel.close()
    checks = checks_of(io.BytesIO(channel.bundle(closed)))
    assert len(checks) == 7 and all(check.ok for check in checks)


def test_of_very_many_disputes_the_first_are_shown_and_all_are_inside() -> None:
    channel = builders.busy_channel()
    claims = [
        msgspec.structs.replace(stating.CLAIM, dispute=f"{n:064x}", reason=f"number {n}.")
        for n in range(CLAIMS_MAX + 2)
    ]
    made = stating.made_of(channel, channel.closed[0], claims)
    for data in (
        render_pdf(made.statement, made.attached), render_html(made.statement, made.attached),
    ):  # fmt: skip
        assert all(check.ok for check in verify_statement(data))
    text = stating.pdf_text(render_pdf(made.statement, made.attached))
    assert f"number {CLAIMS_MAX - 1}." in text and f"number {CLAIMS_MAX}." not in text
    assert f"Of {CLAIMS_MAX + 2}, the first {CLAIMS_MAX} are shown" in " ".join(text.split())
    assert remade(render_pdf(made.statement, made.attached)) == made
