"""The PDF: what it shows, what it holds, that it is the same bytes, and that others can read it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import builders
import pypdf
import pytest
import stating
import typst

from tallystick.node.statement import pdf
from tallystick.node.statement.glyphs import _BOUNDS, has_glyph
from tallystick.node.statement.making import Made
from tallystick.node.statement.model import draft_statement
from tallystick.node.statement.pdf import LINES_MAX, render_pdf
from tallystick.protocol.periods import Calendar
from tallystick.protocol.statement import Line
from tallystick.protocol.verify import verify_bundle


@pytest.fixture(scope="module")
def october() -> Made:
    """October of a busy channel, with a dispute."""
    channel = builders.busy_channel()
    return stating.made_of(channel, channel.closed[0], [stating.CLAIM])


@pytest.fixture(scope="module")
def pages(october: Made) -> bytes:
    """Its PDF."""
    return render_pdf(october.statement, october.attached)


def test_the_bundle_inside_is_found_by_others_and_holds(october: Made, pages: bytes) -> None:
    reader = pypdf.PdfReader(io.BytesIO(pages))
    assert list(reader.attachments) == ["2026-10.tally", "disputes.json"]
    (data,) = reader.attachments["2026-10.tally"]
    assert data == october.attached["2026-10.tally"]
    assert all(check.ok for check in verify_bundle(io.BytesIO(data)))
    (said,) = reader.attachments["disputes.json"]
    assert json.loads(said)[0]["reason"] == "we <were> down"


def test_it_says_what_the_statement_says(october: Made, pages: bytes) -> None:
    text = stating.pdf_text(pages)
    proof = october.statement.proof
    assert proof is not None
    for said in (
        "Usage statement 2026-10", "acme.example", "beta.example", "Europe/Berlin",
        "2026-09-30T22:00:00Z", proof.digest, october.statement.channel, "within tolerance",
        "declared by one", "12.50", "we <were> down", "until 2026-12-01 12:30 CET",
        "tally verify 2026-10.tally", "verify.html", "page 1 of", proof.digest[:16],
        "No signature covers the look of these pages", proof.signers[0][2], proof.signers[1][2],
    ):  # fmt: skip
        assert said in text, said
    # Every word of the note, in order, though its signature lines are wrapped.
    squeezed = "".join(text.split())
    note = [*proof.text.splitlines(), *proof.signature_lines]
    assert all("".join(row.split()) in squeezed for row in note)


def test_the_same_statement_is_the_same_bytes(october: Made, pages: bytes) -> None:
    assert render_pdf(october.statement, october.attached) == pages
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: render_pdf(october.statement, october.attached), range(3)))
    assert set(made) == {pages}


def test_another_process_in_another_place_makes_the_same_bytes(pages: bytes) -> None:
    code = (
        "import builders, stating, hashlib\n"
        "from tallystick.node.statement.pdf import render_pdf\n"
        "channel = builders.busy_channel()\n"
        "made = stating.made_of(channel, channel.closed[0], [stating.CLAIM])\n"
        "import sys; sys.stdout.buffer.write(render_pdf(made.statement, made.attached))\n"
    )
    path = ":".join(entry for entry in sys.path if entry)
    environment = {"PYTHONPATH": path, "TZ": "Asia/Tokyo", "LANG": "C", "PYTHONHASHSEED": "5"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment, cwd="/"
    )
    assert done.stdout == pages


def test_it_is_tagged_titled_and_dated_by_its_period(pages: bytes) -> None:
    reader = pypdf.PdfReader(io.BytesIO(pages))
    root = reader.trailer["/Root"]
    assert root["/Lang"] == "en-GB" and root["/MarkInfo"]["/Marked"]
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert "/StructTreeRoot" in root and root["/AF"]
    assert reader.metadata is not None
    assert reader.metadata.title == "Usage statement 2026-10"
    assert reader.metadata["/CreationDate"] == "D:20261031230000Z"
    xmp = root["/Metadata"].get_data().decode()
    assert "<pdfaid:part>3" in xmp and "<pdfuaid:part>1" in xmp
    fonts = {str(font) for page in reader.pages for font in _fonts(page)}
    assert fonts and all("Libertinus" in font or "DejaVu" in font for font in fonts), fonts


def _fonts(page: pypdf.PageObject) -> list[str]:
    found = page["/Resources"]["/Font"]
    return [found[name]["/BaseFont"] for name in found]


def test_paper_is_a4_or_letter(october: Made) -> None:
    sizes = []
    for paper in pdf.PAPERS:
        data = render_pdf(october.statement, october.attached, paper=paper)
        box = pypdf.PdfReader(io.BytesIO(data)).pages[0].mediabox
        sizes.append((round(box.width), round(box.height)))
    assert sizes == [(595, 842), (612, 792)]


def test_ugly_subjects_are_text_and_nothing_else() -> None:
    made = stating.ugly()
    text = stating.pdf_text(render_pdf(made.statement, made.attached))
    squeezed = "".join(text.split())
    for said in (
        "<script>alert(1)</script>", '#panic("x")*b*_i_$x$@a//c', "rtl\\u{202E}evil", "x" * 128,
        "a\\u{0020}b", "\\u{9879}\\u{76EE}\\u{4E03}", "\\u{1F600}", "zero\\u{200B}width",
        "\\u{005C}u{41}", "{{7*7}}", "a\\b",
    ):  # fmt: skip
        assert said in squeezed, said


def test_letters_that_no_font_has_together_are_written_out() -> None:
    channel = builders.Channel()
    # Each has a glyph in one of the fonts, and no font has them all.
    subject = "\u13e8\u05b5\u00bb\u2531\u035d\u1d2d\u01c9\u28d3\u1ea4\u032a\u0323\u2379\u2cc5\u0354"
    assert all(map(has_glyph, subject))
    channel.provider_log.delta("d", "tokens", 1, subject=subject)
    made = stating.made_of(channel, channel.close())
    text = "".join(stating.pdf_text(render_pdf(made.statement, made.attached)).split())
    assert all(f"\\u{{{ord(character):04X}}}" in text for character in subject)


def test_every_character_of_the_table_has_a_glyph() -> None:
    ranges = zip(_BOUNDS[::2], _BOUNDS[1::2], strict=True)
    paragraphs = "\n".join(
        f'#par[x#"\\u{{{point:x}}}"]' for start, end in ranges for point in range(start, end)
    )
    source = (
        '#set document(title: "x")\n'
        '#set text(font: ("Libertinus Serif", "DejaVu Sans Mono"))\n' + paragraphs
    )
    assert typst.compile(
        source.encode(), ignore_system_fonts=True, format="pdf", pdf_standards=["a-3a"]
    )


def test_a_draft_is_seen_to_be_one_and_holds_nothing() -> None:
    channel = builders.Channel()
    channel.both("t", "tokens", 5)
    period = Calendar("month", "Europe/Berlin").parse("2026-10")
    lines = channel.derive()
    draft = draft_statement(
        channel.terms, period, lines, channel.verdict("2026-10", lines), [stating.CLAIM]
    )
    data = render_pdf(draft, {})
    text = stating.pdf_text(data)
    assert "DRAFT: this period is not closed" in text and "As they stood now" in text
    assert "What both signed" not in text and "tally verify" not in text
    assert not pypdf.PdfReader(io.BytesIO(data)).attachments


def test_many_lines_flow_over_pages_under_one_header() -> None:
    made = _with_lines(300)
    reader = pypdf.PdfReader(io.BytesIO(render_pdf(made.statement, made.attached)))
    texts = [page.extract_text() for page in reader.pages]
    within = [text for text in texts if text.count("subject-") > 20]
    assert len(within) > 4
    for number, text in enumerate(texts, 1):
        assert f"page {number} of {len(texts)}" in text
    assert all("subject" in text and "deltas" in text for text in within)
    squeezed = "".join("".join(texts).split())
    assert all(f"subject-{n:05}" in squeezed for n in range(300))
    assert "300lines" in squeezed


def test_too_many_lines_are_said_to_be_in_the_bundle() -> None:
    made = _with_lines(LINES_MAX + 1)
    text = stating.pdf_text(render_pdf(made.statement, made.attached))
    assert f"The {LINES_MAX + 1} lines are too many for these pages" in text
    assert "statement.csv in 2026-10.tally" in " ".join(text.split())


def _with_lines(count: int) -> Made:
    """A statement with other lines than its bundle has."""
    channel = builders.Channel([builders.meter("tokens")])
    channel.both("t", "tokens", 5)
    made = stating.made_of(channel, channel.close())
    (part,) = made.statement.meters
    rows = tuple(replace(part.rows[0], subject=f"subject-{n:05}") for n in range(count))
    statement = replace(made.statement, meters=(replace(part, rows=rows),), lines=count)
    return Made(statement, made.attached)


def test_the_longest_numbers_have_room() -> None:
    channel = builders.Channel([builders.meter("m", scale=9)])
    channel.both("t", "m", 5)
    made = stating.made_of(channel, channel.close())
    number = "-" + "9" * 30 + "." + "1" * 9
    line = Line("2026-10", None, "m", "s" * 90, "token", *([number] * 5), 1)
    (part,) = made.statement.meters
    row = replace(part.rows[0], **{name: getattr(line, name) for name in pdf.NUMBERS})
    statement = replace(made.statement, meters=(replace(part, rows=(row,)),))
    text = "".join(stating.pdf_text(render_pdf(statement, made.attached)).split())
    assert text.count("\u2212" + number[1:]) == 5
