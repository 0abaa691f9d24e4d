"""Comparing an upload: a process within limits, its waterfall as a page, and every way in which it
can go wrong told in words while the node goes on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import browsers
import nodes
import pytest
from consoles import HOUR, check_accessible, opened, origin_of, tally, tally_json
from nodes import Party
from playwright.sync_api import Browser, Page, expect

from tallystick.node.console.comparing import SAID_MAX, _end_of

MAP = """\
time    = { column = "time", zone = "UTC" }
id      = { column = "id" }
subject = { column = "subject" }
[[meter]]
meter = "context-tokens"
quantity = { column = "context-tokens" }
[[meter]]
meter = "generated-tokens"
quantity = { column = "generated-tokens" }
"""
LOST = 30

Site = tuple[Party, str, Path]


def _export(file: Path, rows: int, lost: int = 0) -> None:
    with file.open("w", newline="") as opened_:
        writer = csv.writer(opened_)
        writer.writerow(["id", "time", "subject", "context-tokens", "generated-tokens"])
        for n in range(lost, rows):
            at = f"2026-10-03T10:{n % 60:02}:{n // 60 % 60:02}Z"
            writer.writerow([f"evt-{n}", at, f"project-{n % 3}", 1000 + n, 10 + n])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Beta's node, whose provider recorded an hour of usage; the address of that hour's page."""
    folder = tmp_path_factory.mktemp("compared")
    with nodes.channel(folder) as (acme, beta):
        _export(folder / "acme.csv", 300)
        (folder / "map.toml").write_text(MAP)
        tally(acme, "import", str(folder / "acme.csv"), "--map", str(folder / "map.toml"), "--wait")
        channel = tally_json(beta, "status")["channels"][0]["channel"]
        nodes.wait_until(lambda: tally_json(beta, "derive")["lines"])
        yield beta, f"/console/channels/{channel}/periods/{HOUR}", folder


def _upload(page: Page, site: Site, file: Path, mapping: str | None = None) -> None:
    page.goto(origin_of(site[0]) + site[1])
    summary = page.get_by_text("Compare a file with the record", exact=True)
    if not page.get_by_label("Which of its columns mean what").is_visible():
        summary.click()
    page.get_by_label("An export of your own system").set_input_files(file)
    if mapping is not None:
        page.get_by_label("Which of its columns mean what").fill(mapping)
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/console/comparisons/*")
    expect(page.get_by_text("Comparing.")).to_have_count(0, timeout=60_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_waterfall_of_an_upload(
    chromium: Browser, site: Site, tmp_path: Path, scheme: str
) -> None:
    file = tmp_path / "beta.csv"
    _export(file, 300, lost=LOST)
    size = browsers.PHONE if scheme == "dark" else browsers.DESKTOP
    beta = site[0]
    with opened(chromium, beta, size=size, scheme="dark" if scheme == "dark" else "light") as page:
        _upload(page, site, file)  # with the mapping that the page suggests
        said = page.inner_text("main")
        less = sum(1000 + n for n in range(LOST))
        assert f"{less} tokens less" in said
        assert "Not tolerated" in said
        assert page.locator("figure.drawing svg[role=img]").count() == 2
        row = page.locator("tr", has_text="unexplained").first
        assert row.locator("td").last.inner_text() == "0"
        check_accessible(page)
        with page.expect_download() as waiting:
            page.get_by_role("link", name="The events behind each step").click()
        waiting.value.save_as(tmp_path / "events.csv")
        with (tmp_path / "events.csv").open(newline="") as opened_:
            assert len(list(csv.DictReader(opened_))) == 2 * LOST
        page.get_by_role("link", name="The whole report").click()
        assert "beta.csv against the record" in page.inner_text("h1")
        back = page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth")
        assert back != "none"  # its own style is in force under its own policy
        page.goto(origin_of(beta) + site[1])
        page.get_by_role("link", name="beta.csv against the record").first.click()
        expect(page.get_by_role("heading", name="beta.csv against the record")).to_be_visible()
    kept = [path.name for path in (beta.home / "comparisons").rglob("*.csv")]
    assert "beta.csv" not in kept  # the upload itself is gone


def test_equal_numbers_are_said_to_be(chromium: Browser, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "same.csv"
    _export(file, 300)
    with opened(chromium, site[0]) as page:
        _upload(page, site, file)
        assert "nothing differs" in page.inner_text("main")
        assert "Within what the terms tolerate" in page.inner_text("main")
        check_accessible(page)


@pytest.mark.parametrize(
    ("name", "content", "mapping", "said"),
    [
        ("a.csv", b"id,time\n1,2\n", None, "subject"),
        ("a.csv", b"\xff\xfe\x00garbage\n" * 50, None, ""),
        ("a.parquet", b"PAR1 not really", None, ""),
        ("a.csv", b"id,time\n", "time = ", "not valid TOML"),
        ("<b>&'.csv", b"id,time\n", None, "subject"),
    ],
)
def test_what_cannot_be_compared_is_told_in_words(
    chromium: Browser, site: Site, tmp_path: Path, name: str, content: bytes,
    mapping: str | None, said: str,
) -> None:  # fmt: skip
    file = tmp_path / name
    file.write_bytes(content)
    with opened(chromium, site[0], allow_errors=True) as page:
        _upload(page, site, file, mapping)
        text = page.inner_text("main")
        assert "Try another file or mapping" in text
        assert said in text
        assert "Traceback" not in text
        assert str(site[0].home) not in text
        assert name in page.inner_text("h1")
        check_accessible(page)


def test_what_is_no_export_is_refused(chromium: Browser, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "a.exe"
    file.write_bytes(b"MZ")
    with opened(chromium, site[0], allow_errors=True) as page:
        page.goto(origin_of(site[0]) + site[1])
        if not page.get_by_label("Which of its columns mean what").is_visible():
            page.get_by_text("Compare a file with the record", exact=True).click()
        page.get_by_label("An export of your own system").set_input_files(file)
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_text("is of a kind that is not read")).to_be_visible()


def test_limits_hold_and_the_node_goes_on(chromium: Browser, site: Site, tmp_path: Path) -> None:
    """The last of the file: it restarts beta with limits that nothing fits into."""
    beta = site[0]
    file = tmp_path / "beta.csv"
    _export(file, 300)
    beta.stop()
    assert list((beta.home / "comparisons").iterdir())
    beta.configure("[console]\ncompare_mebibytes = 256\nupload_mebibytes = 1\n")
    beta.start()
    assert not (beta.home / "comparisons").exists()
    with opened(chromium, beta, allow_errors=True) as page:
        _upload(page, site, file)
        assert "memory" in page.inner_text("main").lower()
        expect(page.get_by_text("Try another file or mapping")).to_be_visible()
        large = tmp_path / "large.csv"
        large.write_bytes(b"x" * (1 << 20))
        page.goto(origin_of(beta) + site[1])
        page.get_by_text("Compare a file with the record", exact=True).click()
        page.get_by_label("An export of your own system").set_input_files(large)
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_text("This is larger than 1,048,576 bytes")).to_be_visible()
        page.get_by_role("link", name="To the overview").click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    beta.stop()
    beta.configure("[console]\ncompare_seconds = 1\n")
    beta.start()
    _export(file, 200_000)
    with opened(chromium, beta) as page:
        _upload(page, site, file)
        said = page.inner_text("main")
        assert "took more than 1 seconds" in said or "more time or memory" in said
    assert tally_json(beta, "status")["running"] is True


@pytest.mark.parametrize("size", [0, 10, SAID_MAX, 5 * SAID_MAX])
def test_only_the_end_of_what_was_said_is_read(tmp_path: Path, size: int) -> None:
    file = tmp_path / "told.txt"
    file.write_bytes(b"\xc3\xa4" * (size // 2) + b" the reason\n")
    said = _end_of(file)
    assert said.endswith("the reason")
    assert len(said) <= SAID_MAX
