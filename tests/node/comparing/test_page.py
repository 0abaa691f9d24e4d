"""The page is one file that parses, loads and runs nothing, and says what the JSON says."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import comparisons
import pytest

from tallystick.node.comparing.markup import Markup, tag
from tallystick.node.comparing.page import render_page
from tallystick.node.comparing.result import Comparison

VOID = {"meta"}
SAMPLES = {name: comparisons.with_timeline(made) for name, made in comparisons.samples().items()}
LOADS = {"src", "href", "srcset", "data", "action", "xlink:href", "style"}


class _Page(HTMLParser):
    """A page's elements and tables; it fails where elements are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.mark.parametrize("name", SAMPLES)
def test_it_parses_and_fetches_and_runs_nothing(name: str) -> None:
    text = render_page(SAMPLES[name])
    page = _Page(text)
    names = {tag for tag, _ in page.seen}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "form", "a", "b"}
    for _, attributes in page.seen:
        assert not LOADS & set(attributes)
        assert not [key for key in attributes if key.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text


def test_its_policy_allows_its_own_style_and_nothing_else() -> None:
    text = render_page(SAMPLES["four causes"])
    found = re.search(r"<style>(.*?)</style>", text, re.S)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    policy = next(
        attributes["content"]
        for name, attributes in _Page(text).seen
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_its_waterfalls_say_what_the_json_says(name: str) -> None:
    made = SAMPLES[name]
    page = _Page(render_page(made))
    document = made.document()
    falls = [table for table in page.tables if table[0][0] == "step"]
    for fall in falls:
        values = [_number(row[2]) for row in fall[1:]]
        assert sum(values[:-1]) == values[-1]
    shown = {(_plain(fall[1][2]), _plain(fall[-1][2]), _plain(fall[-2][2])) for fall in falls}
    said = {
        (meter["theirs"], meter["ours"], meter["unexplained"])
        for meter in document["meters"].values()
    }
    assert shown <= said
    assert falls or name == "agree"


def _plain(text: str) -> str:
    return text.replace(",", "").lstrip("+")


def _number(text: str) -> int:
    return int(_plain(text).replace(".", ""))


@pytest.mark.parametrize("name", ["four causes", "hostile"])
def test_each_drawing_is_named_described_and_has_its_table(name: str) -> None:
    page = _Page(render_page(SAMPLES[name]))
    ids = {attributes["id"] for _, attributes in page.seen if "id" in attributes}
    drawings = [found for tag, found in page.seen if tag == "svg" and found.get("role") == "img"]
    assert len(drawings) == 2
    for drawing in drawings:
        assert set((drawing["aria-labelledby"] or "").split()) <= ids
    hours = next(
        table for table in page.tables if table[0] == ["hour", "theirs", "ours", "ours less theirs"]
    )
    assert len(hours) == 27
    assert hours[10][2] == "0"
    assert _number(hours[10][3]) == -_number(hours[10][1])


def test_what_others_wrote_is_text() -> None:
    page = _Page(render_page(SAMPLES["hostile"]))
    assert "</style><b>&amp; evil" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text


def test_every_cause_is_on_it_in_words() -> None:
    made: Comparison = SAMPLES["four causes"]
    page = _Page(render_page(made))
    for cause in made.causes:
        assert cause.says in page.text
    assert "63% of the gap" in page.text


def test_text_is_escaped_unless_it_is_markup() -> None:
    assert tag("p", "<&\"'", title='a"b') == '<p title="a&quot;b">&lt;&amp;&quot;&#x27;</p>'
    assert tag("p", Markup("<b>")) == "<p><b></p>"
