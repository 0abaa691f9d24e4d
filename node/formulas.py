"""Texts in CSV files that people open in a spreadsheet, which would run some of them as formulas.

Ids and subjects are the peer's words too, and `=HYPERLINK(…)` is a valid id. The quote before it is
what spreadsheets themselves take for "this is text" (OWASP, CSV Injection). Numbers stay as they
are.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"(?![+-][0-9]+(?:\.[0-9]+)?\Z)[=+\-@\t\r\n]")


def shown_as_text(text: str) -> str:
    """The text, with a quote before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text
