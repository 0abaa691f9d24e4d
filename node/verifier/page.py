"""The verifier's page, put together: one HTML file that loads nothing and asks nobody.

The scripts beside this file are ECMAScript modules with one form of import and of export each, so
that a few lines can turn them into functions of one script, in an order in which each comes after
those that it needs. Nothing is shortened: who opens the file can read all that it does. The page's
policy allows that script and that style, by their hashes, and no connection to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

MAIN = "main.js"

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([a-z0-9_]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(
    r"^export ((?:async )?(?:function\*?|class|const) ([A-Za-z_][A-Za-z0-9_]*))", re.MULTILINE
)


@cache
def verifier_page() -> bytes:
    """The whole file, UTF-8. The same version of Tallystick gives the same bytes."""
    style, script = _text("page.css"), assembled()
    page = _text("page.html")
    parts = (("{{policy}}", verifier_policy()), ("{{style}}", style), ("{{script}}", script))
    for mark, content in parts:
        before, found, after = page.partition(mark)
        assert found, f"the page has no {mark}"
        page = before + content + after
    return page.encode()


@cache
def verifier_policy() -> str:
    """The page's content security policy, which whoever serves it says as a header, too."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source(assembled())}",
            f"style-src {_source(_text('page.css'))}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def page_digest() -> str:
    """The SHA-256 of the file, in hexadecimal: what tells whether a copy is genuine."""
    return hashlib.sha256(verifier_page()).hexdigest()


def _source(text: str) -> str:
    """How a policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return files("tallystick.node.verifier").joinpath(name).read_text("utf-8")


def assembled(main: str = MAIN) -> str:
    """A module and all that it needs as one script; the main one runs at its end."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            assert done[name], f"{name} needs itself"
            return
        done[name] = ""
        source = _text(name)
        for _, needed in _IMPORT.findall(source):
            add(needed)
        del done[name]  # so that it stands behind those that it needs
        done[name] = _as_function(name, source)

    add(main)
    return "\nconst modules = {};\n\n" + "\n".join(done.values())


def _as_function(name: str, source: str) -> str:
    """A module as a function that is called at once and returns what the module exports."""
    body = _IMPORT.sub(_as_constants, source)
    exported = [found[1] for found in _EXPORT.findall(body)]
    body = _EXPORT.sub(r"\1", body)
    assert not re.search(r"^(?:import|export)\b", body, re.MULTILINE), f"{name} has another form"
    return (
        f"// ==== {name} ====\n\n"
        f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {", ".join(exported)} }};\n}})();\n'
    )


def _as_constants(found: re.Match[str]) -> str:
    """An import as constants taken from what the other module returned."""
    return f'const {{{found[1].replace(" as ", ": ")}}} = modules["{found[2]}"];\n'
