"""Rows: one encoding, which of them are equal or of kin, and what is sent of sets of them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconciling import BY_CONTENT, BY_ID, DAY_US, START_US, row_set

from tallystick.protocol.errors import FormatError
from tallystick.protocol.rowset import (
    SLICES_MAX,
    Likeness,
    Row,
    as_words,
    decode_row,
    encode_row,
    fingerprints,
    number_copies,
    set_commitment,
    slice_sums,
    slice_width_us,
)

ROW = Row("tokens", "e1", "project", 12, START_US + 5, 0)
ROWS = st.builds(
    Row,
    st.sampled_from(["tokens", "calls"]),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["x", "y"]),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 10**17),
    st.integers(0, 5),
)


@given(row=ROWS)
def test_a_row_is_what_its_bytes_say(row: Row) -> None:
    assert decode_row(encode_row(row)) == row


@given(data=st.binary(max_size=80))
def test_other_bytes_are_no_row(data: bytes) -> None:
    try:
        row = decode_row(data)
    except FormatError:
        return
    assert encode_row(row) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_row(ROW) + b"\0",
        encode_row(ROW)[:-1] + b"\xcc\x00",  # a longer form of 0
        encode_row(Row("tokens", "e\x1b[2J", "project", 12, 5, 0)),
        encode_row(Row("tokens", "e", "project\n", 12, 5, 0)),
        msgspec.msgpack.encode(["tokens", "e", "", 12, 5, 0]),
    ],
)
def test_bytes_in_another_form_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_row(data)


def _changed(**fields: object) -> Row:
    return msgspec.structs.replace(ROW, **fields)


def test_by_id_meter_id_and_quantity_count() -> None:
    same = BY_ID.digest(ROW)
    assert BY_ID.digest(_changed(subject="other", occurred_at=7)) == same
    for fields in ({"meter": "calls"}, {"id": "e2"}, {"quantity": 13}, {"copy": 1}):
        assert BY_ID.digest(_changed(**fields)) != same
    assert BY_ID.kin(_changed(quantity=9, copy=3)) == BY_ID.kin(ROW)


def test_by_content_meter_subject_quantity_and_second_count() -> None:
    same = BY_CONTENT.digest(ROW)
    assert BY_CONTENT.digest(_changed(id="e2", occurred_at=START_US + 999_999)) == same
    for fields in (
        {"meter": "calls"},
        {"subject": "other"},
        {"quantity": 13},
        {"occurred_at": START_US + 1_000_000},
        {"copy": 1},
    ):
        assert BY_CONTENT.digest(_changed(**fields)) != same


@given(at=st.integers(10**8, 10**16), apart=st.integers(0, 4_000_000))
def test_kin_by_content_is_close_in_time(at: int, apart: int) -> None:
    one, other = _changed(occurred_at=at), _changed(occurred_at=at + apart)
    near = BY_CONTENT.kin(other) in BY_CONTENT.kin_near(one)
    assert near or apart > BY_CONTENT.kin_us
    assert not near or apart < 2 * BY_CONTENT.kin_us


@given(digests=st.lists(st.sampled_from([bytes([n]) * 16 for n in range(4)]), max_size=20))
def test_copies_are_numbered_in_their_order(digests: list[bytes]) -> None:
    expected = [digests[:place].count(digest) for place, digest in enumerate(digests)]
    assert number_copies(as_words(b"".join(digests))).tolist() == expected


@given(rows=st.lists(ROWS, max_size=20))
def test_a_set_finds_its_rows(rows: list[Row]) -> None:
    rows = [msgspec.structs.replace(row, copy=0) for row in rows]
    made = row_set(rows, Likeness("content", 1000, 5000))
    assert len(made) == len(rows)
    for place in range(len(rows)):
        digest = made.likeness.digest(decode_row(made.row(place)))
        assert made.place_of(digest) == place
    assert made.place_of(bytes(16)) is None


def test_near_rows_are_found_by_their_kin() -> None:
    near = [_changed(id="k", quantity=n) for n in range(3)] + [_changed(id="other")]
    made = row_set([], near=near)
    found = [decode_row(made.near_row(place)) for place in made.near(BY_ID.kin(near[0]))]
    assert sorted(row.quantity for row in found) == [0, 1, 2]
    assert not made.near(bytes(16))


def test_fingerprints_depend_on_the_key_and_commitments_on_the_salt() -> None:
    digests = row_set([ROW, ROW]).digests
    assert (fingerprints(bytes(16), digests) != fingerprints(bytes([1] * 16), digests)).all()
    made = {
        set_commitment(bytes([n]) * 32, rows) for n in (1, 2) for rows in (digests, digests[:1])
    }
    assert len(made) == 4


@pytest.mark.parametrize("days", [1, 7, 28, 31])
def test_slices_are_few_and_cover_the_period(days: int) -> None:
    end_us = START_US + days * DAY_US
    instants = np.array([START_US, end_us - 1], np.int64)
    ones = np.ones(2, np.uint64)
    sums = slice_sums(START_US, end_us, instants, ones, ones)
    assert 7 <= len(sums) <= SLICES_MAX
    assert sums[0].tolist() == sums[-1].tolist() == [1, 1]
    assert sums.sum() == 4


def test_slices_of_any_period_fit() -> None:
    hour_us = 3_600_000_000
    for length_us in (hour_us, 2 * hour_us, 23 * hour_us, 25 * hour_us, 32 * DAY_US):
        assert -(-length_us // slice_width_us(0, length_us)) <= SLICES_MAX
