"""The OpenAPI 3.1 document of the native interface, and a page of it for people."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct

from tallystick.node.api.operations import Operation

_REF = "#/components/schemas/{name}"
_PLACES = {  # what stands in the paths
    "channel": "The peer's name, or a unique beginning of the channel's id",
    "name": "METER/ID, or the id alone",
    "period": "As in 2026-10, 2026-10-31 or 2026-10-31T18, by the calendar of the terms",
    "file": "The period and a form: 2026-10.pdf or 2026-10.html",
    "dispute": "The beginning of the dispute's number",
}


class Problem(Struct, omit_defaults=True):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    advice: str = ""


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document."""
    structs = [
        kind
        for operation in operations
        for kinds in (*operation.takes.values(), *operation.gives.values())
        for kind in (kinds if isinstance(kinds, tuple) else (kinds,))
        if kind is not bytes
    ]
    _, components = msgspec.json.schema_components([*structs, Problem], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(_path(operation), {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tallystick",
            "version": version("tallystick"),
            "description": "The HTTP interface of a Tallystick node.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PLACES.get(name, "In the path"),
            "schema": {"type": "string"},
        }
        for name in re.findall(r"{([a-z_]+)}", _path(operation))
    ]
    for query in operation.query:
        parameters.append(
            {
                "name": query.name,
                "in": "query",
                "required": False,
                "description": query.description,
                "schema": {"type": "string"},
            }
        )
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": parameters,
        "responses": {
            str(operation.status): {"description": "Done", "content": _content(operation.gives)},
            "default": {
                "description": "A problem",
                "content": _content({"application/problem+json": Problem}),
            },
        },
    }
    if operation.takes:
        described["requestBody"] = {"required": True, "content": _content(operation.takes)}
    if operation.scope is not None:
        described["security"] = [{"bearer": []}, {"header": []}]
        described["description"] = f"Needs a key with the scope `{operation.scope}`."
    else:
        described["security"] = []
    return described


def _path(operation: Operation) -> str:
    """The template as OpenAPI writes it: `:path` is for our own router."""
    return operation.path.replace(":path}", "}")


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[A-Za-z0-9]+", _path(operation).removeprefix("/v1/"))
    return "_".join([operation.method.lower(), *words])


def _content(kinds: Mapping[str, Any]) -> dict[str, Any]:
    return {media: {"schema": _schema(kind)} for media, kind in kinds.items()}


def _schema(kind: Any) -> dict[str, Any]:
    if kind is bytes:
        return {}
    if isinstance(kind, tuple):
        return {"anyOf": [_schema(one) for one in kind]}
    (found,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return dict(found)


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;
color:#1a1a1a;background:#fff}
code,pre{background:#f2f2f2;border-radius:4px;padding:.1em .3em}pre{padding:.8em;overflow:auto}
@media (prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181a}a{color:#8ab8ff}
code,pre{background:#24272b}}
section{border-top:1px solid #8884;padding:.5rem 0}h2{font-size:1.05rem;overflow-wrap:anywhere}
summary{cursor:pointer}
"""


def page(described: Mapping[str, Any]) -> str:
    """The document as a page that loads nothing from anywhere."""
    sections = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            sections.append(_section(method.upper(), path, operation))
    schemas = "".join(
        _schema_section(name, schema) for name, schema in described["components"]["schemas"].items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Tallystick: the HTTP interface</title><style>{_STYLE}</style></head><body><main>"
        "<h1>Tallystick: the HTTP interface</h1>"
        "<p>JSON in and out; quantities are decimal strings. Send a key as"
        " <code>Authorization: Bearer KEY</code> or <code>X-Api-Key: KEY</code>."
        " Errors are problem details (RFC 9457). For programs:"
        ' <a href="/openapi.json">openapi.json</a>.</p>'
        + "".join(sections)
        + f"<h2>What the bodies hold</h2>{schemas}</main></body></html>"
    )


def _schema_section(name: str, schema: Mapping[str, Any]) -> str:
    """A schema that is folded away: all of them together are many pages long."""
    text = html.escape(msgspec.json.format(msgspec.json.encode(schema)).decode())
    return (
        f"<details id='{name}'><summary><code>{name}</code></summary>"
        f"<pre tabindex='0'>{text}</pre></details>"
    )


def _bodies(content: Mapping[str, Any]) -> str:
    """Media types, each with links to the schemas of what it may hold."""
    said = []
    for media, held in content.items():
        schema = held["schema"]
        names = [
            one["$ref"].rpartition("/")[2] for one in schema.get("anyOf", [schema]) if "$ref" in one
        ]
        links = " or ".join(f"<a href='#{name}'>{name}</a>" for name in names)
        said.append(f"<code>{html.escape(media)}</code>" + (f" ({links})" if links else ""))
    return ", ".join(said)


def _needs(operation: Mapping[str, Any]) -> str:
    """What it needs, with the words that are marked as code shown so."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(operation.get("description", "")))


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = [
        f"<li><code>{html.escape(one['name'])}</code>{' (needed)' if one['required'] else ''}:"
        f" {html.escape(one['description'])}</li>"
        for one in operation["parameters"]
    ]
    takes = _bodies(operation.get("requestBody", {}).get("content", {}))
    (status, gives), *_ = operation["responses"].items()
    given = _bodies(gives["content"]) or "nothing"
    return (
        f"<section><h2><code>{method} {html.escape(path)}</code></h2>"
        f"<p>{html.escape(operation['summary'])} {_needs(operation)}</p>"
        + (f"<ul>{''.join(rows)}</ul>" if rows else "")
        + (f"<p>Takes {takes}</p>" if takes else "")
        + f"<p>{status}: {given}</p></section>"
    )
