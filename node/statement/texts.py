"""Foreign texts made fit for a page: nothing in them is invisible, and nothing moves the rest.

A subject or a reason is whatever a party wrote. What cannot be seen (controls, bidi marks, joiners
out of place) or could be taken for something else is written out as `\\u{202E}`, so that two texts
that differ look different. Letters of all scripts stay as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_JOINER, _NON_JOINER = "\u200d", "\u200c"
# Blank, although Unicode does not say so of their category.
_BLANK = {"\u115f", "\u1160", "\u2800", "\u3164", "\uffa0", "\u034f", "\u17b4", "\u17b5"}


def readable(text: str) -> str:
    """The text with what cannot be seen in it written out."""
    if text.isascii() and text.isprintable() and "\\u{" not in text and _spaced_once(text):
        return text
    return "".join(
        _written(character) if _hidden(text, place) else character
        for place, character in enumerate(text)
    )


def covered(text: str, has: Callable[[str], bool]) -> str:
    """The text with what a font does not have written out."""
    if text.isascii():
        return text
    return "".join(c if has(c) else _written(c) for c in text)


def _written(character: str) -> str:
    return f"\\u{{{ord(character):04X}}}"


def _spaced_once(text: str) -> bool:
    return "  " not in text and text == text.strip()


def _hidden(text: str, place: int) -> bool:
    character = text[place]
    if character == "\\":
        return text.startswith("\\u{", place)  # so that ours cannot be imitated
    if character == " ":  # one at an edge or after another is not seen
        return place in (0, len(text) - 1) or text[place - 1] == " "
    if character in (_JOINER, _NON_JOINER):
        return not _joins(text, place)
    category = unicodedata.category(character)
    return category in _INVISIBLE or category == "Zs" or character in _BLANK


def _joins(text: str, place: int) -> bool:
    """Whether a joiner stands where a script or an emoji needs it."""
    if not 0 < place < len(text) - 1:
        return False
    before, after = (unicodedata.category(text[at]) for at in (place - 1, place + 1))
    if text[place] == _JOINER and after == "So":
        return before in ("So", "Mn", "Sk")
    return before in ("Lo", "Mn", "Mc") and after == "Lo"


def nonzero(number: str) -> bool:
    """Whether a decimal text is of another number than zero."""
    return bool(number.strip("-0."))


def groups(number: str) -> tuple[str, list[str], str]:
    """A decimal text's sign, its whole part in groups of three digits, and `.` with the rest."""
    sign = "-" if number.startswith("-") else ""
    whole, point, fraction = number.removeprefix("-").partition(".")
    first = len(whole) % 3
    parts = [whole[:first]] if first else []
    parts += [whole[at : at + 3] for at in range(first, len(whole), 3)]
    return sign, parts, point + fraction
