"""What a spreadsheet would run is text in our files; everything else is as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.formulas import shown_as_text


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://x.example","look")',
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "-",
        "+1.",
        "-1\n",
    ],
)
def test_what_would_run_has_a_quote_before_it(text: str) -> None:
    assert shown_as_text(text) == "'" + text


@pytest.mark.parametrize(
    "text", ["", "request-1", "a=b", "-5", "+4.25", "'=1", " =1", "é", "0-1", "user@example"]
)
def test_other_texts_and_numbers_are_as_they_were(text: str) -> None:
    assert shown_as_text(text) == text


@given(st.text())
def test_nothing_else_is_changed(text: str) -> None:
    assert shown_as_text(text) in (text, "'" + text)
    assert shown_as_text(text)[:1] not in tuple("=@\t\r\n")
