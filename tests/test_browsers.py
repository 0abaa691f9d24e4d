"""The browser that tests use: a page that stays at home passes, one that does not fails."""

from __future__ import annotations

from pathlib import Path

import browsers
import pytest
from playwright.sync_api import Browser


def _page(folder: Path, body: str) -> str:
    path = folder / "page.html"
    path.write_text(f"<!doctype html><html lang=en><title>T</title><body>{body}")
    return path.as_uri()


def test_a_quiet_page_passes(chromium: Browser, tmp_path: Path) -> None:
    with browsers.opened(chromium) as page:
        page.goto(_page(tmp_path, "<p id=p>here</p>"))
        assert page.inner_text("#p") == "here"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<img src='http://127.0.0.1:9/x.png'>", "a request left the page: GET http://127.0.0.1:9"),
        ("<script>throw new Error('oops')</script>", "the page threw: oops"),
        ("<script>console.error('oops')</script>", "on the console: oops"),
    ],
)
def test_a_loud_page_fails(chromium: Browser, tmp_path: Path, body: str, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault), browsers.opened(chromium) as page:
        page.goto(_page(tmp_path, body))


def test_without_chromium_a_test_is_skipped_but_not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium"), browsers.launched():
        pass
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"), browsers.launched():
        pass
