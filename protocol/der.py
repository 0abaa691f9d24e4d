"""Reading DER (X.690): values in their one form, as timestamps and certificates are made of.

Only what those need: definite lengths in their shortest form, tags of one byte. What is not in
that form is refused, so every value has exactly one spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tallystick.protocol.errors import FormatError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8, PRINTABLE, IA5, UTC_TIME, GENERAL_TIME = 0x0C, 0x13, 0x16, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
NUMBER_BYTES_MAX = 64  # of an integer or an object identifier; those in use have about 20
TRUE = b"\x01\x01\xff"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GENERAL_TIME = re.compile(rb"([0-9]{14})(?:\.([0-9]{0,8}[1-9]))?Z")
_UTC_TIME = re.compile(rb"[0-9]{12}Z")


@dataclass(frozen=True, slots=True)
class Value:
    """A value: its tag, what is in it, and all of its bytes."""

    tag: int
    content: bytes
    raw: bytes

    def inside(self) -> list[Value]:
        """The values in a constructed one."""
        return read_values(self.content)


def read_values(data: bytes) -> list[Value]:
    """The values that these bytes are, one after the other; `FormatError` if they are not."""
    values, at = [], 0
    while at < len(data):
        if len(data) - at < 2:
            raise FormatError("not DER: a value is cut off")
        tag, length, begin = data[at], data[at + 1], at + 2
        if tag & 0x1F == 0x1F:
            raise FormatError("not DER: a tag of several bytes, which nothing here has")
        if length >= 0x80:
            size = length & 0x7F
            begin += size
            length = int.from_bytes(data[at + 2 : begin], "big")
            if not 1 <= size <= 4 or length < 0x80 or length >> 8 * (size - 1) == 0:
                raise FormatError("not DER: a length is not in its shortest form")
        end = begin + length
        if end > len(data):
            raise FormatError("not DER: a value is cut off")
        values.append(Value(tag, data[begin:end], data[at:end]))
        at = end
    return values


def read_value(data: bytes) -> Value:
    """The one value that these bytes are."""
    values = read_values(data)
    if len(values) != 1:
        raise FormatError(f"not DER: {len(values)} values where one is due")
    return values[0]


class Reader:
    """Takes the values of a sequence in order; whoever it is `of` is named when one is missing."""

    def __init__(self, value: Value, of: str) -> None:
        self._values = value.inside()
        self._at = 0
        self._of = of

    def take(self, *tags: int) -> Value:
        """The next value, which must have one of these tags."""
        value = self.maybe(*tags)
        if value is None:
            raise FormatError(f"{self._of} lacks a part, or has one of another kind")
        return value

    def maybe(self, *tags: int) -> Value | None:
        """The next value if it has one of these tags."""
        if self._at < len(self._values) and self._values[self._at].tag in tags:
            self._at += 1
            return self._values[self._at - 1]
        return None

    def rest(self) -> list[Value]:
        """All that follows."""
        values, self._at = self._values[self._at :], len(self._values)
        return values

    def end(self) -> None:
        """Refuse what follows."""
        if self.rest():
            raise FormatError(f"{self._of} has a part too many")


def expect(value: Value, *tags: int, what: str) -> Value:
    """The value, if it has one of these tags."""
    if value.tag not in tags:
        raise FormatError(f"{what} is of another kind")
    return value


def oid_of(value: Value) -> str:
    """An object identifier in dots."""
    numbers, number, begins = [], 0, True
    data = expect(value, OID, what="an object identifier").content
    if len(data) > NUMBER_BYTES_MAX:
        raise FormatError(f"an object identifier of {len(data)} bytes")
    for byte in data:
        if begins and byte == 0x80:
            raise FormatError("not DER: an object identifier is not in its shortest form")
        number = number << 7 | byte & 0x7F
        begins = byte < 0x80
        if begins:
            numbers.append(number)
            number = 0
    if not numbers or not begins:
        raise FormatError("not DER: an object identifier is cut off")
    root = min(numbers[0] // 40, 2)
    return ".".join(map(str, (root, numbers[0] - 40 * root, *numbers[1:])))


def integer_of(value: Value) -> int:
    """An integer."""
    data = expect(value, INTEGER, what="an integer").content
    if len(data) > NUMBER_BYTES_MAX:
        raise FormatError(f"an integer of {len(data)} bytes")
    if not data or (len(data) > 1 and data[0] in (0, 0xFF) and data[0] >> 7 == data[1] >> 7):
        raise FormatError("not DER: an integer is not in its shortest form")
    return int.from_bytes(data, "big", signed=True)


def instant_of(value: Value) -> int:
    """A time, in microseconds since the Unix epoch; what is finer is cut off."""
    fraction = b""
    if value.tag == UTC_TIME and _UTC_TIME.fullmatch(value.content):
        digits = (b"19" if value.content[0] >= 0x35 else b"20") + value.content[:-1]
    else:
        match = _GENERAL_TIME.fullmatch(value.content) if value.tag == GENERAL_TIME else None
        if match is None:
            raise FormatError("not DER: a time is not in its one form")
        digits, fraction = match[1], match[2] or b""
    try:
        whole = datetime.strptime(digits.decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise FormatError(f"there is no such time: {digits.decode()}") from None
    return (whole - _EPOCH) // timedelta(microseconds=1) + int(fraction[:6].ljust(6, b"0"))
