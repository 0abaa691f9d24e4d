"""The rows that a party brings to a reconciliation: what of a row is compared, and its digests.

A row is one event of a private export, in no log. Two rows are *equal* if they agree in what is
compared: by id, in meter, id and quantity; by content, in meter, subject, quantity and time, which
is cut to a resolution. Equal rows of one party are told apart by their `copy`, 0, 1, 2 and so on,
so that a set of rows can hold the same one twice.

A row's *digest* is made once and kept as long as its party likes; it is never sent, since whoever
has it could find the row by trying. Sent are *fingerprints*, which are keyed for one session. Rows
of *kin* agree in meter and id, or in meter, subject and quantity: they may be the same event, with
another quantity or on the other side of the period's edge; without ids they are close in time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import Quantity, Text, TimeUs, check_texts
from tallystick.protocol.siphash import Words, siphash

DIGEST_SIZE = 16
ROW_BYTES_MAX = 1024
COPIES_MAX = 2**32 - 1
SLICES_MAX = 64
SLICE_BYTES = 16
_WIDTHS_US = tuple(seconds * 1_000_000 for seconds in (60, 3600, 86_400, 7 * 86_400))

By = Literal["id", "content"]
Times = npt.NDArray[np.int64]


class Row(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """One event as it is opened to the peer; the id is empty if the export has none."""

    meter: Text
    id: Annotated[str, Meta(max_length=128)]
    subject: Text
    quantity: Quantity
    occurred_at: TimeUs
    copy: Annotated[int, Meta(ge=0, le=COPIES_MAX)]


encode_row = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Row).decode


def decode_row(data: bytes) -> Row:
    """The row of these bytes; `FormatError` if they are not its one encoding."""
    try:
        row = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"not a row: {error}") from None
    check_texts(row.meter, row.subject, what="a row's text")
    if row.id:
        check_texts(row.id, what="a row's id")
    if encode_row(row) != data:
        raise FormatError("not a row: the bytes are not in canonical form")
    return row


@dataclass(frozen=True, slots=True)
class Likeness:
    """What makes two rows equal: ids, or content with times cut to `resolution_us`.

    `kin_us` is how far apart in time rows without ids may be to be of kin, or up to twice of it.
    """

    by: By
    resolution_us: int
    kin_us: int

    def digest(self, row: Row) -> bytes:
        """What a row is known by to its own party."""
        if self.by == "id":
            return _digest("row by id", row.meter, row.id, row.quantity, row.copy)
        bucket = row.occurred_at // self.resolution_us
        return _digest("row", row.meter, row.subject, row.quantity, bucket, row.copy)

    def kin(self, row: Row) -> bytes:
        """What rows have in common that may be one event."""
        return self.kin_near(row)[0]

    def kin_near(self, row: Row) -> list[bytes]:
        """The `kin` of all rows that may be the same event as this one; its own is the first."""
        if self.by == "id":
            return [_digest("kin by id", row.meter, row.id)]
        bucket = row.occurred_at // self.kin_us
        return [
            _digest("kin", row.meter, row.subject, row.quantity, near)
            for near in (bucket, bucket - 1, bucket + 1)
        ]


def _digest(label: str, *seen: str | int) -> bytes:
    return hashlib.sha256(encode_row(("tallystick/v1", label, *seen))).digest()[:DIGEST_SIZE]


# Of shape (n, 2): each digest as two little-endian words. Searching is fast where each column lies
# in one piece (order F).
Digests = npt.NDArray[np.uint64]


def as_words(digests: bytes) -> Digests:
    """Digests one after the other as an array."""
    return np.asfortranarray(np.frombuffer(digests, "<u8").astype(np.uint64).reshape(-1, 2))


@dataclass(frozen=True, slots=True)
class RowSet:
    """A party's rows of the period, in ascending order of digest, and those near it.

    `instants_us[n]` is when row n occurred and `row(n)` its bytes. Rows of the neighbouring
    periods are *near*: they are in no sketch, and one is opened only if the peer opened its kin.
    """

    likeness: Likeness
    digests: Digests
    instants_us: Times
    row: Callable[[int], bytes]
    near_kin: Digests
    near_row: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.digests)

    def place_of(self, digest: bytes) -> int | None:
        """Which row has a digest; None if none has."""
        found = _find(self.digests, digest)
        return found.start if len(found) else None

    def near(self, kin: bytes) -> range:
        """Which of the rows near the period are of this kin."""
        return _find(self.near_kin, kin)

    def fingerprints(self, key: bytes) -> Words:
        """The rows' fingerprints under a session's key."""
        return fingerprints(key, self.digests)


def _find(sorted_digests: Digests, wanted: bytes) -> range:
    high, low = as_words(wanted)[0]
    first = int(np.searchsorted(sorted_digests[:, 0], high, "left"))
    last = int(np.searchsorted(sorted_digests[:, 0], high, "right"))
    lows = sorted_digests[first:last, 1]
    return range(
        first + int(np.searchsorted(lows, low, "left")),
        first + int(np.searchsorted(lows, low, "right")),
    )


def order_of(digests: Digests) -> npt.NDArray[np.int64]:
    """The places of the digests in ascending order; equal ones stay in theirs."""
    return np.lexsort((digests[:, 1], digests[:, 0]))


def number_copies(digests: Digests) -> npt.NDArray[np.int64]:
    """For each digest how many equal ones are before it."""
    order = order_of(digests)
    ordered = digests[order]
    first = np.ones(len(order), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    place = np.arange(len(order))
    copies = np.empty(len(order), np.int64)
    copies[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return copies


def fingerprints(key: bytes, digests: Digests) -> Words:
    """The fingerprints of digests under a session's key of 16 bytes."""
    return siphash(key, [digests[:, 0], digests[:, 1]])


def set_commitment(salt: bytes, digests: Digests) -> bytes:
    """What a party says of its set before it knows the key: a salted hash of the sorted digests."""
    listed = hashlib.sha256(digests.astype("<u8").tobytes()).digest()
    return hashlib.sha256(b"tallystick/v1 reconciliation set" + salt + listed).digest()


def slice_width_us(start_us: int, end_us: int) -> int:
    """How long the slices of a period are: minutes, hours, days or weeks, at most 64 of them."""
    return next(width for width in _WIDTHS_US if (end_us - start_us) <= SLICES_MAX * width)


def slice_sums(
    start_us: int, end_us: int, instants_us: Times, items: Words, checks: Words
) -> npt.NDArray[np.uint64]:
    """For each slice of the period the sum of its items and of their checks, modulo 2^64."""
    width = slice_width_us(start_us, end_us)
    sums = np.zeros((-(-(end_us - start_us) // width), 2), np.uint64)
    place = (instants_us - start_us) // width
    np.add.at(sums[:, 0], place, items)
    np.add.at(sums[:, 1], place, checks)
    return sums
