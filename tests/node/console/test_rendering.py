"""Numbers, moments and addresses as the pages show them: exact, escaped, and without effect."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.console.rendering import (
    Assets,
    environment,
    figures,
    instant,
    number,
    qr,
    ungrouped,
    url,
)
from tallystick.protocol.quantities import format_quantity

ENVIRONMENT = environment(Assets())


def _text(markup: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", markup))


@given(st.integers(-(2**130), 2**130), st.integers(0, 18))
def test_a_number_keeps_its_digits(value: int, scale: int) -> None:
    exact = format_quantity(value, scale)
    assert _text(number(exact)).replace("−", "-") == exact


@pytest.mark.parametrize(
    ("text", "groups"),
    [("1234", ["234"]), ("123", []), ("-1234567.50", ["234", "567"]), ("0.001", []), ("", [])],
)
def test_its_digits_stand_in_threes(text: str, groups: list[str]) -> None:
    assert re.findall(r'<span class="g">(\d+)</span>', number(text)) == groups


@given(st.text(max_size=40))
def test_what_is_no_number_is_escaped(text: str) -> None:
    assert _text(number(text)).replace("−", "-") == text
    assert "<script" not in number("<script>" + text)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3), st.text(max_size=20))
def test_an_address_leads_to_what_it_names(parts: list[str], asked: str) -> None:
    made = urlsplit(url(*parts, q=asked, none=None))
    assert [unquote(part) for part in made.path.split("/")[2:]] == parts
    assert parse_qs(made.query, keep_blank_values=True) == {"q": [asked]}
    assert made.path.startswith("/console/")


@given(st.text(max_size=60))
def test_text_takes_no_effect_in_a_page(text: str) -> None:
    page = ENVIRONMENT.from_string('<p title="{{ text }}">{{ text }}</p>').render(text=text)
    inside = page[len('<p title="') : -len("</p>")]
    title, _, body = inside.partition('">')
    for shown in (title, body):
        assert "<" not in shown
        assert '"' not in shown
        assert unescape(shown).isprintable()
        assert len(unescape(shown)) == len(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_moment_can_be_shown(at_us: int) -> None:
    assert _text(instant(at_us))


def test_moments() -> None:
    assert _text(instant(1_700_000_000_999_999)) == "2023-11-14 22:13:20"
    assert _text(instant(None)) == ""


@given(st.text(max_size=60))
def test_grouping_a_sentence_keeps_it(text: str) -> None:
    shown = _text(figures(text))
    assert shown == "".join(c if c.isprintable() else " " for c in text)


def test_figures_in_a_sentence() -> None:
    said = figures("<b> counted 18444477 in 2023-11-16T18, 1234.5 of evt-12345")
    assert said.count('class="num"') == 2
    assert "&lt;b&gt;" in said
    assert ungrouped("-557,211 of 1,2") == "-557211 of 1,2"
    assert figures("(-557211)").count('class="num"') == 1


def test_a_code_draws_every_dark_module() -> None:
    import segno

    text = "0" * 300
    drawn = qr(text)
    matrix = segno.make(text, error="m", micro=False).matrix
    cells = set()
    for x, y, many in re.findall(r"M(\d+) (\d+)h(\d+)v1", drawn):
        cells |= {(int(x) + at - 4, int(y) - 4) for at in range(int(many))}
    assert cells == {(x, y) for y, row in enumerate(matrix) for x, dark in enumerate(row) if dark}


def test_assets_are_named_by_what_is_in_them() -> None:
    assets = Assets()
    assert {name.partition(".")[0] for name in assets.files} == {"console", "mark"}
    assert assets.url("console.css").startswith("/console/static/console.")
    assert assets.integrity("console.js").startswith("sha256-")
    text = b"".join(data for data, _ in assets.files.values())
    assert b"http://" not in text.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"https://" not in text
