"""Pages out of templates: everything is escaped, and no foreign text takes effect in a page.

Numbers stay exact: their digits are grouped by style alone, so they are copied and read out as they
are.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import segno
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from tallystick.node.comparing import markup as drawn
from tallystick.node.statement.texts import groups
from tallystick.protocol.messages import plain

FOLDER = Path(__file__).parent
_TYPES = {
    ".svg": "image/svg+xml",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


class Assets:
    """The style and the script: by names that hold their hashes, so that browsers may keep them."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self._names: dict[str, tuple[str, str]] = {}
        for path in sorted((FOLDER / "static").iterdir()):
            if path.suffix in _TYPES:
                data = path.read_bytes()
                digest = hashlib.sha256(data).digest()
                name = f"{path.stem}.{digest.hex()[:12]}{path.suffix}"
                self.files[name] = data, _TYPES[path.suffix]
                integrity = f"sha256-{base64.b64encode(digest).decode()}"
                self._names[path.name] = f"/console/static/{name}", integrity

    def url(self, name: str) -> str:
        """Where an asset is."""
        return self._names[name][0]

    def integrity(self, name: str) -> str:
        """What a browser checks it against."""
        return self._names[name][1]


def environment(assets: Assets) -> Environment:
    """The templates, with what they call."""
    folder = FOLDER / "templates"
    made = Environment(
        # Read now, so that none is of another version than the node; compiled when they are shown.
        loader=DictLoader(
            {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.*")}
        ),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"asset": assets.url, "integrity": assets.integrity, "url": url}
    filters: dict[str, Callable[..., Any]] = {
        "number": number,
        "count": lambda value: number(str(value)),
        "figures": figures,
        "instant": instant,
        "lines": lambda text: text.rstrip("\n").split("\n"),
        "verbatim": verbatim,
        "capital": lambda text: text[:1].upper() + text[1:],
        "short": lambda digest: digest[:8],
        "plural": lambda n, one, many=None: one if n == 1 else (many or f"{one}s"),
    }
    made.filters |= filters
    return made


def _harmless(value: object) -> object:
    """Text without what takes effect: control characters and marks that turn its direction."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return plain(value)
    return value


def verbatim(lines: Iterable[str]) -> Markup:
    """Lines of text as they are, each with its end."""
    return Markup("").join(escape(plain(line)) + "\n" for line in lines)


def url(*parts: str, **query: str | int | None) -> str:
    """A path of the console, each part quoted; what is None is left out of the query."""
    path = "/".join(quote(part, safe="") for part in parts)
    asked = {key: value for key, value in query.items() if value is not None}
    return f"/console/{path}" + (f"?{urlencode(asked)}" if asked else "")


def number(text: str | None) -> Markup:
    """A decimal as text, its digits in groups of three that style sets apart."""
    if text is None:
        return Markup('<span class="soft">none</span>')
    sign, parts, rest = groups(text)
    inside = "".join(f'<span class="g">{escape(part)}</span>' for part in parts[1:])
    first = "".join(parts[:1])
    return Markup(
        f'<span class="num">{"−" if sign else ""}{escape(first)}{inside}{escape(rest)}</span>'
    )


_FIGURE = re.compile(r"(?<![\w.])(?<![\w.][+-])[0-9]{4,}(?:\.[0-9]+)?(?![\w-])")
_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9]{3})")


def figures(text: str) -> Markup:
    """A sentence of ours whose long numbers are grouped as elsewhere."""
    clean, parts, at = plain(text), [], 0
    for found in _FIGURE.finditer(clean):
        parts += [escape(clean[at : found.start()]), number(found[0])]
        at = found.end()
    return Markup("").join([*parts, escape(clean[at:])])


def ungrouped(text: str) -> str:
    """A sentence of `comparing` without the commas in its numbers; `figures` groups them."""
    return _COMMA.sub("", text)


def instant(at_us: int | None) -> Markup:
    """A moment in UTC, to the second; the exact one for programs."""
    if at_us is None:
        return Markup("")
    try:
        when = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return Markup(f"<span>{at_us} µs</span>")
    text = f"{when:%Y-%m-%d %H:%M:%S}"
    return Markup(f'<time datetime="{when.isoformat()}" title="UTC">{text}</time>')


def qr(text: str) -> Markup:
    """A QR code as a drawing, dark on light in every colour scheme."""
    code = segno.make(text, error="m", micro=False)
    across = code.symbol_size(scale=1, border=4)[0]
    rows = []
    for y, row in enumerate(code.matrix):
        x = 0
        for dark, run in groupby(row):
            many = len(list(run))
            if dark:
                rows.append(f"M{x + 4} {y + 4}h{many}v1h-{many}z")
            x += many
    path = "".join(rows)
    return Markup(
        f'<svg class="qr" viewBox="0 0 {across} {across}" aria-hidden="true" focusable="false">'
        f'<rect width="100%" height="100%" class="light"/><path d="{path}" class="dark"/></svg>'
    )


def drawing(made: drawn.Markup) -> Markup:
    """A drawing of `comparing`, which escapes by itself, with thin spaces in its numbers."""
    return Markup(_COMMA.sub("\u202f", made))
