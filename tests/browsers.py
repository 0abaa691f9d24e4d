"""A real Chromium for tests of pages: found on this machine, shut off from any other.

`launched` starts one; `opened` gives a page in a fresh profile and fails, when it ends, if the page
asked for anything outside of its own origin, threw, or wrote an error on its console. Both are
blocking, so that a test that uses them is a plain function. The fixture `chromium` (conftest) is
one browser a test file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = (
    "--no-sandbox",  # a container's root may not make namespaces; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = (390, 844)
DESKTOP = (1200, 900)


def chromium_path() -> str | None:
    """Where Chromium is: the variable `CHROMIUM`, or the first of its names on PATH."""
    named = os.environ.get("CHROMIUM")
    found = [named] if named else [shutil.which(name) for name in NAMES]
    return next((path for path in found if path), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window. Without Chromium the test is skipped; under CI it fails."""
    path = chromium_path()
    if path is None:
        reason = f"no Chromium: none of {', '.join(NAMES)} is on PATH, and CHROMIUM is not set"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser,
    origin: str = "",
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
    allow_errors: bool = False,
    script: str = "",
) -> Iterator[Page]:
    """A page in a profile of its own that reaches `origin` ("http://127.0.0.1:PORT"; "" is files on
    this disk) and nothing else.

    `allow_errors` is for pages that are meant to answer 4xx: Chromium writes those on the console.
    `script` runs before anything of the page does; without `scripts` none does.
    """
    faults: list[str] = []
    own = (f"{origin.rstrip('/')}/" if origin else "file:///", "data:", "blob:")

    def judge(route: Route) -> None:
        url = route.request.url
        if url.startswith(own):
            route.continue_()
            return
        faults.append(f"a request left the page: {route.request.method} {url}")
        route.abort()

    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=scripts,
    )
    try:
        context.route("**/*", judge)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"the page threw: {error}"))
        if not allow_errors:
            page.on(
                "console",
                lambda message: (
                    faults.append(f"on the console: {message.text}")
                    if message.type == "error"
                    else None
                ),
            )
        yield page
    finally:
        context.close()
    if faults:
        raise AssertionError("; ".join(faults))
