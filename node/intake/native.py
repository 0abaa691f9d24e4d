"""The native JSON form of a delta, read exactly.

A delta is `{"id", "meter", "quantity", "subject", "occurred_at"}`; without the last it is of now.
The quantity is a decimal, as text or as a JSON number: it is taken from the literal as it was
written and never becomes a float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from tallystick.node.importing.drafts import Draft, exact_quantity
from tallystick.node.importing.times import parse_time
from tallystick.protocol.errors import FormatError, InputError, QuantityError
from tallystick.protocol.records import Meter, check_texts, texts_plain

VALUE_SHOWN = 120  # characters of a refused value
_TEXT_PLAIN = 128

# What the decoder raises for garbage: text that is no UTF-8, numbers of thousands of digits, and
# arrays nested without end, too.
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError)


class Refused(Exception):
    """A delta or an event that is not taken: the field, its value and the reason."""

    def __init__(self, field: str, value: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.value, self.reason = field, value[:VALUE_SHOWN], reason


class _Line(Struct, forbid_unknown_fields=True):
    id: str
    meter: str
    quantity: msgspec.Raw
    subject: str
    occurred_at: str | None = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_text = msgspec.json.Decoder(str).decode


class DeltaReader:
    """Reads deltas for the meters of a channel's terms."""

    def __init__(self, meters: Mapping[str, Meter], clock_us: Callable[[], int]) -> None:
        self._meters = meters
        self._clock_us = clock_us

    def read(self, text: bytes) -> tuple[Draft, bool]:
        """The draft of a JSON document, and whether it names its time; `Refused` says which field
        is wrong and why.
        """
        try:
            line = _decode(text)
        except UNDECODABLE as error:
            raise Refused("", "", f"this is not a delta: {error}") from None
        meter = self._meters.get(line.meter)
        if meter is None:
            known = ", ".join(sorted(self._meters))
            reason = f"the terms have no meter {line.meter[:80]!r}; meters: {known}"
            raise Refused("meter", line.meter, reason)
        if not (texts_plain(line.id + line.subject) and _is_short(line.id, line.subject)):
            _check_field("id", line.id)
            _check_field("subject", line.subject)
        quantity = _quantity(meter, _literal(line.quantity))
        written = line.occurred_at
        try:
            at_us = self._clock_us() if written is None else parse_time(written, "UTC", None)
        except InputError as error:
            raise Refused("occurred_at", written or "", error.message) from None
        return Draft(line.id, line.meter, line.subject, quantity, at_us), written is not None


def _is_short(id_: str, subject: str) -> bool:
    return 0 < len(id_) <= _TEXT_PLAIN and 0 < len(subject) <= _TEXT_PLAIN


def _check_field(name: str, text: str) -> None:
    """Refuse a text that no record may hold."""
    try:
        check_texts(text, what=name)
    except FormatError as error:
        raise Refused(name, text, error.message) from None


def _literal(raw: msgspec.Raw) -> str:
    """A quantity's text: that of a JSON number is the literal itself."""
    written = bytes(raw).strip()
    try:
        if written[:1] == b'"':
            return _decode_text(written)
        text = written.decode("ascii")
    except UNDECODABLE as error:
        raise Refused("quantity", ascii(written), f"the quantity is not text: {error}") from None
    if text[:1] in "{[tfn":
        reason = "the quantity is not a number"
        raise Refused("quantity", text, f'{reason}: write it as 12.5 or as "12.5"')
    return text


def _quantity(meter: Meter, text: str) -> int:
    try:
        return exact_quantity(meter, text)
    except QuantityError as error:
        raise Refused("quantity", text, error.message) from None
