"""The page as people meet it: what it shows and says, how it is used, and what it cannot do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import browsers
import builders
import pytest
import verifying
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FileChooser, Page, expect
from verifying import proofs

from tallystick.node.verifier.page import page_digest, verifier_page
from tallystick.protocol.keyring import Keyring

VECTORS = Path(__file__).parents[2] / "vectors"
SOURCES = Path(verifying.__file__).parents[1] / "node" / "verifier"


def hand_over(page: Page, *paths: Path) -> str:
    """Choose files, wait for the result, and give what is announced."""
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_selector(verifying.DONE, state="attached")
    return page.inner_text("#announced")


def broken(folder: Path) -> Path:
    path = folder / "broken.tally"
    data = bytearray((VECTORS / "bundle-compact.tally").read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    return path


def test_the_command_writes_the_page_and_says_how_to_know_it(tmp_path: Path) -> None:
    path = tmp_path / "verify.html"
    done = verifying.tally("verifier", "-o", str(path), "--json")
    document = json.loads(done.stdout)
    data = path.read_bytes()
    assert data == verifier_page()
    assert document == {
        "file": str(path),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert page_digest() in verifying.tally("verifier").stdout
    refused = verifying.tally("verifier", "-o", str(tmp_path / "none" / "verify.html"))
    assert refused.returncode == 3
    assert "cannot be written" in refused.stderr


def test_the_policy_allows_this_script_and_style_and_no_connection() -> None:
    text = verifier_page().decode()
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        [content] = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"https?://", text)
    shell = re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|\bon\w+\s*=\s*["']""", shell)


def test_scripts_are_short_and_say_what_they_are_for() -> None:
    paths = sorted(SOURCES.glob("*.js"))
    assert len(paths) > 30
    for path in paths:
        lines = path.read_text().splitlines()
        assert lines[0].startswith("// "), path.name
        assert len(lines) <= 600, path.name
        assert max(map(len, lines)) <= 100, path.name
        assert "innerHTML" not in path.read_text(), path.name


def test_a_file_is_dropped_and_the_result_is_said(chromium: Browser, tmp_path: Path) -> None:
    data = (VECTORS / "bundle-full.tally").read_bytes()
    with verifying.verifier(chromium, tmp_path) as page:
        page.evaluate(
            """text => {
                const files = new DataTransfer();
                const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
                files.items.add(new File([bytes], "october.tally"));
                const dropped = {bubbles: true, cancelable: true, dataTransfer: files};
                document.getElementById("drop").dispatchEvent(new DragEvent("drop", dropped));
            }""",
            base64.b64encode(data).decode(),
        )
        page.wait_for_selector(verifying.DONE, state="attached")
        says = page.inner_text("article h2")
        assert says.startswith("Every check holds: acme.example and beta.example both signed")
        expect(page.get_by_role("status")).to_have_text(f"october.tally: {says}")
        assert page.locator(".checks li.ok").count() == 12
        shown = page.inner_text("article")
        for said in ("acme.example", "2026-11, Europe/Berlin", "45", "10\nholds\nderivation"):
            assert said in shown, said
        expect(page.locator("#progress")).to_be_hidden()


def test_what_does_not_hold_is_said_in_a_sentence(chromium: Browser, tmp_path: Path) -> None:
    with verifying.verifier(chromium, tmp_path) as page:
        said = hand_over(page, broken(tmp_path), VECTORS / "author.evidence")
        assert said == (
            "broken.tally: Not proven: check 1, archive, does not hold."
            " author.evidence: This is proof that acme.example signed two histories of its log."
        )
        bad, good = page.locator("article").all()
        assert bad.locator(".fails").count() == 1
        assert bad.locator(".open .outcome").all_inner_texts() == ["not run"] * 11
        assert good.locator(".ok").count() == 6
        again = hand_over_again(page, VECTORS / "upheld.certificate")
        assert again.startswith("upheld.certificate: It is proved")
        assert page.locator("article").count() == 1


def hand_over_again(page: Page, path: Path) -> str:
    before = page.inner_text("#announced")
    page.set_input_files("#files", str(path))
    expect(page.locator("#announced")).not_to_have_text(before)
    return page.inner_text("#announced")


def test_a_proof_asks_for_keys_and_takes_those_that_are_pasted(
    chromium: Browser, tmp_path: Path
) -> None:
    given = proofs()["delta"]
    (tmp_path / "evt-1.tlog-proof").write_bytes(given.data)
    (tmp_path / "evt-1.leaf").write_bytes(given.beside or b"")
    files = [tmp_path / "evt-1.leaf", tmp_path / "evt-1.tlog-proof"]
    with verifying.verifier(chromium, tmp_path) as page:
        assert "Not proven: check 4, keys" in hand_over(page, *files)
        field = page.get_by_label("Verifier keys")
        expect(field).to_be_visible()
        field.fill("nonsense")
        field.blur()
        expect(page.locator("#vkeys-fault")).to_contain_text("not a verifier key: 'nonsense'")
        field.fill("\n".join(given.keys))
        field.blur()
        says = "It is proved that this record is in the log that both parties signed."
        expect(page.locator("article h2")).to_have_text(says)
        expect(page.locator("#vkeys-fault")).to_have_text("")
        page.set_input_files("#files", str(files[0]))
        alone = "evt-1.leaf belongs to a proof, which is not among these files."
        expect(page.locator("#results")).to_have_text(alone)


def test_expected_keys_are_compared_with_a_bundles(chromium: Browser, tmp_path: Path) -> None:
    channel = builders.busy_channel()
    own = str(Keyring(channel.terms).log_vkeys("provider")[0])
    strange = str(Keyring(builders.Channel([builders.meter("x")]).terms).log_vkeys("provider")[0])
    with verifying.verifier(chromium, tmp_path) as page:
        page.locator("#expect summary").click()
        page.get_by_label("Verifier keys").fill(own)
        hand_over(page, VECTORS / "bundle-compact.tally")
        assert "All keys that you expect are among them." in page.inner_text("article")
        page.get_by_label("Verifier keys").fill(strange)
        page.get_by_label("Verifier keys").blur()
        expect(page.locator("article .alarm")).to_contain_text("not among them")


def test_the_keyboard_is_enough(chromium: Browser, tmp_path: Path) -> None:
    with verifying.verifier(chromium, tmp_path) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "files"
        outline = "getComputedStyle(document.querySelector('label.button')).outlineStyle"
        assert page.evaluate(outline) == "solid"
        asked: list[FileChooser] = []
        page.on("filechooser", lambda one: asked.append(one))
        for _ in range(100):  # a page that was painted just now may not open one at the first key
            page.keyboard.press("Space")
            page.wait_for_timeout(200)
            if asked:
                break
        asked[0].set_files(str(VECTORS / "bundle-compact.tally"))
        page.wait_for_selector(verifying.DONE, state="attached")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Verifier keys")).to_be_visible()


def hostile_bundle() -> bytes:
    """A bundle whose texts try to be more than text, properly signed by both."""
    channel = builders.Channel([builders.meter("tokens", unit="<b onclick=alert(1)>")])
    subject = "<img src=x onerror=alert(1)>\u202e"
    for log in channel.logs:
        log.delta("a", "tokens", 5, subject=subject)
    return channel.bundle(channel.close(), full=True)


def test_what_a_file_says_is_only_text(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "<img src=x>.tally"
    path.write_bytes(hostile_bundle())
    with verifying.verifier(chromium, tmp_path) as page:
        assert "Every check holds" in hand_over(page, path)
        page.locator("article summary").click()
        assert "<img src=x onerror=alert(1)>" in page.inner_text("article table >> nth=1")
        assert page.locator("article img, article b, article script").count() == 0


def test_no_connection_can_be_made(chromium: Browser, tmp_path: Path) -> None:
    with verifying.verifier(chromium, tmp_path, allow_errors=True) as page:
        said = page.evaluate(
            """async () => {
                const tried = [fetch("http://127.0.0.1:9/"), import("http://127.0.0.1:9/x.js")];
                const image = new Image();
                image.src = "http://127.0.0.1:9/x.png";
                tried.push(image.decode());
                return (await Promise.allSettled(tried)).map(one => one.status);
            }"""
        )
        assert said == ["rejected"] * 3


def test_a_stopped_check_proves_nothing(chromium: Browser, tmp_path: Path) -> None:
    with verifying.verifier(chromium, tmp_path) as page:
        page.evaluate(
            """() => {
                const files = new DataTransfer();
                files.items.add(new File(["anything"], "it.tally"));
                const dropped = {bubbles: true, cancelable: true, dataTransfer: files};
                document.dispatchEvent(new DragEvent("drop", dropped));
                document.getElementById("stop").click();
            }"""
        )
        expect(page.locator("article h2")).to_have_text("Stopped: nothing is proved.")
        expect(page.get_by_role("status")).to_have_text("Stopped.")


LACKS_ZONE = """
    const {DateTimeFormat} = Intl;
    Intl.DateTimeFormat = function (locale, options) {
        if (options.timeZone === "Europe/Berlin") throw new RangeError("no such zone");
        return new DateTimeFormat(locale, options);
    };
"""
LACKS_ED25519 = "SubtleCrypto.prototype.importKey = () => Promise.reject(new Error('no'));"
TAKES_ANY_SIGNATURE = "SubtleCrypto.prototype.verify = () => Promise.resolve(true);"


def test_a_browser_without_the_zone_says_that_it_cannot_tell(
    chromium: Browser, tmp_path: Path
) -> None:
    with verifying.verifier(chromium, tmp_path, script=LACKS_ZONE) as page:
        said = hand_over(page, VECTORS / "bundle-full.tally")
        assert said == "bundle-full.tally: This browser cannot check all of it."
        shown = page.inner_text("article")
        assert "this browser has no data for the time zone Europe/Berlin" in shown
        assert "Nothing was found to be wrong, and nothing is proved." in shown
        assert page.locator(".checks .fails").count() == 0


@pytest.mark.parametrize("script", [LACKS_ED25519, TAKES_ANY_SIGNATURE])
def test_a_browser_that_does_not_verify_signatures_is_refused(
    chromium: Browser, tmp_path: Path, script: str
) -> None:
    path = tmp_path / "verify.html"
    path.write_bytes(verifier_page())
    with browsers.opened(chromium, script=script) as page:
        page.goto(path.as_uri())
        expect(page.get_by_role("alert").first).to_contain_text("cannot verify Ed25519")
        expect(page.locator("#hand-over")).to_be_hidden()


def findings(page: Page) -> Sequence[object]:
    found = Axe().run(page).response["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [browsers.DESKTOP, browsers.PHONE])
def test_it_is_accessible_in_light_and_dark_and_on_a_phone(
    chromium: Browser, tmp_path: Path, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    with verifying.verifier(chromium, tmp_path, scheme=scheme, size=size) as page:
        assert findings(page) == []
        names = ("bundle-full.tally", "upheld.certificate")
        hand_over(page, broken(tmp_path), *(VECTORS / name for name in names))
        for summary in page.locator("summary").all():
            summary.click()
        page.get_by_label("Verifier keys").fill("nonsense")
        page.get_by_label("Verifier keys").blur()
        expect(page.locator("#vkeys-fault")).not_to_be_empty()
        expect(page.locator("article")).to_have_count(3)
        expect(page.locator("#progress")).to_be_hidden()
        assert findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
