"""Two nodes that never met, paired through their pages, down to a channel that both signed."""

from __future__ import annotations

from pathlib import Path

import nodes
from consoles import check_accessible, opened, tally_json
from playwright.sync_api import Browser, Page, expect

TERMS = nodes.TERMS.replace("[meters.generated-tokens]", "[meters.requests]").replace(
    '[meters.requests]\nunit = "token"', '[meters.requests]\nunit = "request"'
)


def _words(page: Page) -> str:
    row = page.locator("dl.facts > div", has=page.locator("dt", has_text="Words to compare"))
    return row.locator("dd").inner_text()


def test_from_a_code_to_a_channel(chromium: Browser, tmp_path: Path) -> None:
    with (
        nodes.running(tmp_path) as (acme, beta),
        opened(chromium, acme, allow_errors=True) as ours,
        opened(chromium, beta, allow_errors=True) as theirs,
    ):
        assert "No channel yet" in ours.inner_text("main")
        check_accessible(ours)
        ours.get_by_role("link", name="Pair with a peer").click()
        ours.get_by_label("It works once, for").select_option("an hour")
        ours.get_by_role("button", name="Make a code").click()
        code = ours.get_by_label("The code").input_value()

        theirs.get_by_role("link", name="Peers").click()
        theirs.get_by_label("The code that your counterparty made").fill("nonsense")
        theirs.get_by_role("button", name="Pair", exact=True).click()
        expect(theirs.get_by_role("heading", name="Bad Request")).to_be_visible()
        theirs.go_back()
        broken = "\n".join(code[at : at + 40] for at in range(0, len(code), 40))  # as mails do
        theirs.get_by_label("The code that your counterparty made").fill(broken)
        theirs.get_by_role("button", name="Pair", exact=True).click()
        expect(theirs.get_by_text("Paired with acme.example.")).to_be_visible()
        check_accessible(theirs)
        ours.get_by_role("link", name="Peers").first.click()
        assert _words(ours) == _words(theirs)

        nodes.wait_until(lambda: tally_json(acme, "peers")["peers"][0]["connected"])
        ours.get_by_role("link", name="Propose terms to beta.example").click()
        source = ours.get_by_label("The terms, as TOML")
        given = source.input_value()
        assert 'provider = "acme.example"' in given
        ours.get_by_role("button", name="Show them in plain words").click()
        assert "output-tokens: the sum of token" in ours.inner_text("main")  # as it is given
        source.fill(TERMS)
        ours.get_by_role("button", name="Show them in plain words").click()
        assert "acme.example provides, beta.example consumes and pays" in ours.inner_text("main")
        assert tally_json(acme, "channels")["channels"] == []  # shown only
        check_accessible(ours)
        ours.get_by_role("button", name="Sign and propose").click()
        expect(ours.get_by_text("beta.example has them now.")).to_be_visible()
        check_accessible(ours)

        theirs.get_by_role("link", name="Overview").click()
        assert "acme.example proposes terms" in theirs.inner_text("main")
        check_accessible(theirs)
        theirs.get_by_role("link", name="Read and accept them").click()
        assert "requests: the sum of request." in theirs.inner_text("main")
        check_accessible(theirs)
        theirs.get_by_role("button", name="Sign and begin the channel").click()
        assert tally_json(beta, "status")["channels"] == []  # the box is not ticked
        theirs.get_by_label("We have read these terms and sign them").check()
        theirs.get_by_role("button", name="Sign and begin the channel").click()
        expect(theirs.get_by_role("heading", name="Channel with acme.example")).to_be_visible()
        expect(theirs.get_by_text("In agreement")).to_be_visible(timeout=20_000)

        (one,) = tally_json(acme, "channels")["channels"]
        assert (one["state"], one["meters"]) == ("open", ["context-tokens", "requests"])

        theirs.get_by_role("link", name="Peers").click()
        theirs.get_by_label("The code that your counterparty made").fill(code)
        theirs.get_by_role("button", name="Pair", exact=True).click()
        # The same node may say the same code again; it pairs nobody else.
        expect(theirs.get_by_text("Paired with acme.example.")).to_be_visible()
        ours.goto(ours.url.partition("/console/")[0] + "/console/peers/beta.example/propose")
        source.fill("provider = ")
        with ours.expect_response(lambda answer: answer.request.method == "POST") as waiting:
            ours.get_by_role("button", name="Show them in plain words").click()
        assert waiting.value.status == 400
        expect(ours.get_by_role("alert")).to_contain_text("not valid TOML")
        assert source.input_value().strip() == "provider ="  # to be put right
        check_accessible(ours)
