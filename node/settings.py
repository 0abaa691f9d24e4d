"""The settings one by one: what each is, what it means, and where its value came from.

What a setting means is said once, in the comments of `template.TEMPLATE`; here they are found.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from tallystick.node.config import Config
from tallystick.node.template import TEMPLATE

HIDDEN = "(secret)"
_SECRET = re.compile(r"(^|_)(secrets?|tokens?|passphrase|password)$")
_TABLE = re.compile(r"\s*\[\[?([A-Za-z0-9_.-]+)\]?\]\s*(#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")
_SHOWN = re.compile(r"# ([a-z_]+) = ")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting; `line` is where the file sets it, or None where it is the default."""

    name: str
    value: object
    default: object
    line: int | None
    means: str
    takes: str


def settings(config: Config, text: str) -> list[Setting]:
    """Every setting of a configuration, and of the file's text that it was read from."""
    values, defaults = flat(config), flat(Config())
    means, places = explanations(), lines_of(text)
    return [
        Setting(
            name, value, defaults[name], places.get(name) or _table_line(places, name),
            means[name], takes(name),
        )
        if value != defaults[name] or name in places
        else Setting(name, value, value, None, means[name], takes(name))
        for name, value in values.items()
    ]  # fmt: skip


def flat(config: Config) -> dict[str, object]:
    """The values by `table.name`, as plain values; what is secret is not among them."""
    return {
        f"{table}.{name}": HIDDEN if _SECRET.search(name) and value else value
        for table, values in msgspec.to_builtins(config).items()
        for name, value in values.items()
    }


def _table_line(places: dict[str, int], name: str) -> int | None:
    """Where the table of a setting is, if that is written as one value."""
    return places.get(name.partition(".")[0])


def lines_of(text: str) -> dict[str, int]:
    """On which line of a file each key is set, counted from 1; the first one counts."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.fullmatch(line):
            found.setdefault(match[1], number)
            table = f"{match[1]}."
        elif match := _KEY.match(line):
            found.setdefault(table + match[1], number)
    return found


def explanations() -> dict[str, str]:
    """What each setting means, by its name: the comment above it in the template."""
    found: dict[str, str] = {}
    table, said = "", []
    known = set(flat(Config()))
    names: list[str] = []
    for line in [*TEMPLATE.splitlines(), ""]:
        name = f"{table}.{match[1]}" if (match := _SHOWN.match(line)) else ""
        if match := _TABLE.fullmatch(line):
            table = match[1]
        elif name in known:
            names.append(name)
        elif line.startswith("#"):
            said.append(line.removeprefix("#").removeprefix(" "))
        if not line.strip():
            found |= {name: _paragraph(said) for name in names}
            said, names = [], []
    return found


def _paragraph(lines: list[str]) -> str:
    """Lines as one paragraph; those that are indented, an example, stay as they are."""
    text = "\n".join(lines)
    return re.sub(r"(?<!\n)\n(?! )", " ", text)


def takes(name: str) -> str:
    """What a setting takes, in words."""
    table, _, field = name.partition(".")
    tables = {one.name: one.type for one in msgspec.structs.fields(Config)}
    kinds = typing.get_type_hints(tables[table], include_extras=True)
    return _words(kinds[field])


def _words(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _words(arguments[0]) + "".join(_bounds(one) for one in arguments[1:])
    if origin is typing.Literal:
        return "one of " + ", ".join(json.dumps(one) for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in arguments)
    if origin in (list, tuple):
        inner = arguments[0]
        if isinstance(inner, type) and issubclass(inner, Struct):
            return "tables of " + ", ".join(inner.__struct_fields__)
        return "a list of " + _words(inner).removeprefix("a ") + "s"
    plain = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    return plain.get(kind, "a value")


def _bounds(meta: Any) -> str:
    parts = [("from", meta.ge), ("above", meta.gt), ("up to", meta.le), ("below", meta.lt)]
    return "".join(f" {word} {bound:,}" for word, bound in parts if bound is not None)


def shown(value: object) -> str:
    """A value as the file writes it."""
    return json.dumps(value, ensure_ascii=False)


def differing(config: Config, running: dict[str, object]) -> Iterator[tuple[str, object]]:
    """The settings that a running node has other values of, and those values."""
    for name, value in flat(config).items():
        if name in running and running[name] != value:
            yield name, running[name]
