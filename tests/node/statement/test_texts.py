"""Foreign texts on a page: nothing hides, nothing is imitated, numbers stay exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.statement.glyphs import has_glyph
from tallystick.node.statement.texts import covered, groups, readable
from tallystick.protocol.quantities import format_quantity


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("project-7", "project-7"),
        ("a b", "a b"),
        ("a  b", "a \\u{0020}b"),
        (" a", "\\u{0020}a"),
        ("a ", "a\\u{0020}"),
        ("rtl\u202eevil", "rtl\\u{202E}evil"),
        ("zero\u200bwidth", "zero\\u{200B}width"),
        ("no\u00a0break", "no\\u{00A0}break"),
        ("\u2028", "\\u{2028}"),
        ("a\\b", "a\\b"),
        ("\\u{202E}", "\\u{005C}u{202E}"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("a\u200db", "a\\u{200D}b"),
        ("\ue000", "\\u{E000}"),
        ("شركة", "شركة"),
        ("项目", "项目"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert readable(text) == shown


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_texts_that_differ_look_different(a: str, b: str) -> None:
    assert (readable(a) == readable(b)) == (a == b)
    for shown in (readable(a), covered(readable(a), has_glyph)):
        assert "\ue000" not in shown and "\u202e" not in shown and "\n" not in shown


@given(st.text(max_size=40))
def test_what_a_font_does_not_have_is_written_out(text: str) -> None:
    assert all(map(has_glyph, covered(readable(text), has_glyph)))


@given(st.integers(-(10**38), 10**38), st.integers(0, 9))
def test_groups_of_digits_are_the_number(value: int, scale: int) -> None:
    text = format_quantity(value, scale)
    sign, parts, rest = groups(text)
    assert sign + "".join(parts) + rest == text
    assert all(len(part) == 3 for part in parts[1:]) and 1 <= len(parts[0]) <= 3
