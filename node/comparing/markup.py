"""HTML and SVG that cannot be forgotten to escape: text is escaped unless it was made by `tag`."""

from __future__ import annotations

from html import escape

from tallystick.protocol.messages import plain

_VOID = {"meta", "rect", "line", "path", "use"}  # elements without content, written without an end


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | Markup | None


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element. Plain text in it is escaped; its control characters and bidi marks become spaces.

    `_` in an attribute's name is `-` but for one at the end (`class_`); None leaves one out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            words.append(f'{_attribute(key)}="{escape(plain(text))}"')
    opening = " ".join(words)
    if name in _VOID:
        return Markup(f"<{opening}/>" if name != "meta" else f"<{opening}>")
    return Markup(f"<{opening}>{together(*children)}</{name}>")


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def together(*children: Child) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else escape(plain(child))
