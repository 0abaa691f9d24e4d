"""Statements on the page: the bundle inside is found and checked; the pages are not vouched for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import builders
import pytest
import stating
import verifying
from fuzzing.mutation import mutations
from playwright.sync_api import Browser, Page
from verifying import Found, Given, by_browser, by_python, outcomes

from tallystick.node.statement.html import render_html
from tallystick.node.statement.pdf import render_pdf

_CHANNEL = builders.busy_channel()
_MADE = stating.made_of(_CHANNEL, _CHANNEL.closed[0], [stating.CLAIM], full=True)
FILES = {
    "statement.pdf": render_pdf(_MADE.statement, _MADE.attached),
    "statement.html": render_html(_MADE.statement, _MADE.attached),
}
TELLS_NOTHING = "this page cannot make the pages again"


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with verifying.verifier(chromium, tmp_path_factory.mktemp("verifier")) as page:
        yield page


def _bundle_of(found: Found) -> list[tuple[int, str, bool]]:
    """All but what is said of the pages."""
    return [check for check in outcomes(found) if check[1] != "pages"]


@pytest.mark.parametrize("name", FILES)
def test_the_bundle_inside_is_checked_and_the_pages_are_left_open(page: Page, name: str) -> None:
    [found] = by_browser(page, [Given(FILES[name])])
    assert [check[1] for check in by_python(Given(FILES[name]))] == [check[1] for check in found]
    assert all(check[2] for check in found[:-1])
    assert len(found) == 13
    assert TELLS_NOTHING in found[-1][3]


@pytest.mark.parametrize("name", FILES)
def test_changed_statements_are_found_out_by_the_same_checks(page: Page, name: str) -> None:
    data, chance = FILES[name], random.Random(5)
    given = [Given(changed) for changed in mutations([data[:60_000]], 15, 2)]
    for _ in range(40):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        given.append(Given(bytes(changed)))
    for one, theirs in zip(given, by_browser(page, given), strict=True):
        ours = by_python(one)
        assert _bundle_of(theirs) == _bundle_of(ours)
        assert theirs[-1][1] == ours[-1][1]
        assert not theirs[-1][2]


@pytest.mark.parametrize("name", FILES)
def test_what_is_shown_is_what_the_bundle_says(
    chromium: Browser, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    with verifying.verifier(chromium, tmp_path) as page:
        page.set_input_files("#files", str(tmp_path / name))
        page.wait_for_selector(verifying.DONE, state="attached")
        says = page.inner_text("article h2")
        assert says.startswith("The bundle inside holds: acme.example and beta.example both signed")
        shown = page.inner_text("article")
        assert "Whether the pages of this file show the same, this page cannot tell." in shown
        assert "Totals that both signed" in shown
        assert page.locator(".verdict.open").count() == 1


def test_an_invoice_is_not_read_and_that_is_said(page: Page) -> None:
    given = [Given(b"\xef\xbb\xbf\n<?xml version='1.0'?><Invoice/>"), Given(b"<x")]
    for found in by_browser(page, given):
        assert [check[:3] for check in found] == [(1, "attachment", False)]
        assert "Save the PDF or the bundle" in found[0][3]
    drafts = [Given(b"%PDF-1.7 nothing"), Given(b"<!doctype html>"), Given(b"%PDF-")]
    for one, found in zip(drafts, by_browser(page, drafts), strict=True):
        assert found == by_python(one)
