"""Text of strangers on every page: it stands there as it is, and nothing of it takes effect."""

from __future__ import annotations

from collections.abc import Iterator

import accusing
import nodes
import pytest
from consoles import HOUR, check_accessible, emit, opened, origin_of, tally, tally_json
from nodes import Party
from playwright.sync_api import Browser, Page, expect

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.protocol.evidence import build_evidence
from tallystick.protocol.records import Delta

SCRIPT = "<script>window.hacked=1</script>"
IMAGE = "\"'><img src=x onerror=window.hacked=1>"
TEMPLATE = "{{7*7}}{% raw %}"
TURNED = "\u202eABC\u2066x"
TERMS = nodes.TERMS.replace('unit = "token"', f"unit = '''{SCRIPT}'''", 1).replace(
    'source = "provider"', 'source = "both"'
)

Sides = tuple[Party, Party, str]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """Acme's hostile peer beta: whatever it may write is an attack on acme's pages."""
    with nodes.channel(tmp_path_factory.mktemp("hostile"), TERMS) as (acme, beta):
        emit(beta, "context-tokens", 1_000, IMAGE, SCRIPT)
        emit(beta, "generated-tokens", 1_000, TEMPLATE, IMAGE)
        emit(beta, "generated-tokens", 5, "turned", "t", "--wait")
        emit(acme, "context-tokens", 1_000, IMAGE, SCRIPT)
        emit(acme, "generated-tokens", 900, TEMPLATE, IMAGE, "--wait")
        tally(beta, "correct", f"context-tokens/{SCRIPT}", "--quantity", "999", "--reason", IMAGE)
        tally(beta, "dispute", f"generated-tokens/{IMAGE}", "--amount", "7", "--code", "other",
              "--reason", SCRIPT + TEMPLATE)  # fmt: skip
        nodes.wait_until(lambda: tally_json(acme, "disputes")["disputes"])
        channel = tally_json(acme, "status")["channels"][0]["channel"]
        yield acme, beta, channel


def _harmless(page: Page) -> str:
    """The page's text, once it is seen that nothing took effect."""
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hacked") is None, page.url
    assert page.locator("script").count() == 1, page.url
    assert page.locator("img").count() == 1, page.url
    assert page.locator("[onerror], [onmouseover]").count() == 0
    return page.inner_text("main")


def test_it_stands_as_text_on_every_page(chromium: Browser, sides: Sides) -> None:
    acme, _, channel = sides
    dispute = tally_json(acme, "disputes")["disputes"][0]["dispute"]
    base = f"/console/channels/{channel}"
    with opened(chromium, acme) as page:
        shown = {}
        for address in (
            "/console/", base, f"{base}/periods/{HOUR}", f"{base}/periods/{HOUR}/close",
            f"{base}/dispute?period={HOUR}", "/console/disputes", f"/console/disputes/{dispute}",
            "/console/peers", "/console/evidence",
        ):  # fmt: skip
            page.goto(origin_of(acme) + address)
            shown[address] = _harmless(page)
            check_accessible(page)
        assert SCRIPT in shown[base]
        assert IMAGE in shown[base]
        assert "7*7" in shown[base]
        assert IMAGE in shown[f"{base}/periods/{HOUR}"]
        assert SCRIPT + TEMPLATE in shown[f"/console/disputes/{dispute}"]
        page.goto(origin_of(acme) + base)
        page.get_by_role("link", name=SCRIPT, exact=True).first.click()
        text = _harmless(page)
        assert IMAGE in text
        assert text.count("in the log of") == 2  # both recorded it
        check_accessible(page)
        page.get_by_role("link", name="Dispute this delta…").first.click()
        assert (
            f"context-tokens/{SCRIPT}"
            in page.get_by_label("The records, METER/ID, one a line").input_value()
        )
        _harmless(page)


@pytest.mark.parametrize("text", [SCRIPT, IMAGE, TEMPLATE, TURNED, "a/../b", "%00", "x" * 300])
def test_what_a_person_types_is_text_as_well(chromium: Browser, sides: Sides, text: str) -> None:
    acme = sides[0]
    with opened(chromium, acme, allow_errors=True) as page:
        page.get_by_label("Its id, or METER/ID").fill(text)
        page.get_by_role("button", name="Find").click()
        said = _harmless(page)
        if text in (SCRIPT, IMAGE):
            assert "Delta" in page.inner_text("h1")
        else:
            assert "No delta here is called" in said
            assert "\u202e" not in said
        check_accessible(page)


def test_reasons_of_ones_own_are_signed_as_they_were_typed(chromium: Browser, sides: Sides) -> None:
    acme, beta, _ = sides
    dispute = tally_json(acme, "disputes")["disputes"][0]["dispute"]
    with opened(chromium, acme) as page:
        page.goto(f"{origin_of(acme)}/console/disputes/{dispute}")
        form = page.locator("form", has_text="Reject")
        form.get_by_label("Why;").fill(f"{IMAGE}\n  {TEMPLATE}")
        form.get_by_role("button").click()
        expect(page.get_by_role("heading", name="Sign this answer?")).to_be_visible()
        assert f"{IMAGE} {TEMPLATE}" in _harmless(page)
        page.get_by_role("button", name="Sign it").click()
        assert f"{IMAGE} {TEMPLATE}" in _harmless(page)

    def answered() -> bool:
        (one,) = tally_json(beta, "disputes")["disputes"]
        return one["answer"] is not None and one["answer"]["reason"] == f"{IMAGE} {TEMPLATE}"

    nodes.wait_until(answered)


def test_marks_that_turn_text_around_do_not(chromium: Browser, sides: Sides) -> None:
    acme = sides[0]
    dispute = tally_json(acme, "disputes")["disputes"][0]["dispute"]
    with opened(chromium, acme) as page:
        page.goto(f"{origin_of(acme)}/console/disputes/{dispute}")
        form = page.locator("form", has_text="Reject")
        form.get_by_label("Why;").fill(f"turned {TURNED}")
        form.get_by_role("button").click()
        assert "turned ABC x" in _harmless(page)
        page.get_by_role("button", name="Sign it").click()
        text = page.content()
        assert "\u202e" not in text
        assert "\u2066" not in text


def test_evidence_is_told_in_words_and_halts_the_channel(chromium: Browser, sides: Sides) -> None:
    """The last of the file: beta signed two histories, and the channel halts."""
    acme, beta, channel = sides
    author = open_home(beta.home).identity()
    books = Books.open(open_home(acme.home), read_only=True)
    try:
        terms = books.founding.terms_of(bytes.fromhex(channel))
    finally:
        books.close()
    made = [
        accusing.History(terms, author, (terms, Delta(id_, "context-tokens", "s", 1, 1, 1, None)))
        for id_ in ("one", "other")
    ]
    who = accusing.accused(terms, beta.name, "author")
    file = acme.home.parent / "two.evidence"
    file.write_bytes(build_evidence(who, made[0].note(2), made[1].note(2), made[1].subtree()))
    tally(acme, "evidence", "import", str(file))
    with opened(chromium, acme) as page:
        text = page.locator("article").inner_text()
        assert "Diverged" in text
        assert "a party signed two histories" in text
        assert "What was agreed before stands" in text
        check_accessible(page)
        page.get_by_role("link", name="Evidence").click()
        expect(page.get_by_role("heading", name="Against beta.example")).to_be_visible()
        expect(page.get_by_text("It convicts: every check holds")).to_be_visible()
        check_accessible(page)
        with page.expect_download() as waiting:
            page.get_by_role("link", name="Download the file").click()
        waiting.value.save_as(acme.home.parent / "got.evidence")
        assert (acme.home.parent / "got.evidence").read_bytes() == file.read_bytes()
        page.goto(f"{origin_of(acme)}/console/disputes")
        page.locator("li.card a").first.click()
        expect(page.get_by_text("The channel is halted")).to_be_visible()
