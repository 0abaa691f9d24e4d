"""A dispute through the pages of two real nodes: filed, answered, insisted on, settled, withdrawn;
and each shown as it will be signed before it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import browsers
import nodes
import pytest
from consoles import (
    HOUR,
    check_accessible,
    emit,
    enter,
    opened,
    origin_of,
    tally,
    tally_json,
)
from nodes import Party
from playwright.sync_api import Browser, Page, expect

Sides = tuple[Party, Party]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """Acme and beta; acme recorded 303 tokens of p7, and 10 of p8."""
    with nodes.channel(tmp_path_factory.mktemp("quarrel")) as (acme, beta):
        for n in range(3):
            emit(acme, "context-tokens", 100 + n, "p7", f"e{n}")
        emit(acme, "context-tokens", 10, "p8", "e8", "--wait")
        yield acme, beta


def _fact(page: Page, name: str) -> str:
    """What a page says beside a name."""
    row = page.locator("dl.facts > div", has=page.locator("dt", has_text=name))
    return row.locator("dd").first.inner_text()


def _recorded(party: Party) -> int:
    size: int = tally_json(party, "status")["channels"][0]["own"]["size"]
    return size


def _again(page: Page, text: str) -> None:
    """Load the page anew until it says so."""

    def says() -> bool:
        page.reload()
        return text in page.inner_text("main")

    nodes.wait_until(says)


def test_from_the_claim_to_the_settlement(chromium: Browser, sides: Sides) -> None:
    acme, beta = sides
    channel = tally_json(acme, "status")["channels"][0]["channel"]
    with opened(chromium, beta) as ours, opened(chromium, acme, size=browsers.PHONE) as theirs:
        ours.goto(f"{origin_of(beta)}/console/channels/{channel}/periods/{HOUR}")
        ours.get_by_role("link", name="dispute context-tokens of p7").click()
        before = _recorded(beta)
        ours.get_by_label("By how much less it should be payable").fill("50")
        ours.locator("form", has_text="A line of").get_by_label("Why;").fill("two nodes were down")
        ours.get_by_role("button", name="Go on…").first.click()
        expect(ours.get_by_role("heading", name="File this dispute?")).to_be_visible()
        assert _fact(ours, "Line") == f"{HOUR} / context-tokens / p7"
        assert _fact(ours, "Disputed") == "50 token"
        assert _fact(ours, "Reason") == "two nodes were down"
        assert "has to answer in the time" in ours.inner_text("main")
        check_accessible(ours)
        assert _recorded(beta) == before  # nothing is signed yet
        ours.get_by_role("button", name="Sign it").click()
        expect(ours.get_by_text("Signed: it is in our log now.")).to_be_visible()
        assert _recorded(beta) == before + 1
        check_accessible(ours)

        nodes.wait_until(lambda: tally_json(acme, "disputes")["disputes"])
        theirs.get_by_role("link", name="Disputes").click()
        theirs.get_by_role("link", name="50 token of context-tokens").click()
        assert "two nodes were down" in theirs.inner_text("main")
        form = theirs.locator("form", has_text="Concede")
        form.get_by_label("How much of").fill("20")
        form.get_by_label("Why;").fill("one of them was")
        form.get_by_label("Records that show it").fill("context-tokens/e1")
        form.get_by_role("button").click()
        expect(theirs.get_by_role("heading", name="Sign this answer?")).to_be_visible()
        assert _fact(theirs, "Conceded") == "20 token"
        assert "context-tokens/e1 (record 2 of acme.example)" in theirs.inner_text("main")
        check_accessible(theirs)
        theirs.get_by_role("button", name="Sign it").click()
        expect(theirs.get_by_text("Signed: it is in our log now.")).to_be_visible()

        _again(ours, "Answered")
        assert "one of them was" in _fact(ours, "Answer")
        form = ours.locator("form", has_text="Insist")
        form.get_by_label("Why;").fill("both were")
        form.get_by_role("button").click()
        expect(ours.get_by_text("stays open until both agree")).to_be_visible()
        ours.get_by_role("button", name="Sign it").click()
        expect(ours.get_by_text("Waits for both to name the same amount")).to_be_visible()

        for page in (theirs, ours):
            _again(page, "Waits for both to name the same amount")
            form = page.locator("form", has_text="Settle")
            form.get_by_label("By how much less").fill("35")
            form.get_by_label("Why;").fill("half way")
            form.get_by_role("button").click()
            assert _fact(page, "Less payable by") == "35 token"
            page.get_by_role("button", name="Sign it").click()
            expect(page.get_by_text("Signed: it is in our log now.")).to_be_visible()
        for page in (ours, theirs):
            _again(page, "Settled by both")
            assert "Upheld: 35 of 50 token" in page.inner_text("main")
            assert page.locator("form.panel").count() == 0
            check_accessible(page)
        ours.goto(f"{origin_of(beta)}/console/disputes?all=yes")
        assert "Settled by both; upheld: 35 of 50 token" in ours.inner_text("main")


def test_by_a_record_and_withdrawn(chromium: Browser, sides: Sides) -> None:
    _, beta = sides
    with opened(chromium, beta) as page:
        page.get_by_label("Its id, or METER/ID").fill("e8")
        page.get_by_role("button", name="Find").click()
        page.get_by_role("link", name="Dispute this delta…").click()
        form = page.locator("form", has_text="By records")
        form.get_by_label("Whose usage it is is wrong").check()
        form.get_by_label("Why;").fill("not ours")
        form.get_by_role("button").click()
        assert _fact(page, "Disputed") == "10 token"  # what the record adds up to
        assert "context-tokens/e8" in _fact(page, "Record")
        page.get_by_role("button", name="Sign it").click()
        page.get_by_role("link", name="context-tokens/e8").click()
        expect(page.get_by_role("heading", name="Delta e8")).to_be_visible()
        page.go_back()
        form = page.locator("form", has_text="Withdraw")
        form.get_by_label("Why;").fill("it was")
        form.get_by_role("button").click()
        expect(page.get_by_role("heading", name="Withdraw this dispute?")).to_be_visible()
        page.get_by_role("button", name="Sign it").click()
        expect(page.locator(".state")).to_have_text("Withdrawn")


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("999999", "but only"),
        ("1.5", "more decimal places"),
        ("1,000", "thousands separator"),
        ("a lot", "not a decimal number"),
        ("0", "an amount of nothing is no dispute"),
    ],
)
def test_what_cannot_be_disputed_is_refused_in_words(
    chromium: Browser, sides: Sides, amount: str, said: str
) -> None:
    _, beta = sides
    before = _recorded(beta)
    channel = tally_json(beta, "status")["channels"][0]["channel"]
    with opened(chromium, beta, allow_errors=True) as page:
        page.goto(f"{origin_of(beta)}/console/channels/{channel}/dispute?period={HOUR}")
        page.get_by_label("The balance line").select_option(f"{HOUR}/context-tokens/p8")
        page.get_by_label("By how much less it should be payable").fill(amount)
        page.locator("form", has_text="A line of").get_by_label("Why;").fill("x")
        page.get_by_role("button", name="Go on…").first.click()
        expect(page.get_by_role("heading", name="Bad Request")).to_be_visible()
        assert said in page.inner_text("main").lower() or said in page.inner_text("main")
    assert _recorded(beta) == before


def test_the_same_form_twice_is_signed_once(chromium: Browser, sides: Sides) -> None:
    acme, beta = sides
    emit(acme, "context-tokens", 40, "p9", "e9", "--wait")
    channel = tally_json(beta, "status")["channels"][0]["channel"]
    with opened(chromium, beta) as page:
        page.goto(f"{origin_of(beta)}/console/channels/{channel}/dispute?period={HOUR}")
        page.get_by_label("The balance line").select_option(f"{HOUR}/context-tokens/p9")
        page.get_by_label("By how much less it should be payable").fill("4")
        page.locator("form", has_text="A line of").get_by_label("Why;").fill("twice")
        page.get_by_role("button", name="Go on…").first.click()
        page.get_by_role("button", name="Sign it").click()
        size = _recorded(beta)
        page.go_back()
        page.get_by_role("button", name="Sign it").click()
        expect(page.get_by_text("Our log said so already")).to_be_visible()
        assert _recorded(beta) == size
    tally(beta, "withdraw", tally_json(beta, "disputes")["disputes"][0]["dispute"], "--reason", "x")


def test_a_form_of_an_ended_session_signs_nothing(chromium: Browser, sides: Sides) -> None:
    acme, beta = sides
    emit(acme, "context-tokens", 40, "p10", "e10", "--wait")
    channel = tally_json(beta, "status")["channels"][0]["channel"]
    with opened(chromium, beta, allow_errors=True) as page:
        page.goto(f"{origin_of(beta)}/console/channels/{channel}/dispute?period={HOUR}")
        page.get_by_label("The balance line").select_option(f"{HOUR}/context-tokens/p10")
        page.get_by_label("By how much less it should be payable").fill("4")
        page.locator("form", has_text="A line of").get_by_label("Why;").fill("late")
        page.get_by_role("button", name="Go on…").first.click()
        size = _recorded(beta)
        page.context.clear_cookies()
        page.get_by_role("button", name="Sign it").click()
        expect(page.get_by_text("Nobody is logged in here, or not any more")).to_be_visible()
        check_accessible(page)
        enter(page, beta)
        page.go_back()
    assert _recorded(beta) == size
