"""A TOML file's mistakes have words, however far they go."""

from __future__ import annotations

import pytest

from tallystick.protocol.errors import InputError
from tallystick.protocol.toml import DOTS_MAX, TOML_BYTES_MAX, parse_toml, toml_text


def test_values_come_as_they_are_and_a_byte_order_mark_is_no_part_of_them() -> None:
    assert toml_text("\ufeffä = 1".encode()) == "ä = 1"
    assert parse_toml('a.b = [1, "x", { c = 0x7fffffffffffffff }]') == {
        "a": {"b": [1, "x", {"c": 2**63 - 1}]}
    }


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"a = 1\nb = '\xe4'", "line 2: byte 0xe4 is not UTF-8"),
        (b"#" * (TOML_BYTES_MAX + 1), f"{TOML_BYTES_MAX} are allowed"),
    ],
)
def test_bytes_that_are_no_text(source: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        toml_text(source)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "not valid TOML: Invalid value"),
        ("a = " + "9" * 5000, "a number that does not fit into 64 bits"),
        ("a = 0x" + "f" * 5000, "a number that does not fit into 64 bits"),
        ("a = [{ b = -9223372036854775809 }]", "a number that does not fit into 64 bits"),
        ("a = " + "[" * 5000, "nests its values too deeply"),
        ("a." * 20 + "a = 1", "nests its values too deeply"),
        ("\n" + "a." * DOTS_MAX + "a.a = 1", f"line 2 has more than {DOTS_MAX} dots"),
    ],
)
def test_what_no_reader_of_a_file_could_use(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_toml(text)
