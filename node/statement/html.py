"""A statement as one HTML page: nothing in it runs, nothing is fetched, and it prints well.

Its policy allows the one style that is in it, by its hash, and nothing else. The template escapes
whatever is put into it; only the style and the drawing of the QR code are ours.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from tallystick.node.statement import wording
from tallystick.node.statement.model import NUMBERS, MeterPart, Statement
from tallystick.node.statement.pdf import qr_svg
from tallystick.node.statement.tables import Table, late_table, line_tables
from tallystick.node.statement.texts import groups, nonzero

LINES_MAX = 50_000  # that a page shows


def _resource(name: str) -> str:
    return files("tallystick.node.statement").joinpath(name).read_text("utf-8")


@cache
def _template() -> Template:
    made = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return made.from_string(_resource("statement.html"))


@cache
def maker() -> str:
    """What made a page: whoever has the same makes the same bytes of the same bundle."""
    layout = hashlib.sha256((_resource("statement.html") + _resource("statement.css")).encode())
    return f"tallystick {version('tallystick')}, layout {layout.hexdigest()[:12]}"


def render_html(statement: Statement, attached: dict[str, bytes]) -> bytes:
    """The page; `attached` are the files in it by name, the bundle first."""
    style = Markup(_resource("statement.css") + _paged(statement))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    proof, shown = statement.proof, statement.lines <= LINES_MAX
    late = late_table(statement) if shown else None
    text = _template().render(
        s=statement,
        words=wording,
        policy=policy,
        style=style,
        maker=maker(),
        facts=wording.facts(statement),
        qr=_qr(proof.digest) if proof else None,
        meters=[{"part": part, **_numbers(part)} for part in statement.meters],
        verdicts=[
            {
                "judged": judged,
                "provider": _number(judged.provider),
                "consumer": _number(judged.consumer),
            }
            for judged in statement.verdicts or ()
        ],
        claims=[
            {"claim": claim, "amount": _number(claim.amount), "open": pending}
            for claim, pending in wording.shown_claims(statement)
        ],
        late=_table(late) if late is not None else None,
        tables=[_table(table) for table in line_tables(statement)] if shown else [],
        shown=shown,
        note="\n".join(wording.note_rows(statement)),
        files=[
            {
                "name": name,
                "type": wording.file_type(name),
                "base64": base64.b64encode(data).decode(),
            }
            for name, data in attached.items()
        ],
    )
    return text.encode()


def _paged(statement: Statement) -> str:
    """What stands at the edges of printed pages. Labels and digests need no escaping in CSS."""
    left = f"Usage statement {statement.period}"
    return (
        "@page { margin: 20mm 16mm 18mm; font: 8pt sans-serif;"
        f' @top-left {{ content: "{left}"; }} @top-right {{ content: "{statement.mark}"; }}'
        ' @bottom-right { content: "page " counter(page) " of " counter(pages); } }\n'
    )


def _qr(digest: str) -> Markup:
    drawing = qr_svg(digest).replace("<svg ", '<svg role="img" aria-label="QR code of the digest" ')
    return Markup(drawing.strip())


def _number(text: str | None) -> SimpleNamespace | None:
    if text is None:
        return None
    sign, parts, rest = groups(text)
    return SimpleNamespace(sign=sign, groups=parts, rest=rest, zero=not nonzero(text))


def _numbers(one: MeterPart) -> dict[str, Any]:
    return {name: _number(getattr(one, name)) for name in NUMBERS}


def _table(table: Table) -> dict[str, Any]:
    total = table.total
    return {
        "title": table.title,
        "texts": list(table.texts),
        "numbers": list(table.numbers),
        "rows": [(texts, [_number(one) for one in numbers]) for texts, numbers in table.rows],
        "total": total and (total[0], [_number(one) for one in total[1]]),
    }
