"""The records of a log: what each kind carries, and its one canonical encoding.

A record is a MessagePack array `[kind, field, …]` in shortest forms and fixed field order. The
classes below are that schema, field for field; `docs/formats.md` says it in words. Bytes that
decode but would be written differently are refused (`decode_record`, `decode_batch`), so a record
has exactly one encoding and its hash names it.

A *batch* is the unit that is stored, hashed and sent: a MessagePack array of records, always with
the five-byte `array 32` header, so that it is a header and the records' very bytes in a row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import FormatError

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
TIME_MAX_US = 253_370_764_799_999_999  # the year 9998's last microsecond: every zone can show it
TEXT_BYTES_MAX = 128
COLUMN_CHARS = 8192  # of many texts, from which on they are looked at as a column
RECORD_BYTES_MAX = 64 * 1024
NAMED_MAX = 1000  # records that a dispute or an answer points to
BATCH_HEADER_SIZE = 5

Quantity = Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX)]
TimeUs = Annotated[int, Meta(ge=0, le=TIME_MAX_US)]
Text = Annotated[str, Meta(min_length=1, max_length=TEXT_BYTES_MAX)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Label = Annotated[str, Meta(min_length=4, max_length=32)]  # of a period, as in 2026-10
DisputeCode = Literal["quantity", "reference", "other"]
Role = Literal["provider", "consumer"]
Job = Literal["log", "cosigner", "transport"]
ROLES: tuple[Role, Role] = ("provider", "consumer")


class PartyKeys(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A party as the terms name it: its name and the keys that sign for it."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    log_key: Key
    cosigner_key: Key


class Tolerance(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What difference is not worth a dispute: the larger of the two bounds counts.

    `relative_ppm` is in parts per million of the `base` party's number, `absolute` in the meter's
    scale; with fewer than `least` deltas nothing is judged.
    """

    relative_ppm: Annotated[int, Meta(ge=0, le=1_000_000)]
    absolute: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    base: Role
    least: Annotated[int, Meta(ge=0, le=INT64_MAX)]


class Meter(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One meter of the terms. `minimum` and `maximum` are inclusive and in the meter's scale."""

    name: Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
    unit: Annotated[str, Meta(min_length=1, max_length=32)]
    scale: Annotated[int, Meta(ge=0, le=18)]
    minimum: Quantity
    maximum: Quantity
    aggregate: Literal["sum", "max", "count"]
    source: Literal["provider", "consumer", "both"]
    payable: Literal["provider", "consumer", "minimum"]
    match_window_us: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    tolerance: Tolerance | None


class Terms(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=1):
    """What both parties signed first; the SHA-256 of its bytes is the channel's id.

    Meters are sorted by name. `nonce` makes two channels with the same terms two channels.
    """

    version: Literal[1]
    provider: PartyKeys
    consumer: PartyKeys
    calendar: Literal["hour", "day", "week", "month"]
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)]
    grace_seconds: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    dispute_seconds: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    answer_seconds: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    meters: Annotated[tuple[Meter, ...], Meta(min_length=1, max_length=1000)]
    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]


class Delta(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False, tag=2):
    """One recorded change of usage; `(meter, id)` is unique in its log."""

    id: Text
    meter: Text
    subject: Text
    quantity: Quantity
    occurred_at: TimeUs
    recorded_at: TimeUs
    attributes: Digest | None


class Correction(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=3):
    """Replaces the quantity of an earlier delta of the same log, or voids it (`quantity` nil)."""

    id: Text
    meter: Text
    quantity: Quantity | None
    reason: Reason
    recorded_at: TimeUs


class Close(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=4):
    """A period was closed: the checkpoint's signed note, with both parties' signatures."""

    checkpoint: Annotated[bytes, Meta(min_length=1, max_length=RECORD_BYTES_MAX // 2)]
    recorded_at: TimeUs


class Epoch(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=5):
    """A fresh start after both parties lost a part of this log; its index is what was kept.

    `peer_size` and `peer_root` are what the author has of the other log then. `lost_size` and
    `lost_root` are the newest head of the lost part that anybody knows of; 0 and empty if none.
    """

    number: Annotated[int, Meta(ge=1, le=INT64_MAX)]
    peer_size: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    peer_root: Digest
    lost_size: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    lost_root: Annotated[bytes, Meta(max_length=32)]
    reason: Reason
    recorded_at: TimeUs


class Rotation(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=6):
    """A party's next key for a job, in its own log and repeated in the peer's (`keyring`).

    `signature` is its log key's, `proof` the new key's own on the same text; for a transport key
    the proof is its certificate (DER). The key before counts up to `old_until`.
    """

    party: Role
    job: Job
    number: Annotated[int, Meta(ge=1, le=INT64_MAX)]
    key: Key
    old_until: TimeUs
    signature: Signature64
    proof: Annotated[bytes, Meta(max_length=2048)]
    recorded_at: TimeUs


class DeclaredTotal(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One meter's own total in a reveal, as decimal text in the meter's notation."""

    meter: Text
    total: Annotated[str, Meta(min_length=1, max_length=40)]


class Declaration(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=7):
    """A party commits to its own totals of a period; `commitment` is a salted hash of them."""

    period: Label
    commitment: Digest
    recorded_at: TimeUs


class Reveal(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=8):
    """Opens a declaration of this log. `declaration` and `peer_declaration` are digests of records:
    the one opened, and the peer's, which by being named here is shown to be older than this.
    """

    declaration: Digest
    peer_declaration: Digest
    salt: Annotated[bytes, Meta(min_length=32, max_length=32)]
    totals: Annotated[tuple[DeclaredTotal, ...], Meta(min_length=1, max_length=1000)]
    recorded_at: TimeUs


class Named(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A record of the channel: whose log, and its index there."""

    role: Role
    index: Annotated[int, Meta(ge=0, le=INT64_MAX)]


class Dispute(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=9):
    """A party contests a balance line: by how much less it should be payable (negative: more), why,
    and which records it means. `period` is the charge period, the one that the usage is of.
    """

    period: Label
    meter: Text
    subject: Text
    amount: Quantity
    code: DisputeCode
    reason: Reason
    records: Annotated[tuple[Named, ...], Meta(max_length=NAMED_MAX)]
    recorded_at: TimeUs


class Answer(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=10):
    """What a party says to a dispute, its own or the peer's, that is not settled.

    In the log of the one who was disputed, `conceded` is how much of the amount it gives up (0:
    nothing). In the disputer's own log it is 0: he insists. `records` are what it points to.
    """

    dispute: Digest
    conceded: Quantity
    reason: Reason
    records: Annotated[tuple[Named, ...], Meta(max_length=NAMED_MAX)]
    recorded_at: TimeUs


class Resolution(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=11):
    """What a party would settle a dispute for; it settles once both logs say the same amount."""

    dispute: Digest
    upheld: Quantity
    reason: Reason
    recorded_at: TimeUs


class Withdrawal(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=12):
    """A party gives up a dispute of its own."""

    dispute: Digest
    reason: Reason
    recorded_at: TimeUs


class Reminder(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=13):
    """Reminds the peer of a record of this log that waits; its co-signature shows a later time."""

    index: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    recorded_at: TimeUs


class Attested(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A head of the log that holds this, and the peer's co-signature on it: the peer's own clock
    when it had the records before it.
    """

    size: Annotated[int, Meta(ge=1, le=INT64_MAX)]
    root: Digest
    cosignature: Annotated[bytes, Meta(min_length=72, max_length=72)]


class Lapse(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=14):
    """The time that the terms give the peer to contradict record `index` of this log is over.

    Of a Close: the checkpoint is deemed accepted. Of a Dispute: it is upheld for want of an answer.
    Of an Answer to the peer's dispute: that dispute lapsed. `start` and `end` are by the peer's own
    co-signatures; `peer_size` is what the author had of the peer's log.
    """

    index: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    start: Attested
    end: Attested
    peer_size: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    recorded_at: TimeUs


class Disclosure(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=15):
    """What the author showed the peer of rows that are in no log, in a reconciliation session.

    `digest` is of the opened rows as they were sent; `received` counts the peer's.
    """

    session: Digest
    period: Label
    opened: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    received: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    digest: Digest
    recorded_at: TimeUs


class Announced(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What a log keeps in mind of a valid rotation; `index` is that of its record."""

    index: int
    party: Role
    job: Job
    number: int
    key: Key
    old_until: TimeUs


# What parties say about usage that is recorded; few of all records, and kept at hand one by one.
Matter = (
    Declaration
    | Reveal
    | Dispute
    | Answer
    | Resolution
    | Withdrawal
    | Reminder
    | Lapse
    | Disclosure
)
Record = Terms | Delta | Correction | Close | Epoch | Rotation | Matter

_encode = msgspec.msgpack.Encoder().encode
_decode_one = msgspec.msgpack.Decoder(Record).decode
_decode_many = msgspec.msgpack.Decoder(list[Record]).decode
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

# Not str.isprintable: which characters are printable changes with the Unicode version of the
# interpreter, and two honest nodes must never disagree on validity.
_control = re.compile("[\x00-\x1f\x7f-\x9f]").search


def encode_record(record: Record) -> bytes:
    """The record's canonical bytes."""
    return _encode(record)


def decode_record(data: bytes) -> Record:
    """The record of these bytes; `FormatError` if they are not its one canonical encoding."""
    try:
        record: Record = _decode_one(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"not a record: {error}") from None
    if _encode(record) != data:
        raise FormatError("not a record: the bytes are not in canonical form")
    return record


def record_digest(record: Record) -> bytes:
    """What other records know it by: the SHA-256 of its bytes."""
    return hashlib.sha256(_encode(record)).digest()


def batch_bytes(parts: Sequence[bytes]) -> bytes:
    """The batch of these records' bytes."""
    return b"\xdd" + len(parts).to_bytes(4, "big") + b"".join(parts)


def join_batches(count: int, batches: list[bytes]) -> bytes:
    """One batch of the `count` records of several, without looking at a record."""
    if len(batches) == 1:
        return batches[0]
    return b"\xdd" + count.to_bytes(4, "big") + b"".join(b[BATCH_HEADER_SIZE:] for b in batches)


def batch_count(batch: bytes | memoryview) -> int:
    """How many records a batch holds, from its header alone."""
    return int.from_bytes(batch[1:BATCH_HEADER_SIZE], "big")


def decode_batch(batch: bytes | memoryview) -> tuple[list[Record], list[bytes]]:
    """The records of a batch and their bytes; `FormatError` if anything is not canonical."""
    try:
        records = _decode_many(batch)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"not a batch of records: {error}") from None
    encode = _encode
    parts = [encode(record) for record in records]
    if batch_bytes(parts) != batch:
        raise FormatError("not a batch of records: the bytes are not in canonical form")
    return records, parts


def split_batch(batch: bytes | memoryview, start: int, stop: int) -> list[bytes]:
    """The bytes of some records of a batch that was found to be canonical before."""
    return [bytes(part) for part in _split(batch)[start:stop]]


def check_texts(*texts: str, what: str = "text") -> None:
    """Refuse a text that is empty, over 128 bytes of UTF-8, or holds a control character."""
    for text in texts:
        size = len(text.encode())
        if not 1 <= size <= TEXT_BYTES_MAX:
            raise FormatError(f"{what} of {size} bytes; 1 to {TEXT_BYTES_MAX} are allowed")
        if _control(text):
            raise FormatError(f"{what} {text!r} holds a control character")


def check_reason(reason: str) -> None:
    """Refuse a reason that holds a control character; it may be longer than other texts."""
    for start in range(0, len(reason), TEXT_BYTES_MAX // 4):
        check_texts(reason[start : start + TEXT_BYTES_MAX // 4], what="reason")


def texts_plain(joined: str) -> bool:
    """Whether many texts, joined, are ASCII without controls: then none needs `check_texts`."""
    if len(joined) < COLUMN_CHARS:
        return joined.isascii() and joined.isprintable()  # for ASCII, no Unicode version matters
    if not joined.isascii():
        return False
    import numpy as np  # only whoever has so many needs it

    data = np.frombuffer(joined.encode(), dtype=np.uint8)
    return bool(data.min() >= 0x20 and data.max() < 0x7F)
