"""The pictures in docs/console: two real nodes with the demonstration's data, seen in Chromium.

Each page's weight and the time until something of it is painted are printed on the way.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import browsers
import consoles
import demo
import nodes
from playwright.sync_api import Page

PICTURES = Path(__file__).parents[1] / "docs" / "console"
WIDE = (1280, 900)
OPEN = "2023-11-16T19"


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: of what, as whom, and how."""

    name: str
    path: str
    size: tuple[int, int] = WIDE
    scheme: Literal["light", "dark"] = "light"
    height: int = 1100  # at most so much of the page is shown


def main() -> None:
    """Make all pictures anew."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with nodes.running(folder) as (acme, beta), browsers.launched() as browser:
            channel = _prepare(folder, acme, beta)
            base = f"/console/channels/{channel}"
            dispute = beta.json("disputes")["disputes"][0]["dispute"]
            with consoles.opened(browser, beta) as page:
                compared = _compare(page, folder, base)
            of_beta = [
                Shot("overview", "/console/"),
                Shot("channel", base),
                Shot("comparison", compared, height=1500),
                Shot("period", f"{base}/periods/{demo.PERIOD}", scheme="dark", height=1900),
                Shot("delta", "/console/deltas?name=context-tokens/conv-459", height=1300),
                Shot("overview-phone", "/console/", browsers.PHONE, "dark"),
            ]
            of_acme = [
                Shot("disputes", "/console/disputes", scheme="dark"),
                Shot("dispute-phone", f"/console/disputes/{dispute}", browsers.PHONE, height=1700),
            ]
            for party, shots in ((beta, of_beta), (acme, of_acme)):
                for shot in shots:
                    with consoles.opened(
                        browser, party, size=shot.size, scheme=shot.scheme
                    ) as page:
                        _take(page, shot)
            with consoles.opened(browser, acme, size=WIDE) as page:
                _invite(page)


def _prepare(folder: Path, acme: nodes.Party, beta: nodes.Party) -> str:
    """A channel with an hour that both declared and closed, and a dispute of the next one."""
    nodes.pair(acme, beta)
    channel = nodes.found(acme, beta, demo.TERMS)
    mapping = folder / "acme.toml"
    mapping.write_text(demo.PROVIDER_MAP)
    acme.tally("import", str(demo.TRACE), "--map", str(mapping), "--wait")
    for party in (beta, acme):
        party.tally("declare", demo.PERIOD, str(demo.TRACE), "--map", str(mapping))

    def revealed() -> bool:
        shown = acme.json("declare", demo.PERIOD, "--show")
        return None not in (shown["provider"]["totals"], shown["consumer"]["totals"])

    nodes.wait_until(revealed)
    acme.tally("checkpoint", demo.PERIOD)
    line = f"{OPEN}/generated-tokens/conv"
    beta.tally("dispute", "--line", line, "--amount", "12480", "--code", "quantity",
               "--reason", "our gateway timed out from 19:05 to 19:09")  # fmt: skip
    nodes.wait_until(lambda: acme.json("disputes")["disputes"])
    demo._plant(folder / "beta.csv")
    return channel


def _compare(page: Page, folder: Path, base: str) -> str:
    """Upload beta's export, in which differences are planted; where its comparison is."""
    page.goto(f"{_origin(page)}{base}/periods/{demo.PERIOD}")
    page.get_by_label("An export of your own system").set_input_files(folder / "beta.csv")
    page.get_by_label("Which of its columns mean what").fill(demo.MAP)
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/console/comparisons/*")
    page.get_by_role("heading", name="Why").wait_for(timeout=120_000)
    return page.url.removeprefix(_origin(page))


def _origin(page: Page) -> str:
    return page.url.partition("/console/")[0]


def _take(page: Page, shot: Shot) -> None:
    """A picture of a page, and its figures."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    received: list[int] = []

    def note(event: dict[str, Any]) -> None:
        received.append(event["encodedDataLength"])

    session.on("Network.loadingFinished", note)
    page.goto(_origin(page) + shot.path)
    page.wait_for_load_state("networkidle")
    painted = page.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN"
    )
    print(
        f"{shot.name:16} {sum(received) / 1024:6.1f} KiB in {len(received)} requests,"
        f" first paint after {painted:4.0f} ms",
        flush=True,
    )
    _picture(page, shot.name, shot.height)


def _invite(page: Page) -> None:
    page.goto(f"{_origin(page)}/console/peers")
    page.get_by_role("button", name="Make a code").click()
    page.get_by_role("heading", name="A pairing code").wait_for()
    _picture(page, "invite", 700)


def _picture(page: Page, name: str, height: int) -> None:
    whole = page.evaluate("document.documentElement.scrollHeight")
    width = page.evaluate("innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": min(whole, height)}
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True, clip=clip)


if __name__ == "__main__":
    if browsers.chromium_path() is None:
        sys.exit("Chromium is needed: put it on PATH, or name it in the variable CHROMIUM")
    main()
