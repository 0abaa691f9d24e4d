"""Consoles of real nodes, as people meet them: logged in, in a real browser."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, Literal

import browsers
from axe_playwright_python.sync_playwright import Axe
from nodes import Party
from playwright.sync_api import Browser, Page

from tallystick.node import cli

HOUR = "2026-10-03T10"
AT = "2026-10-03T10:05:00Z"


def tally(party: Party, *arguments: str) -> str:
    """What a verb that works prints; run in this process, which saves much time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli._run(["--home", str(party.home), *arguments])
    assert code == 0, err.getvalue()
    return out.getvalue()


def tally_json(party: Party, *arguments: str) -> Any:
    """A verb's JSON document."""
    return json.loads(tally(party, *arguments, "--json"))


def emit(party: Party, meter: str, quantity: int, subject: str, id_: str, *more: str) -> None:
    """Record a delta of the hour."""
    tally(party, "emit", meter, str(quantity), "--subject", subject, "--id", id_, "--at", AT, *more)


def origin_of(party: Party) -> str:
    """Where a party's pages are."""
    address: str = tally_json(party, "status")["http"]
    return address


def enter(page: Page, party: Party) -> None:
    """Log in with a code, as a person who types it."""
    made = tally_json(party, "console", "--print")
    page.goto(made["address"])
    page.get_by_role("textbox", name="Code").fill(made["code"].lower())
    page.locator("form:has(#code) button").click()
    page.wait_for_url("**/console/")


@contextmanager
def opened(
    browser: Browser,
    party: Party,
    *,
    size: tuple[int, int] = browsers.DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
    allow_errors: bool = False,
) -> Iterator[Page]:
    """A page of a party's console, logged in as the owner, that asks nothing of anybody else."""
    with browsers.opened(
        browser,
        origin_of(party),
        size=size,
        scheme=scheme,
        scripts=scripts,
        allow_errors=allow_errors,
    ) as page:
        enter(page, party)
        yield page


def check_accessible(page: Page) -> None:
    """Fail on any finding of axe, and on a page that is wider than its window."""
    found = Axe().run(page).response["violations"]
    told = [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found
    ]
    assert not told, f"{page.url}: " + "; ".join(told)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{page.url} is {wide} pixels wider than its window"
