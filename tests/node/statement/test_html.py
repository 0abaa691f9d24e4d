"""The page: the same content, nothing that runs or is fetched, in a real browser and on paper."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path

import builders
import pypdf
import pytest
import stating
from playwright.sync_api import Browser, sync_playwright

from tallystick.node.statement.html import render_html
from tallystick.node.statement.model import draft_statement
from tallystick.protocol.periods import Calendar

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a channel with a dispute."""
    channel = builders.busy_channel()
    made = stating.made_of(channel, channel.closed[1], [stating.CLAIM])
    path = tmp_path_factory.mktemp("page") / "statement.html"
    path.write_bytes(render_html(made.statement, made.attached))
    return path


def test_it_is_the_same_bytes_and_holds_the_bundle(page_file: Path) -> None:
    channel = builders.busy_channel()
    made = stating.made_of(channel, channel.closed[1], [stating.CLAIM])
    data = render_html(made.statement, made.attached)
    assert data == page_file.read_bytes()
    found = re.findall(rb'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', data)
    assert [(name.decode(), base64.b64decode(text)) for name, text in found] == list(
        made.attached.items()
    )


def test_ugly_subjects_are_text_and_nothing_else() -> None:
    made = stating.ugly()
    text = render_html(made.statement, made.attached).decode()
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text and "\u202e" not in text and "\u200b" not in text
    assert "项目七-日本" in text and "👩\u200d👩\u200d👧 😀" in text
    assert html.escape('"q" & <b>').replace("&quot;", "&#34;") in text


def test_a_browser_shows_it_runs_nothing_and_asks_for_nothing(
    browser: Browser, page_file: Path
) -> None:
    for width, scheme in ((1000, "light"), (380, "dark")):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(page_file.as_uri())
        assert said == [] and asked == [page_file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.title() == "Usage statement 2026-11, acme.example to beta.example"
        # Groups of digits are apart, and what is copied is the number.
        assert page.locator("svg[role=img]").bounding_box()["width"] > 100  # type: ignore[index]
        page.close()


def test_the_link_saves_the_bundle(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    with page.expect_download() as saved:
        page.get_by_role("link", name="2026-11.tally").click()
    saved.value.save_as(tmp_path / "saved")
    channel = builders.busy_channel()
    assert (tmp_path / "saved").read_bytes() == channel.bundle(channel.closed[1])
    page.close()


def test_it_is_accessible(browser: Browser, page_file: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(page_file.as_uri())
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        context.close()


def test_numbers_are_copied_plain(browser: Browser, tmp_path: Path) -> None:
    made = stating.ugly()
    path = tmp_path / "ugly.html"
    path.write_bytes(render_html(made.statement, made.attached))
    page = browser.new_page()
    page.goto(path.as_uri())
    cells = page.locator("td.n").all_text_contents()
    assert "1000000000000000000" in cells
    page.close()


def test_it_prints_on_both_papers(browser: Browser, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    for paper, size in (("A4", (595, 842)), ("Letter", (612, 792))):
        reader = pypdf.PdfReader(io.BytesIO(page.pdf(format=paper)))
        box = reader.pages[0].mediabox
        assert abs(box.width - size[0]) < 2 and abs(box.height - size[1]) < 2
        texts = [one.extract_text() for one in reader.pages]
        assert len(texts) > 1
        for number, text in enumerate(texts, 1):
            assert f"page {number} of {len(texts)}" in text
    page.close()


def test_a_draft_is_seen_to_be_one() -> None:
    channel = builders.Channel()
    channel.both("t", "tokens", 5)
    lines = channel.derive()
    period = Calendar("month", "Europe/Berlin").parse("2026-10")
    draft = draft_statement(channel.terms, period, lines, channel.verdict("2026-10", lines), [])
    text = render_html(draft, {}).decode()
    assert "DRAFT: this period is not closed" in text
    assert "base64," not in text and "What both signed" not in text
