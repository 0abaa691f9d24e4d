"""What a party's node and its standby say to each other: the store's writes, in order, as stored.

A commit has a number, one more than the one before it. The standby says up to which number of which
line of commits it has everything; it is sent the rows that changed since, or all of them, as they
are at a later number, and then the commits that follow. Values travel with the sums that they are
stored with, so damage on the way is noticed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import FormatError

MIRROR_VERSION = 2
FRAME_BYTES_MAX = 1 << 30  # one value of the store is in one piece
PIECE_BYTES = 1 << 20  # of a file, or of many small rows together
FILES_MAX = 64  # that are named at once

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Line = Annotated[bytes, Meta(min_length=16, max_length=16)]
# A row: its table, its key, and its value with its sum; None where the key is removed.
Row = tuple[str, bytes, bytes | None]
Name = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{1,16}){2}\.run\Z")]
BesideName = Literal["api-keys.json", "webhooks.json"]
FileDigest = Annotated[bytes, Meta(min_length=16, max_length=16)]


class _Message(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Base of the messages: arrays of known length."""


class Greet(_Message, frozen=True, tag=1):
    """First, by the standby: what it speaks and reads, and what it has. `line` is empty and
    `number` 0 if it has nothing.
    """

    version: Annotated[int, Meta(ge=0, le=65535)]
    format: Annotated[int, Meta(ge=0, le=65535)]
    line: Annotated[bytes, Meta(max_length=16)]
    number: Number


class Begin(_Message, frozen=True, tag=2):
    """The answer: first come files and rows of this line as they are at commit `number`, all that
    there are (`whole`) or those that changed since what the standby has; then what follows.

    `waits` says whether the sender acknowledges nothing that the standby does not have.
    """

    line: Line
    number: Number
    whole: bool
    waits: bool


class Part(_Message, frozen=True, tag=3):
    """A part of commit `number`, or of what comes first if that is 0; `last` ends it."""

    number: Number
    rows: list[Row]
    last: bool


class Piece(_Message, frozen=True, tag=4):
    """A piece of a file of the id index that a row which follows names; `last` ends it."""

    name: Name
    data: bytes
    last: bool


class Applied(_Message, frozen=True, tag=5):
    """By the standby: everything up to `number` is durable here."""

    number: Number


class Beat(_Message, frozen=True, tag=6):
    """The sender is there."""


class Successor(_Message, frozen=True, tag=7):
    """By the standby: it takes over with this generation; `proof` is the party's signature."""

    generation: Number
    proof: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Refusal(_Message, frozen=True, tag=8):
    """Nothing is mirrored, and why."""

    reason: Annotated[str, Meta(max_length=1000)]


class Files(_Message, frozen=True, tag=9):
    """Files of the id index that rows which come first name, each with the XXH3 of its content."""

    files: Annotated[list[tuple[Name, FileDigest]], Meta(max_length=FILES_MAX)]


class Wanted(_Message, frozen=True, tag=10):
    """By the standby: which of these files it has not, and is to be sent."""

    names: Annotated[list[Name], Meta(max_length=FILES_MAX)]


class Beside(_Message, frozen=True, tag=11):
    """What a file beside the store says now; None if there is none."""

    name: BesideName
    data: bytes | None


Message = (
    Greet | Begin | Part | Piece | Applied | Beat | Successor | Refusal | Files | Wanted | Beside
)

encode_mirror = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def decode_mirror(body: bytes) -> Message:
    """The message of a frame's body; `FormatError` if it is none."""
    try:
        message: Message = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not a message between a node and its standby: {error}") from None
    return message
