"""The console's pages in a real browser: each accessible in both colour schemes and at a phone's
width, live, and to be used with keys alone and without a script.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import browsers
import consoles
import nodes
import pytest
from consoles import HOUR, check_accessible, emit, enter, opened, origin_of, tally, tally_json
from nodes import Party
from playwright.sync_api import Browser, Page, expect

LATER = "2026-10-03T12:05:00Z"

Office = tuple[Party, Party, str]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Acme and beta with usage in a closed hour and in open ones, and a dispute that waits."""
    with nodes.channel(tmp_path_factory.mktemp("office")) as (acme, beta):
        channel = tally_json(acme, "status")["channels"][0]["channel"]
        for n in range(4):
            emit(acme, "context-tokens", 1_000_000 + n, f"project-{n % 2}", f"evt-{n}")
        tally(acme, "emit", "generated-tokens", "77", "--subject", "project-0", "--id", "g",
              "--at", LATER, "--wait")  # fmt: skip
        tally(acme, "checkpoint", HOUR)
        tally(beta, "dispute", "generated-tokens/g", "--code", "quantity", "--reason", "never came")
        nodes.wait_until(lambda: tally_json(acme, "disputes")["disputes"])
        yield acme, beta, channel


def _addresses(office: Office) -> list[str]:
    """Every page that acme has."""
    acme, _, channel = office
    dispute = tally_json(acme, "disputes")["disputes"][0]["dispute"]
    base = f"/console/channels/{channel}"
    return [
        "/console/",
        base,
        f"{base}/periods/{HOUR}",
        f"{base}/periods/2026-10-03T12",
        f"{base}/periods/2026-10-03T13",
        f"{base}/periods/2026-10-03T12/close",
        f"{base}/dispute",
        f"{base}/dispute?period={HOUR}&meter=context-tokens&subject=project-1",
        "/console/deltas",
        "/console/deltas?name=evt-1",
        "/console/disputes",
        "/console/disputes?all=yes",
        f"/console/disputes/{dispute}",
        "/console/peers",
        "/console/peers/beta.example/propose",
        "/console/evidence",
        "/console/login",
    ]


@pytest.mark.parametrize(
    ("scheme", "size"),
    [("light", browsers.PHONE), ("dark", browsers.DESKTOP)],
    ids=["phone-light", "desktop-dark"],
)
def test_every_page_is_accessible(
    chromium: Browser,
    office: Office,
    scheme: Literal["light", "dark"],
    size: tuple[int, int],
) -> None:
    with opened(chromium, office[0], scheme=scheme, size=size) as page:
        for address in _addresses(office):
            answer = page.goto(origin_of(office[0]) + address)
            assert answer is not None and answer.status == 200, address
            check_accessible(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_errors_are_accessible_and_say_what_to_do(
    chromium: Browser, office: Office, scheme: Literal["light", "dark"]
) -> None:
    base = origin_of(office[0])
    with opened(chromium, office[0], scheme=scheme, allow_errors=True) as page:
        for address, status, said in (
            ("/console/nothing", 404, "There is no such page"),
            ("/console/channels/ffff", 404, "No channel matches"),
            (f"/console/channels/{office[2]}/periods/2026-W01", 400, "is not a hour"),
            (f"/console/channels/{office[2]}/periods/{HOUR}/close", 400, "is closed already"),
            ("/console/deltas?name=none", 404, "No delta here is called none"),
            ("/console/disputes/ffff", 404, "No dispute begins with"),
            ("/console/comparisons/none", 404, "not kept any more"),
            ("/console/disputes?page=x&all=no", 200, "Waiting for you"),
        ):
            answer = page.goto(base + address)
            assert answer is not None
            assert answer.status == status, address
            assert said in page.inner_text("main"), address
            check_accessible(page)


def test_the_overview_says_it_in_words(chromium: Browser, office: Office) -> None:
    with opened(chromium, office[0]) as page:
        card = page.locator("article")
        text = card.inner_text()
        assert "A dispute is open; it waits for you." in text
        assert "what is not answered is upheld" in text
        assert HOUR in text
        assert f"beta.example has until then to dispute the checkpoint of {HOUR}" in text
        assert "2026-10-03T12" in text
        expect(page.get_by_role("link", name="Disputes 1 waits for you")).to_be_visible()


def test_a_delta_shows_its_proof_and_gives_it_away(
    chromium: Browser, office: Office, tmp_path: Path
) -> None:
    with opened(chromium, office[1]) as page:
        page.get_by_label("Its id, or METER/ID").fill("evt-2")
        page.get_by_role("button", name="Find").click()
        expect(page.get_by_role("heading", name="Delta evt-2")).to_be_visible()
        assert "1000002" in page.inner_text("main")  # exact: the groups are style alone
        assert page.locator("ol.path li").count() == 3
        for name in (".tlog-proof", ".leaf"):
            with page.expect_download() as waiting:
                page.get_by_role("link", name=name, exact=True).click()
            waiting.value.save_as(tmp_path / f"got{name}")
    tally(office[0], "prove", "context-tokens/evt-2", "-o", str(tmp_path))
    assert (tmp_path / "got.leaf").read_bytes() == (
        tmp_path / "context-tokens-evt-2.leaf"
    ).read_bytes()
    assert (tmp_path / "got.tlog-proof").read_bytes().startswith(b"c2sp.org/tlog-proof@v1\n")


def test_a_closed_period_gives_its_bundle(
    chromium: Browser, office: Office, tmp_path: Path
) -> None:
    acme, _, channel = office
    with opened(chromium, acme) as page:
        page.goto(f"{origin_of(acme)}/console/channels/{channel}/periods/{HOUR}")
        note = page.get_by_role("region", name="The checkpoint’s text").inner_text()
        assert note.startswith("tallystick checkpoint v1\n")
        assert page.locator("svg.qr").count() == 1
        for name in ("Proof bundle", "Full bundle", "Statement as PDF"):
            with page.expect_download() as waiting:
                page.get_by_role("link", name=name).click()
            file = tmp_path / waiting.value.suggested_filename
            waiting.value.save_as(file)
            assert tally_json(acme, "verify", str(file))["ok"] is True


def test_a_period_is_closed(chromium: Browser, office: Office) -> None:
    """Last of the periods, so that the others stay as they are."""
    acme, beta, _ = office
    late = "2026-10-03T12"
    with opened(chromium, acme) as page:
        page.get_by_role("link", name=late).click()
        page.get_by_role("link", name=f"Close {late}").click()
        text = page.get_by_role("region", name="What will be signed").inner_text()
        assert f"period {late} UTC" in text
        page.get_by_role("button", name="Sign and close").click()
        expect(page.get_by_text("both nodes computed the same")).to_be_visible()
        shown = page.get_by_role("region", name="The checkpoint’s text").inner_text()
    signed = tally_json(beta, "checkpoint", late)["checkpoint"]
    assert shown.strip() == signed.strip()


def test_what_comes_shows_by_itself(chromium: Browser, office: Office) -> None:
    acme, beta, channel = office
    with opened(chromium, beta) as page:
        page.goto(f"{origin_of(beta)}/console/channels/{channel}")
        link = page.get_by_role("link", name="of-a-sudden")
        assert link.count() == 0
        page.evaluate("window.same = true")
        emit(acme, "context-tokens", 42, "project-live", "of-a-sudden", "--wait")
        expect(link).to_be_visible(timeout=15_000)
        assert page.evaluate("window.same")  # the page was not loaded anew
        expect(page.get_by_role("status")).to_contain_text("Changed at")
        page.get_by_role("button", name="Pause").click()
        emit(acme, "context-tokens", 42, "project-live", "in-the-pause", "--wait")
        page.wait_for_timeout(4_500)
        assert page.get_by_role("link", name="in-the-pause").count() == 0
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("link", name="in-the-pause")).to_be_visible(timeout=15_000)


def test_the_focus_stays_where_it_is_when_the_page_changes(
    chromium: Browser, office: Office
) -> None:
    acme, beta, channel = office
    with opened(chromium, beta) as page:
        page.goto(f"{origin_of(beta)}/console/channels/{channel}")
        held = page.locator("table.halves a.id").first
        name = held.inner_text()
        held.focus()
        emit(acme, "context-tokens", 1, "project-live", "while-focused", "--wait")
        expect(page.get_by_role("link", name="while-focused")).to_be_visible(timeout=15_000)
        assert page.evaluate("document.activeElement.textContent") == name


def _walk(page: Page, name: str, most: int = 60) -> None:
    """Press the tabulator until the element of this name is reached, and see that it shows."""
    for _ in range(most):
        page.keyboard.press("Tab")
        reached = page.evaluate(
            "(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()"
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached
        if reached.startswith(name):
            return
    raise AssertionError(f"{name} cannot be reached with keys")


def test_all_can_be_done_with_keys(chromium: Browser, office: Office) -> None:
    acme = office[0]
    made = tally_json(acme, "console", "--print")
    with browsers.opened(chromium, origin_of(acme)) as page:
        page.goto(made["address"])
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        _walk(page, "Code")
        page.keyboard.type(made["code"])
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/")
        _walk(page, "Disputes")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/disputes")
        _walk(page, "77 token of generated-tokens")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/disputes/*")
        _walk(page, "Why; it is part of the record")
        page.keyboard.type("we have the log")
        _walk(page, "Concede…")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Sign this answer?")).to_be_visible()
        _walk(page, "Do nothing")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/disputes/*")
        expect(page.get_by_role("heading", name="77 token of generated-tokens")).to_be_visible()
        _walk(page, "Log out")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/login")


def test_all_works_without_a_script(chromium: Browser, office: Office) -> None:
    acme = office[0]
    with opened(chromium, acme, scripts=False) as page:
        page.get_by_role("link", name="beta.example", exact=True).click()
        expect(page.get_by_role("heading", name="Channel with beta.example")).to_be_visible()
        emit(acme, "context-tokens", 3, "project-quiet", "without-script", "--wait")
        page.get_by_role("link", name="Look again").click()
        page.get_by_role("link", name="without-script").click()
        expect(page.get_by_role("heading", name="Delta without-script")).to_be_visible()
        page.get_by_role("link", name="Dispute this delta").click()
        assert page.get_by_label("The records, METER/ID, one a line").input_value() == (
            "context-tokens/without-script"
        )
        page.get_by_role("link", name="Peers").click()
        page.get_by_role("button", name="Make a code").click()
        expect(page.get_by_role("heading", name="A pairing code")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in to the node")).to_be_visible()


def test_the_code_that_is_shown_can_be_copied(chromium: Browser, office: Office) -> None:
    with opened(chromium, office[0]) as page:
        page.get_by_role("link", name="Peers").click()
        page.get_by_role("button", name="Make a code").click()
        check_accessible(page)
        code = page.get_by_label("The code").input_value()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy the code").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == code
        assert page.locator("svg.qr path").count() == 1


def test_the_browser_that_tally_starts_is_logged_in(
    chromium: Browser, office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = office[0]
    seen = tmp_path / "seen"
    starter = tmp_path / "browser"
    starter.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(seen)!r}, 'w').write(sys.argv[1])\n"
    )
    starter.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{starter} %s")
    acme.tally("console")
    address = seen.read_text()
    file = acme.home / "console.html"
    assert address == file.resolve().as_uri()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    context = chromium.new_context()
    try:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        assert "Logged in as the owner" in page.inner_text("footer")
        ticket = text.split('name="ticket" value="')[1].split('"')[0]
        assert len(ticket) > 40
        assert not [url for url in asked if ticket in url]
        assert not file.exists()
        again = tmp_path / "again.html"
        again.write_text(text)
        page.goto(again.as_uri())
        expect(page.get_by_text("This ticket was used already")).to_be_visible()
    finally:
        context.close()


def test_without_a_browser_a_code_is_printed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", "/nowhere/browser %s")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    said = office[0].tally("console").stdout
    assert "/console/" in said
    assert "code  " in said
    assert not (office[0].home / "console.html").exists()


def test_a_key_that_may_look_sees_all_and_does_nothing(chromium: Browser, office: Office) -> None:
    acme, _, channel = office
    key = tally_json(acme, "keys", "add", "looker", "--scope", "read")["key"]
    base = origin_of(acme)
    with browsers.opened(chromium, base, allow_errors=True) as page:
        page.goto(f"{base}/console/channels/{channel}/periods/{HOUR}")
        page.get_by_label("Key", exact=True).fill(key)
        page.locator("form:has(#key) button").click()
        page.wait_for_url(f"**/periods/{HOUR}")  # where it wanted to go
        assert "which may only look" in page.inner_text("footer")
        for address in _addresses(office):
            answer = page.goto(base + address)
            assert answer is not None
            acting = (
                address.endswith(("/close", "/propose"))
                or "/dispute" in address.partition("/channels/")[2]
            )
            assert answer.status == (403 if acting else 200), address
            if not acting:
                check_accessible(page)
                forms = page.locator("main form[method=post]:not([enctype])").count()
                assert not forms or address.endswith("login"), address
        tally(acme, "keys", "remove", "looker")
        page.goto(f"{base}/console/")
        expect(page.get_by_role("heading", name="Log in to the node")).to_be_visible()


def test_a_peer_that_is_gone_is_said_to_be(chromium: Browser, office: Office) -> None:
    """The last of the file: it stops beta."""
    acme, beta, _ = office
    beta.stop()
    emit(acme, "context-tokens", 9, "project-away", "while-away")
    with opened(chromium, acme) as page:
        tally(acme, "answer", tally_json(acme, "disputes")["disputes"][0]["dispute"][:8],
              "--concede", "--reason", "yes")  # fmt: skip
        card = page.locator("article")
        expect(card).to_contain_text("beta.example is not connected", timeout=20_000)
        expect(card).to_contain_text("wait for its co-signature")
        check_accessible(page)
        page.get_by_role("link", name="beta.example", exact=True).click()
        expect(page.get_by_text("not co-signed yet").first).to_be_visible()
        check_accessible(page)
        page.get_by_role("link", name="while-away").click()
        expect(page.get_by_text("Recorded, not co-signed yet")).to_be_visible()
        check_accessible(page)


def test_the_helpers_find_faults(chromium: Browser, tmp_path: Path) -> None:
    """A page that is not accessible, or too wide, is told."""
    file = tmp_path / "bad.html"
    file.write_text("<!doctype html><title>T</title><main><input></main>")
    with browsers.opened(chromium) as page:
        page.goto(file.as_uri())
        with pytest.raises(AssertionError, match="label"):
            consoles.check_accessible(page)
        file.write_text(
            "<!doctype html><html lang=en><title>T</title><main><h1>T</h1>"
            "<p style='width: 3000px'>wide</p></main>"
        )
        page.goto(file.as_uri())
        with pytest.raises(AssertionError, match="wider"):
            consoles.check_accessible(page)


def test_enter_is_what_people_do(chromium: Browser, office: Office) -> None:
    """A code is taken once, in small letters and with spaces too; a wrong one is told."""
    acme = office[0]
    with browsers.opened(chromium, origin_of(acme), allow_errors=True) as page:
        page.goto(f"{origin_of(acme)}/console/")
        assert page.url.endswith("/console/login")
        page.get_by_role("textbox", name="Code").fill("AAAA-2222")
        page.locator("form:has(#code) button").click()
        expect(page.get_by_role("alert")).to_contain_text("This code is not one of now")
        check_accessible(page)
        enter(page, acme)
