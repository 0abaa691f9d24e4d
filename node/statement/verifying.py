"""Verify a statement: the checks of the bundle inside it, and one more on the pages themselves.

Nothing signs how a page looks. But a statement follows from its bundle, and is the same bytes
whoever makes it: so it is made again and compared. That fails for a page that somebody changed, and
for an honest one of another version as well, which nothing can tell apart: then the bundle counts.
"""

from __future__ import annotations

import io
import re
from typing import cast

from tallystick.node.statement.attached import PDF_START, Found, find_attached, is_statement
from tallystick.node.statement.making import Made, decode_claims, from_bundle
from tallystick.protocol.bundle import open_bundle
from tallystick.protocol.checks import Check
from tallystick.protocol.errors import FormatError, ProofError, TallyError
from tallystick.protocol.messages import plain
from tallystick.protocol.verify import verify_bundle

PAGES = "pages"


def verify_statement(data: bytes) -> list[Check]:
    """The bundle's checks, and that the statement is, byte for byte, what the bundle gives."""
    try:
        found = find_attached(data)
    except TallyError as error:
        return [Check(1, "attachment", False, plain(str(error)))]
    checks = verify_bundle(io.BytesIO(found.bundle))
    number = len(checks) + 1
    failed = next((check for check in checks if not check.ok), None)
    if failed is not None:
        return [*checks, Check(number, PAGES, False, f"not reached: check {failed.number} failed")]
    try:
        detail = _compare(data, found)
    except TallyError as error:
        return [*checks, Check(number, PAGES, False, plain(str(error)))]
    return [*checks, Check(number, PAGES, True, detail)]


def remade(data: bytes) -> Made:
    """The statement of a bundle's bytes, or of those inside a statement; `ProofError` if a check of
    the bundle does not hold. Pages themselves are not looked at.
    """
    claims = []
    if is_statement(data):
        found = find_attached(data)
        data = found.bundle
        claims = decode_claims(found.disputes) if found.disputes is not None else []
    failed = next((check for check in verify_bundle(io.BytesIO(data)) if not check.ok), None)
    if failed is not None:
        raise ProofError(
            f"the bundle does not hold: check {failed.number}, {failed.name}: {failed.detail}"
        )
    return from_bundle(open_bundle(io.BytesIO(data)), data, claims)


def _compare(data: bytes, found: Found) -> str:
    made, maker = _made_again(data, found)
    if made == data:
        claims = ""
        if found.disputes is not None:
            claims = "; who disputes, why and until when is as its maker says"
        return f"all {len(data)} bytes are what the bundle gives{claims}"
    advice = (
        f"Do not rely on what they say; {found.name} inside holds: make pages of it with tally"
        " statement --from"
    )
    if found.maker != maker:
        said = re.sub(r"[^ -~]", "?", found.maker) or "nobody knows what"
        raise FormatError(
            f"these pages cannot be compared: they are made by {said}, and this is {maker}", advice
        )
    raise FormatError("these pages are not what the bundle gives: somebody changed them", advice)


def _made_again(data: bytes, found: Found) -> tuple[bytes, str]:
    """The statement made anew, and what made it."""
    bundle = open_bundle(io.BytesIO(found.bundle))
    claims = decode_claims(found.disputes) if found.disputes is not None else []
    made = from_bundle(bundle, found.bundle, claims)
    if not data.startswith(PDF_START):
        from tallystick.node.statement import html

        return html.render_html(made.statement, made.attached), html.maker()
    from tallystick.node.statement import pdf

    paper = "us-letter" if b"/MediaBox[0 0 612 792]" in data else "a4"
    paper = cast(pdf.Paper, paper)
    return pdf.render_pdf(made.statement, made.attached, paper=paper), pdf.maker()
