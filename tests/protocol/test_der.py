"""DER: each value has one spelling, and what has another one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stamping import der, integer, oid

from tallystick.protocol.der import (
    INTEGER,
    Reader,
    instant_of,
    integer_of,
    oid_of,
    read_value,
    read_values,
)
from tallystick.protocol.errors import FormatError

VALUES = st.recursive(
    st.builds(der, st.sampled_from([0x02, 0x04, 0x0C, 0x80]), st.binary(max_size=300)),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: der(0x30, *parts)),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5))
def test_what_is_written_is_read(parts: list[bytes]) -> None:
    values = read_values(b"".join(parts))
    assert [value.raw for value in values] == parts
    for value in values:
        assert der(value.tag, value.content) == value.raw


@given(st.binary(max_size=80))
def test_any_bytes_are_values_that_make_them_up_or_are_refused(data: bytes) -> None:
    try:
        values = read_values(data)
    except FormatError:
        return
    assert b"".join(der(value.tag, value.content) for value in values) == data


@pytest.mark.parametrize(
    "data",
    [
        "30",
        "3080",
        "308000",
        "30810100",
        "3082000100",
        "30857fffffffff",
        "1f0100",
        "300201",
        "ff7f01",
    ],
)
def test_other_spellings_are_refused(data: str) -> None:
    with pytest.raises(FormatError, match="not DER"):
        read_values(bytes.fromhex(data))


def test_one_value_is_one() -> None:
    assert read_value(integer(5)).content == b"\x05"
    for data in (b"", integer(5) * 2):
        with pytest.raises(FormatError, match="where one is due"):
            read_value(data)


@given(st.integers(-(2**300), 2**300))
def test_integers(number: int) -> None:
    assert integer_of(read_value(integer(number))) == number


@pytest.mark.parametrize("content", ["", "0000", "007f", "ffff", "ff80"])
def test_integers_that_are_not_in_their_shortest_form(content: str) -> None:
    with pytest.raises(FormatError, match="shortest"):
        integer_of(read_value(der(INTEGER, bytes.fromhex(content))))


@pytest.mark.parametrize("text", ["1.2.840.113549.1.7.2", "2.999.3", "0.0", "2.5.4.3", "1.39.0"])
def test_object_identifiers(text: str) -> None:
    assert oid_of(read_value(oid(text))) == text


@pytest.mark.parametrize("content", ["", "81", "2a8001", "2a80", "8001"])
def test_object_identifiers_that_are_none(content: str) -> None:
    with pytest.raises(FormatError, match="object identifier"):
        oid_of(read_value(der(0x06, bytes.fromhex(content))))
    with pytest.raises(FormatError, match="object identifier"):
        oid_of(read_value(integer(1)))


@pytest.mark.parametrize(
    ("tag", "text", "micros"),
    [
        (0x18, "19700101000000Z", 0),
        (0x18, "19700101000000.000001Z", 1),
        (0x18, "19700101000000.123456789Z", 123456),
        (0x18, "20261130034412.5Z", 1796010252_500000),
        (0x18, "99991231235959Z", 253402300799_000000),
        (0x17, "700101000000Z", 0),
        (0x17, "491231235959Z", 2524607999_000000),
        (0x17, "500101000000Z", -631152000_000000),
    ],
)
def test_times(tag: int, text: str, micros: int) -> None:
    assert instant_of(read_value(der(tag, text.encode()))) == micros


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x18, "20261130034412"),
        (0x18, "20261130034412.Z"),
        (0x18, "20261130034412.50Z"),
        (0x18, "20261130034412+0100"),
        (0x18, "20260230034412Z"),
        (0x18, "20261130034460Z"),
        (0x18, "20261130244412Z"),
        (0x18, "00000101000000Z"),
        (0x18, "2026113003441２Z"),
        (0x17, "20261130034412Z"),
        (0x17, "7001010000Z"),
        (0x0C, "20261130034412Z"),
    ],
)
def test_times_that_are_none(tag: int, text: str) -> None:
    with pytest.raises(FormatError, match="time"):
        instant_of(read_value(der(tag, text.encode())))


def test_a_reader_names_what_lacks_a_part_or_has_one_too_many() -> None:
    reader = Reader(read_value(der(0x30, integer(1), integer(2))), "a pair")
    assert integer_of(reader.take(INTEGER)) == 1
    assert reader.maybe(0x30) is None
    with pytest.raises(FormatError, match="a pair has a part too many"):
        reader.end()
    reader.end()
    with pytest.raises(FormatError, match="a pair lacks a part"):
        reader.take(INTEGER)
