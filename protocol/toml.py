"""TOML files that people write, read within bounds: whatever is in one, what is wrong has words.

Python's reader takes numbers and nesting without end, which would fail later, far from the file.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection
from typing import Any

from tallystick.protocol.errors import InputError
from tallystick.protocol.records import INT64_MAX, INT64_MIN

TOML_BYTES_MAX = 512 * 1024
DEPTH_MAX = 16
DOTS_MAX = 256  # in a line: the reader's time grows with the square of a dotted key's parts


def toml_text(source: bytes) -> str:
    """The text of a file's bytes; `InputError` names the line that is not UTF-8."""
    if len(source) > TOML_BYTES_MAX:
        raise InputError(
            f"the file has {len(source)} bytes; {TOML_BYTES_MAX} are allowed",
            "Is it the right file?",
        )
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"line {line}: byte 0x{source[error.start]:02x} is not UTF-8",
            "Save the file as UTF-8 (it looks like Latin-1)",
        ) from None


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a text; `InputError` says what is wrong with it and where."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS_MAX:
            raise InputError(f"line {number} has more than {DOTS_MAX} dots")
    try:
        values = tomllib.loads(text)
        _check(values, 0)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the file is not valid TOML: {error}") from None
    except ValueError:  # digits beyond what Python turns into an integer
        raise InputError("the file holds a number that does not fit into 64 bits") from None
    except RecursionError:
        raise InputError("the file nests its values too deeply") from None
    return values


def known_keys(key: str, known: Collection[str]) -> str:
    """The advice about a key that is none of these."""
    near = difflib.get_close_matches(key, known, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"


def _check(value: object, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise RecursionError
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)
    elif isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise ValueError
