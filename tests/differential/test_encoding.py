"""The records' encoding against msgpack, another implementation of MessagePack: equal bytes."""

from __future__ import annotations

from typing import Any, get_args

import builders
import dispute_vectors
import msgpack
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.records import (
    INT64_MAX,
    INT64_MIN,
    TIME_MAX_US,
    Answer,
    Attested,
    Close,
    Correction,
    Declaration,
    DeclaredTotal,
    Delta,
    Disclosure,
    Dispute,
    Epoch,
    Lapse,
    Matter,
    Named,
    Record,
    Reminder,
    Resolution,
    Reveal,
    Rotation,
    Withdrawal,
    batch_bytes,
    decode_batch,
    decode_record,
    encode_record,
)

TEXT = st.text(min_size=1, max_size=128)
REASON = st.text(min_size=1, max_size=500)
TIME = st.integers(0, TIME_MAX_US)
QUANTITY = st.integers(INT64_MIN, INT64_MAX)
COUNT = st.integers(1, INT64_MAX)
KEY = st.binary(min_size=32, max_size=32)
ROLE = st.sampled_from(["provider", "consumer"])
JOB = st.sampled_from(["log", "cosigner", "transport"])

SIZE = st.integers(0, INT64_MAX)
LABEL = st.text(min_size=4, max_size=32)
NAMED = st.lists(st.builds(Named, ROLE, SIZE), max_size=20).map(tuple)
ATTESTED = st.builds(Attested, COUNT, KEY, st.binary(min_size=72, max_size=72))
TOTAL = st.builds(DeclaredTotal, TEXT, st.text(min_size=1, max_size=40))
TOTALS = st.lists(TOTAL, min_size=1, max_size=20).map(tuple)
CODE = st.sampled_from(["quantity", "reference", "other"])

MATTERS: st.SearchStrategy[Matter] = st.one_of(
    st.builds(Declaration, LABEL, KEY, TIME),
    st.builds(Reveal, KEY, KEY, KEY, TOTALS, TIME),
    st.builds(Dispute, LABEL, TEXT, TEXT, QUANTITY, CODE, REASON, NAMED, TIME),
    st.builds(Answer, KEY, QUANTITY, REASON, NAMED, TIME),
    st.builds(Resolution, KEY, QUANTITY, REASON, TIME),
    st.builds(Withdrawal, KEY, REASON, TIME),
    st.builds(Reminder, SIZE, TIME),
    st.builds(Lapse, SIZE, ATTESTED, ATTESTED, SIZE, TIME),
    st.builds(Disclosure, KEY, LABEL, SIZE, SIZE, KEY, TIME),
)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    MATTERS,
    st.builds(Delta, TEXT, TEXT, TEXT, QUANTITY, TIME, TIME, st.none() | KEY),
    st.builds(Correction, TEXT, TEXT, st.none() | QUANTITY, REASON, TIME),
    st.builds(Close, st.binary(min_size=1, max_size=70_000 // 3), TIME),
    st.builds(Epoch, COUNT, COUNT, KEY, COUNT, st.just(b"") | KEY, REASON, TIME),
    st.builds(
        Rotation,
        ROLE,
        JOB,
        COUNT,
        KEY,
        TIME,
        st.binary(min_size=64, max_size=64),
        st.binary(max_size=2048),
        TIME,
    ),
    st.just(builders.busy_channel().terms),
)


def _values(record: Record) -> list[Any]:
    """The record as the lists and numbers that it is, by nobody's encoder."""
    return msgspec.to_builtins(record, builtin_types=(bytes,))


def _packed(value: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


@given(RECORDS)
def test_a_record_has_the_bytes_that_msgpack_gives_it(record: Record) -> None:
    assert encode_record(record) == _packed(_values(record))
    assert decode_record(_packed(_values(record))) == record


def test_every_kind_of_record_is_compared() -> None:
    kinds = {type(record) for record in dispute_vectors.matters()}
    assert kinds == set(get_args(Matter))
    for record in dispute_vectors.matters():
        assert encode_record(record) == _packed(_values(record))


@given(st.lists(RECORDS, max_size=20))
def test_a_batch_holds_what_msgpack_reads_in_it(records: list[Record]) -> None:
    batch = batch_bytes([encode_record(record) for record in records])
    assert msgpack.unpackb(batch, use_list=True) == [
        msgpack.unpackb(_packed(_values(record))) for record in records
    ]
    assert decode_batch(batch)[0] == records
