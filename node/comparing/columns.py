"""Text in the columns of a terminal, where some characters take two and some none."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells

COLUMNS = 80


def cropped(text: str, width: int) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if cell_len(text) <= width:
        return text
    return chop_cells(text, width - 1)[0] + "…"


def left(text: str, width: int) -> str:
    """The text and spaces behind it, cropped to the width."""
    text = cropped(text, width)
    return text + " " * (width - cell_len(text))


def folded(text: str, indent: int = 0, hang: int = 0) -> list[str]:
    """A text in lines that fit, broken at its spaces; a path or an id is never broken.

    `indent` is the first line's; those after it have `hang` more.
    """
    lines: list[str] = []
    line = " " * indent
    fresh = True
    for word in text.split():
        if not fresh and cell_len(line) + 1 + cell_len(word) > COLUMNS:
            lines.append(line)
            line, fresh = " " * (indent + hang), True
        line += word if fresh else f" {word}"
        fresh = False
    return [*lines, line]
