"""Items: what gossip carries, one blinded head each, and what shows that two of them conflict.

An item says "the log behind this pseudonym is at this rank, committed to so" and is signed by the
pseudonym's key. Who knows the veil (`blinding`) reads the head in it; everybody else sees order
and nothing more. Every item has the same size, whatever it is about, so its bytes tell no kind.
Two items of one pseudonym and rank with other commitments are a conflict: its maker signed two
histories, or is there twice.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keys import verify_signature
from tallystick.protocol.records import Digest, Key, Signature64

SEALED_SIZE = 216  # a nonce of 24, a head of 176, a tag of 16
RANK_MAX = 2**63 - 1
ITEM_BYTES_MAX = 384
HOPS_MAX = 4  # how far an item goes from its publisher

_LABEL = b"tallystick/v1 gossip item\n"


class Item(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A blinded head. `epoch` is the week for which the pseudonym stands, counted from 1970."""

    epoch: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    pseudonym: Key
    rank: Annotated[int, Meta(ge=0, le=RANK_MAX)]
    commitment: Digest
    sealed: Annotated[bytes, Meta(min_length=SEALED_SIZE, max_length=SEALED_SIZE)]
    signature: Signature64


class Carried(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """An item on its way. The hops that it made are the sender's word; nobody signs them."""

    hops: Annotated[int, Meta(ge=0, le=HOPS_MAX)]
    item: Item


class Conflict(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """Two items that contradict each other, the smaller commitment first."""

    hops: Annotated[int, Meta(ge=0, le=HOPS_MAX)]
    first: Item
    second: Item


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Item).decode


def encode_item(item: Item) -> bytes:
    """The item's canonical bytes."""
    return _encode(item)


def decode_item(data: bytes) -> Item:
    """The item of these bytes; `FormatError` if they are not its one encoding.

    The signature is not looked at.
    """
    if len(data) > ITEM_BYTES_MAX:
        raise FormatError(f"not an item: it has {len(data)} bytes, more than {ITEM_BYTES_MAX}")
    try:
        item = _decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"not an item: {error}") from None
    if _encode(item) != data:
        raise FormatError("not an item: the bytes are not in canonical form")
    return item


def signed_bytes(
    epoch: int, pseudonym: bytes, rank: int, commitment: bytes, sealed: bytes
) -> bytes:
    """What the pseudonym's key signs: every field has its fixed place."""
    return b"".join(
        (
            _LABEL,
            epoch.to_bytes(4, "big"),
            pseudonym,
            rank.to_bytes(8, "big"),
            commitment,
            sealed,
        )
    )


def verify_item(item: Item) -> None:
    """Return if the pseudonym signed the item; else `ProofError`."""
    message = signed_bytes(item.epoch, item.pseudonym, item.rank, item.commitment, item.sealed)
    verify_signature(item.pseudonym, message, item.signature, "a gossip item")


def conflicting(one: Item, other: Item) -> bool:
    """Whether no honest publisher can have signed both."""
    return (
        one.pseudonym == other.pseudonym
        and one.epoch == other.epoch
        and one.rank == other.rank
        and one.commitment != other.commitment
    )


def make_conflict(one: Item, other: Item, hops: int = 0) -> Conflict:
    """The conflict of two items, in its one order; `ProofError` if they are none."""
    if not conflicting(one, other):
        raise ProofError("two items that do not contradict each other")
    first, second = sorted((one, other), key=lambda item: item.commitment)
    return Conflict(hops, first, second)


def verify_conflict(conflict: Conflict) -> None:
    """Return if one pseudonym signed both items and they contradict each other, in order."""
    if not conflicting(conflict.first, conflict.second):
        raise ProofError("two items that do not contradict each other")
    if conflict.first.commitment > conflict.second.commitment:
        raise ProofError("a conflict whose items are not in order")
    verify_item(conflict.first)
    verify_item(conflict.second)
