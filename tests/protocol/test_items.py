"""Items: one encoding each, one signature over everything, and what a conflict is."""

from __future__ import annotations

import msgspec
import pytest
from gossips import item_of
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.items import (
    HOPS_MAX,
    ITEM_BYTES_MAX,
    RANK_MAX,
    SEALED_SIZE,
    Carried,
    Conflict,
    Item,
    conflicting,
    decode_item,
    encode_item,
    make_conflict,
    verify_conflict,
    verify_item,
)

ITEM = item_of("acme.example", "beta.example", 374)
OTHER = item_of("acme.example", "beta.example", 374, "another history")

items = st.builds(
    Item,
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32),
    st.integers(0, RANK_MAX),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=SEALED_SIZE, max_size=SEALED_SIZE),
    st.binary(min_size=64, max_size=64),
)


@given(items)
def test_an_item_has_one_encoding(item: Item) -> None:
    data = encode_item(item)
    assert len(data) <= ITEM_BYTES_MAX
    assert decode_item(data) == item


@given(
    st.one_of(
        st.binary(max_size=500),
        items.map(encode_item).flatmap(
            lambda data: st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)).map(
                lambda at: data[: at[0]] + bytes([at[1]]) + data[at[0] + 1 :]
            )
        ),
    )
)
def test_other_bytes_are_refused_or_are_what_they_say(data: bytes) -> None:
    try:
        item = decode_item(data)
    except FormatError:
        return
    assert encode_item(item) == data


def test_longer_forms_and_longer_items_are_refused() -> None:
    data = encode_item(ITEM)
    array16 = b"\xdc\x00\x06" + data[1:]
    with pytest.raises(FormatError, match="canonical"):
        decode_item(array16)
    with pytest.raises(FormatError, match="bytes"):
        decode_item(data + bytes(100))
    with pytest.raises(FormatError):
        decode_item(data + b"\xc0")


def test_every_field_is_signed() -> None:
    verify_item(ITEM)
    changed = {
        "epoch": ITEM.epoch + 1,
        "pseudonym": OTHER.commitment,
        "rank": ITEM.rank + 1,
        "commitment": OTHER.commitment,
        "sealed": OTHER.sealed,
        "signature": OTHER.signature,
    }
    for name, value in changed.items():
        with pytest.raises(ProofError):
            verify_item(msgspec.structs.replace(ITEM, **{name: value}))


def test_a_conflict_is_two_items_that_one_pseudonym_signed_for_one_rank() -> None:
    conflict = make_conflict(ITEM, OTHER)
    assert conflict == make_conflict(OTHER, ITEM)
    verify_conflict(conflict)
    later = item_of("acme.example", "beta.example", 375)
    strange = item_of("beta.example", "acme.example", 374)
    for other in (ITEM, later, strange):
        assert not conflicting(ITEM, other)
        with pytest.raises(ProofError):
            make_conflict(ITEM, other)
        with pytest.raises(ProofError):
            verify_conflict(Conflict(0, ITEM, other))


def test_a_forged_or_turned_conflict_does_not_hold() -> None:
    conflict = make_conflict(ITEM, OTHER)
    with pytest.raises(ProofError, match="order"):
        verify_conflict(Conflict(0, conflict.second, conflict.first))
    forged = msgspec.structs.replace(conflict.second, signature=conflict.first.signature)
    with pytest.raises(ProofError, match="signature"):
        verify_conflict(Conflict(0, conflict.first, forged))


def test_the_same_head_sealed_twice_is_no_conflict() -> None:
    """A co-signature that came later changes what is sealed, not what is committed to."""
    changed = msgspec.structs.replace(ITEM, sealed=OTHER.sealed)
    assert not conflicting(ITEM, changed)


@pytest.mark.parametrize("hops", [-1, HOPS_MAX + 1, 255])
def test_hops_are_bounded_where_they_are_read(hops: int) -> None:
    data = msgspec.msgpack.encode(Carried(hops, ITEM))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=Carried)
