"""A JSON body, read field by field; every mistake names its field."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tallystick.node.api.pacspace.numbers import is_number, parse_number
from tallystick.node.api.pacspace.wire import bad

_NULL = msgspec.Raw(b"null")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Fields:
    """An object of a body. Keys that nobody asks for are not looked at."""

    def __init__(self, values: Mapping[str, msgspec.Raw]) -> None:
        self._values = values

    @classmethod
    def read(cls, body: bytes | msgspec.Raw, what: str = "the body") -> Fields:
        """The object in these bytes; NaN and Infinity are not JSON."""
        try:
            return cls(_decode(body or b"{}"))
        except _UNREADABLE as error:
            raise bad(f"{what} is not a JSON object: {error}") from None

    def raw(self, name: str) -> msgspec.Raw | None:
        """A field's own bytes; None if it is absent or null."""
        value = self._values.get(name, _NULL)
        return None if bytes(value).strip() == b"null" else value

    def checked(self, name: str) -> msgspec.Raw | None:
        """The same, read to the end: what skips a value does not see all that is wrong in it."""
        self._decoded(name, Any, "JSON")
        return self.raw(name)

    def _decoded(self, name: str, kind: Any, said: str) -> Any:
        value = self.raw(name)
        if value is None:
            return None
        try:
            return msgspec.json.decode(value, type=kind)
        except _UNREADABLE:
            raise bad(f"{name} must be {said}") from None

    def text(self, name: str, characters_max: int) -> str | None:
        """A text that is not empty."""
        said = f"a text of 1 to {characters_max} characters"
        value: str | None = self._decoded(name, str, said)
        if value is not None and not 1 <= len(value) <= characters_max:
            raise bad(f"{name} must be {said}")
        return value

    def needed_text(self, name: str, characters_max: int) -> str:
        """The same, of a field that must be there."""
        value = self.text(name, characters_max)
        if value is None:
            raise bad(f"{name} is missing")
        return value

    def digits(self, name: str) -> str | None:
        """The digits of a number."""
        value = self.raw(name)
        if value is None:
            return None
        text = bytes(value).decode("utf-8", "replace").strip()
        if not is_number(text):
            raise bad(f"{name} must be a finite number, not {text[:40]}")
        return text

    def number(self, name: str) -> Decimal | None:
        """A number's exact value."""
        text = self.digits(name)
        return None if text is None else parse_number(text, name)

    def object(self, name: str, bytes_max: int) -> msgspec.Raw | None:
        """An object, as its own bytes."""
        value = self.raw(name)
        if value is None:
            return None
        self._decoded(name, dict[str, Any], "an object")
        if len(bytes(value)) > bytes_max:
            raise bad(f"{name} has {len(bytes(value))} bytes; {bytes_max} are allowed")
        return msgspec.Raw(bytes(value))

    def items(self, name: str, items_max: int) -> list[msgspec.Raw]:
        """The items of a list that must be there."""
        value: list[msgspec.Raw] | None = self._decoded(name, list[msgspec.Raw], "a list")
        if value is None:
            raise bad(f"{name} is missing")
        if len(value) > items_max:
            raise bad(f"{name} has {len(value)} items; {items_max} are allowed")
        return value
