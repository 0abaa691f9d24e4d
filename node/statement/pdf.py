"""A statement as PDF: PDF/A-3 and PDF/UA, tagged, with the bundle attached; same bytes for the same
statement.

The typesetter runs on a folder of its own with the template and the data beside it: foreign texts
are data and never markup. Its fonts are those inside it, so no machine's own fonts matter.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import segno
import typst

from tallystick.node.statement import wording
from tallystick.node.statement.glyphs import has_glyph
from tallystick.node.statement.model import NUMBERS, Claim, Statement
from tallystick.node.statement.tables import Table, late_table, line_tables
from tallystick.node.statement.texts import covered, groups

Paper = Literal["a4", "us-letter"]
PAPERS: tuple[Paper, ...] = ("a4", "us-letter")

LINES_MAX = 5_000  # that a PDF shows, on a hundred pages, in seconds and half a gibibyte
_DIGITS_WHOLE = 130  # in a row of a table, beyond which numbers are broken into lines
_TOKEN_MAX = 20  # characters without a place to break
_WRAP = 92  # columns of the note
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BREAK = "\ue000"  # where the template may break a word; readable texts hold no such character


@cache
def _template() -> bytes:
    return files("tallystick.node.statement").joinpath("statement.typ").read_bytes()


@cache
def maker() -> str:
    """What made a PDF: whoever has the same makes the same bytes of the same bundle."""
    layout = hashlib.sha256(_template()).hexdigest()[:12]
    return f"tallystick {version('tallystick')}, layout {layout}, typst {version('typst')}"


def render_pdf(statement: Statement, attached: dict[str, bytes], *, paper: Paper = "a4") -> bytes:
    """The PDF; `attached` are the files in it by name, the bundle first."""
    try:
        return _compile(_data(statement, paper, has_glyph), attached)
    except typst.TypstError as error:
        if "could not be displayed" not in str(error):
            raise
        # Letters that no font has together: write out all that is not ASCII.
        return _compile(_data(statement, paper, str.isascii), attached)


def _compile(data: dict[str, Any], attached: dict[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tally-statement-") as name:
        folder = Path(name)
        attachments = "".join(
            f'#pdf.attach({_quoted(path)}, read("attached-{place}", encoding: none),'
            f' relationship: "source", mime-type: "{wording.file_type(path)}",'
            f' description: "{_description(path)}")\n'
            for place, path in enumerate(attached)
        )
        for place, content in enumerate(attached.values()):
            (folder / f"attached-{place}").write_bytes(content)
        (folder / "statement.json").write_text(json.dumps(data))
        source = folder / "statement.typ"
        source.write_bytes(_template() + attachments.encode())
        made = typst.compile(
            source,
            root=folder,
            ignore_system_fonts=True,
            format="pdf",
            pdf_standards=["a-3a", "ua-1"],
            timestamp=0,
        )
    assert isinstance(made, bytes), "a PDF is one file"
    return made


def _quoted(path: str) -> str:
    assert path.replace(".", "").replace("-", "").replace("+", "").isalnum(), path
    return f'"{path}"'


def _description(path: str) -> str:
    if path.endswith(".json"):
        return "What is known of the disputes that the statement names"
    return "The proof bundle: tally verify checks it"


class _Words:
    """Texts made fit for the fonts and for breaking into lines."""

    def __init__(self, has: Callable[[str], bool]) -> None:
        self._has = has

    def __call__(self, text: str) -> str:
        """A foreign text in a sentence or a cell."""
        return " ".join(_breakable(word) for word in covered(text, self._has).split(" "))

    def verbatim(self, text: str) -> list[str]:
        """A line of the note, in as many as the page is wide."""
        shown = covered(text, self._has)
        rows = [shown[:_WRAP]]
        rows += [f"    {shown[at : at + _WRAP - 4]}" for at in range(_WRAP, len(shown), _WRAP - 4)]
        return rows


def _breakable(word: str) -> str:
    if len(word) <= _TOKEN_MAX:
        return word
    # Not before a mark that belongs to the letter before it.
    return "".join(
        c if not place or unicodedata.combining(c) else f"{_BREAK}{c}"
        for place, c in enumerate(word)
    )


def _data(statement: Statement, paper: Paper, has: Callable[[str], bool]) -> dict[str, Any]:
    """What the template reads."""
    words, proof, digits = _Words(has), statement.proof, _digits(statement)
    end = _EPOCH + timedelta(microseconds=statement.end_us)
    shown = statement.lines <= LINES_MAX
    tables = [_table(table, words) for table in line_tables(statement)] if shown else []
    late = late_table(statement) if shown else None
    return {
        "paper": paper,
        "title": statement.title,
        "parties": [statement.provider, statement.consumer],
        "description": f"Usage of {statement.consumer} at {statement.provider},"
        f" {statement.period}; {'draft' if proof is None else f'checkpoint {proof.digest}'}",
        "keywords": [maker()],
        "date": [end.year, end.month, end.day, end.hour, end.minute, end.second],
        "draft": proof is None,
        "draft_note": wording.DRAFT_NOTE,
        "running": wording.running(statement),
        "mark": statement.mark,
        "foot": wording.foot(statement),
        "headline": words(statement.headline),
        "digest": proof.digest if proof else None,
        "qr": qr_svg(proof.digest) if proof else None,
        "facts": wording.facts(statement),
        # Long numbers get a smaller type, so that names keep their room; the longest are broken.
        "table_size": round(min(9.5, max(4.5, 600 / max(digits, 1))), 1),
        "narrow": digits > _DIGITS_WHOLE,
        "meters": [
            {
                "name": words(part.meter),
                "unit": words(part.unit),
                **{name: _number(getattr(part, name)) for name in NUMBERS},
            }
            for part in statement.meters
        ],
        "totals_note": words(wording.totals_note(statement)),
        "verdicts": [
            {
                "meter": words(verdict.meter),
                "result": verdict.result,
                "bad": verdict.result == "disputed",
                "provider": _number(verdict.provider),
                "consumer": _number(verdict.consumer),
            }
            for verdict in statement.verdicts or ()
        ],
        "declared": wording.declared(statement),
        "verdict_note": wording.verdict_note(statement),
        "claims_note": wording.claims_note(statement),
        "claims": [
            _claim(claim, words, pending) for claim, pending in wording.shown_claims(statement)
        ],
        "late_note": wording.LATE_NOTE,
        "late": None if late is None else _table(late, words),
        "lines_note": None if tables else wording.no_lines(statement, shown=shown),
        "columns_note": wording.columns_note(statement),
        "tables": tables,
        "signed_note": wording.SIGNED_NOTE,
        "note": [part for row in wording.note_rows(statement) for part in words.verbatim(row)],
        "signers": [list(signer) for signer in proof.signers] if proof else [],
        "steps": wording.steps(statement, "pdf") if proof else [],
        "proves": wording.proves(statement, "pdf") if proof else [],
    }


def _number(text: str | None) -> list[Any] | None:
    return None if text is None else list(groups(text))


def _table(table: Table, words: _Words) -> dict[str, Any]:
    return {
        "title": words(table.title),
        "texts": table.texts,
        "numbers": table.numbers,
        "rows": [
            [[words(text) for text in texts], [_number(number) for number in numbers]]
            for texts, numbers in table.rows
        ],
        "total": None
        if table.total is None
        else [table.total[0], [_number(number) for number in table.total[1]]],
    }


def _digits(statement: Statement) -> int:
    """How wide the numbers of a row may be together."""
    widest = 0
    for part in statement.meters:
        of_meter = [part, *part.rows, *part.late]
        lengths = (max(len(getattr(one, name) or "") for one in of_meter) for name in NUMBERS)
        widest = max(widest, sum(lengths))
    return widest


def _claim(claim: Claim, words: _Words, pending: bool) -> dict[str, Any]:
    return {
        "line": words(wording.claim_line(claim)),
        "amount": _number(claim.amount),
        "unit": words(claim.unit),
        "said": words(wording.claim_said(claim)),
        "stands": words(wording.claim_stands(claim)),
        "open": pending,
    }


def qr_svg(digest: str) -> str:
    """A QR code of the digest as SVG."""
    out = io.BytesIO()
    segno.make(digest, error="m", micro=False).save(
        out, kind="svg", xmldecl=False, svgns=True, border=2, dark="#16202b", omitsize=True
    )
    return out.getvalue().decode()
