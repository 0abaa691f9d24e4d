"""A bundle: what travels with an invoice and convinces a stranger, in one reproducible file.

It owns which members a bundle has and what is in them; the container's bytes are `archive`'s, and
what a reader should believe is `verify`'s. Nothing specific to a party or a moment enters, so both
parties' bundles of one checkpoint are the same bytes. Only extras differ, which others gave to one
party alone: lines of witnesses below the heads, and a timestamp. A *plain* bundle has none. At the
*full* level both logs travel too, from their first record up to the checkpoint's heads, in batches
of a fixed count. If a party changed a key before the heads, the records that say so travel in
either level.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgpack  # type: ignore[import-untyped]
import msgspec

from tallystick.protocol.archive import CHUNK_BYTES, Member, MemberName, read_archive, write_archive
from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.errors import FormatError, InvalidRecord, ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import (
    BATCH_HEADER_SIZE,
    RECORD_BYTES_MAX,
    Role,
    Rotation,
    Terms,
    batch_bytes,
    batch_count,
    decode_batch,
    decode_record,
)
from tallystick.protocol.rendering import statement_csv, statement_json, verdict_json
from tallystick.protocol.replay import BatchSource
from tallystick.protocol.statement import Line
from tallystick.protocol.terms import describe_terms
from tallystick.protocol.verdict import Verdict

README, CHECKPOINT = "README.txt", "checkpoint.txt"
TERMS, TERMS_TEXT = "terms.msgpack", "terms.txt"
PROVIDER_HEAD, CONSUMER_HEAD = "heads/provider.txt", "heads/consumer.txt"
STATEMENT_JSON, STATEMENT_CSV = "statement.json", "statement.csv"
VERDICT = "verdict.json"  # only if the checkpoint has one
KEYS = "keys.msgpack"  # only if a key was changed
TIMESTAMP = "timestamps/checkpoint.tsr"  # only if there is one, and never in a plain bundle
PROVIDER_RECORDS, CONSUMER_RECORDS = "records/provider.msgpack", "records/consumer.msgpack"

COMPACT = (
    README,
    CHECKPOINT,
    TERMS,
    TERMS_TEXT,
    PROVIDER_HEAD,
    CONSUMER_HEAD,
    STATEMENT_JSON,
    STATEMENT_CSV,
)
FULL = (PROVIDER_RECORDS, CONSUMER_RECORDS)

MEMBER_BYTES_MAX = 64 << 20  # of every member but the records
BATCH_RECORDS = 4096  # in each batch but a log's last
BATCH_BYTES_MAX = BATCH_HEADER_SIZE + BATCH_RECORDS * RECORD_BYTES_MAX

README_TEXT = b"""\
This is a Tallystick bundle: the closing of one billing period, signed by both parties.

checkpoint.txt            what both parties signed: period, heads, totals (a C2SP signed note)
terms.msgpack             the terms that both agreed on; its SHA-256 is the channel's id
terms.txt                 the same terms in words
heads/provider.txt        how far the provider's log counts, signed by it, co-signed by the consumer
heads/consumer.txt        how far the consumer's log counts, signed by it, co-signed by the provider
statement.json            every balance line of the period
statement.csv             the same lines as a table
records/provider.msgpack  every record of the provider's log up to its head (full bundles only)
records/consumer.msgpack  every record of the consumer's log up to its head (full bundles only)

To check all of it, without a network, an account or trust in whoever handed you the file:

    tally verify FILE

It needs to be told nothing, but compare the channel's id with the one that you know: a bundle
proves what the two keys in its terms signed, not whose keys they are.

To check by hand: the SHA-256 of terms.msgpack is the channel in checkpoint.txt; the keys in the
terms verify both signatures below checkpoint.txt and those below the heads; the sizes and roots in
the heads are those in checkpoint.txt; the RFC 6962 tree over the lines of the statement, each as
MessagePack, has the root that checkpoint.txt says; each meter's payable quantities add up to its
total. In a full bundle the records, each hashed together with the hash of the one before it, give
the roots of the heads, and adding them up by the terms gives the lines.
"""
_VERDICT_TEXT = b"""\
verdict.json              what both declared to have counted, and what the terms say about it
"""
_KEYS_TEXT = b"""\
keys.msgpack              how keys were changed since, each change signed by the log key before it
"""
_TIMESTAMP_TEXT = b"""\
timestamps/checkpoint.tsr that checkpoint.txt existed, says an authority outside (RFC 3161)
"""
_TIMESTAMP_BY_HAND = b"""
The timestamp, by hand: openssl ts -verify -data checkpoint.txt -in timestamps/checkpoint.tsr
-CAfile FILE, where FILE has the certificates of an authority that you trust.
"""


# A rotation record's index in its log, and its bytes.
PlacedRotation = tuple[int, bytes]
_decode_keys = msgspec.msgpack.Decoder(tuple[list[PlacedRotation], list[PlacedRotation]]).decode


@dataclass(frozen=True, slots=True)
class BundleContents:
    """What a compact bundle is made of. The heads are the full notes, each with its author's
    signature and its peer's co-signature; `terms` are the terms record's bytes; `rotations` are
    the provider's log's rotation records before its head, and the consumer's. There is a `verdict`
    exactly if the checkpoint has its digest. `timestamp` is an authority's response, or empty.
    """

    checkpoint: bytes
    terms: bytes
    provider_head: bytes
    consumer_head: bytes
    lines: Sequence[Line]
    verdict: Verdict | None
    rotations: tuple[Sequence[PlacedRotation], Sequence[PlacedRotation]] = ((), ())
    timestamp: bytes = b""


@dataclass(frozen=True, slots=True)
class BundledLog:
    """The records of one log in a bundle: how many, and how to read them."""

    count: int
    batches: BatchSource


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its small members' bytes, and both logs if it is full.

    That it could be opened says only that the container and the batches are in their one form.
    """

    members: Mapping[str, bytes]
    logs: tuple[BundledLog, BundledLog] | None  # the provider's, the consumer's


def write_bundle(
    out: BinaryIO,
    contents: BundleContents,
    provider_records: Iterable[bytes] | None = None,
    consumer_records: Iterable[bytes] | None = None,
) -> None:
    """Write a bundle to an empty seekable file; a full one if both logs' batches are given.

    The batches begin at record 0 and may go beyond the checkpoint's heads. `FormatError` if they
    end before, if the contents are not what they should be, or if a member would be too large.
    """
    checkpoint = parse_checkpoint(parse_note(contents.checkpoint).text)
    terms = decode_record(contents.terms)
    if not isinstance(terms, Terms):
        raise FormatError("the terms of a bundle are not a terms record")
    optional = {}
    if contents.verdict is not None:
        optional[VERDICT] = verdict_json(contents.verdict)
    if any(contents.rotations):
        optional[KEYS] = encode_keys(contents.rotations)
    if contents.timestamp:
        optional[TIMESTAMP] = contents.timestamp
    small = {
        README: readme_text(optional),
        CHECKPOINT: contents.checkpoint,
        TERMS: contents.terms,
        TERMS_TEXT: terms_text(terms),
        PROVIDER_HEAD: contents.provider_head,
        CONSUMER_HEAD: contents.consumer_head,
        STATEMENT_JSON: statement_json(checkpoint, contents.lines),
        STATEMENT_CSV: statement_csv(contents.lines),
        **optional,
    }
    for name, data in small.items():
        if len(data) > MEMBER_BYTES_MAX:
            raise FormatError(f"{name} of {len(data)} bytes is too large for a bundle")
    members: list[tuple[MemberName, Iterable[bytes]]] = [
        (MemberName(name), (data,)) for name, data in small.items()
    ]
    compact = len(members)
    logs = zip(FULL, (provider_records, consumer_records), checkpoint.heads, strict=True)
    for name, batches, head in logs:
        if batches is not None:
            members.append((MemberName(name, large=True), rebatch(batches, head.size)))
    if len(members) == compact + 1:
        raise FormatError("a full bundle needs the records of both logs, not of one")
    write_archive(out, members)


def readme_text(members: Container[str]) -> bytes:
    """What a bundle with these members says of itself: more if some are there that need not be."""
    before, mark, after = README_TEXT.partition(b"records/provider.msgpack")
    verdict = _VERDICT_TEXT if VERDICT in members else b""
    keys = _KEYS_TEXT if KEYS in members else b""
    timestamp, by_hand = (
        (_TIMESTAMP_TEXT, _TIMESTAMP_BY_HAND) if TIMESTAMP in members else (b"", b"")
    )
    return before + verdict + keys + timestamp + mark + after + by_hand


def encode_keys(
    rotations: tuple[Sequence[PlacedRotation], Sequence[PlacedRotation]],
) -> bytes:
    """The member of the provider's log's rotation records, and the consumer's."""
    return msgspec.msgpack.encode(rotations)


def decode_keys(data: bytes) -> tuple[list[PlacedRotation], list[PlacedRotation]]:
    """The rotation records of that member; `FormatError` if it is not in its one form."""
    try:
        rotations = _decode_keys(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"{KEYS} cannot be read: {error}") from None
    if encode_keys(rotations) != data or not any(rotations):
        raise FormatError(f"{KEYS} is not in canonical form")
    return rotations


def follow_keys(ring: Keyring, rotations: Iterable[PlacedRotation], role: Role) -> Keyring:
    """The keys after these rotations in a role's log, each signed for by the key before it."""
    for index, record in rotations:
        rotation = decode_record(record)
        if not isinstance(rotation, Rotation):
            raise ProofError(f"{KEYS} holds a record of another kind")
        try:
            ring = ring.after(index, rotation)
        except InvalidRecord as error:
            raise ProofError(f"{KEYS}, record {index} of the {role}: {error.message}") from None
    return ring


def terms_text(terms: Terms) -> bytes:
    """The terms in words, as a bundle holds them."""
    return ("\n".join(describe_terms(terms)) + "\n").encode()


def rebatch(batches: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The first `size` records in batches of `BATCH_RECORDS`, however they came."""
    pending: list[bytes] = []
    left = size
    for batch in batches if size else ():
        parts = decode_batch(batch)[1][:left]
        pending += parts
        left -= len(parts)
        while len(pending) >= BATCH_RECORDS:
            yield batch_bytes(pending[:BATCH_RECORDS])
            del pending[:BATCH_RECORDS]
        if not left:
            break
    if left:
        raise FormatError(f"the log ends after {size - left} records; {size} are needed")
    if pending:
        yield batch_bytes(pending)


def open_bundle(file: BinaryIO) -> Bundle:
    """The bundle in a seekable file; `FormatError` unless its container is in its one form.

    Records are not kept: they are read again, a batch at a time, when they are asked for, so the
    file must stay open.
    """
    members = read_archive(
        file,
        tuple(MemberName(name) for name in COMPACT),
        (
            (MemberName(VERDICT),),
            (MemberName(KEYS),),
            (MemberName(TIMESTAMP),),
            tuple(MemberName(name, large=True) for name in FULL),
        ),
        MEMBER_BYTES_MAX,
    )
    small = {}
    for member in members:
        if not member.large:
            file.seek(member.data_offset)
            small[member.name] = file.read(member.size)
    logs = [_open_log(file, member) for member in members if member.large]
    return Bundle(small, (logs[0], logs[1]) if logs else None)


def _open_log(file: BinaryIO, member: Member) -> BundledLog:
    count = sum(map(batch_count, _read_batches(file, member)))
    return BundledLog(count, lambda: _read_batches(file, member))


def _read_batches(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The batches of a records member. Each but the last must have `BATCH_RECORDS` records."""
    offset, end = member.data_offset, member.data_offset + member.size
    unpacker = msgpack.Unpacker(max_buffer_size=BATCH_BYTES_MAX)
    pending = bytearray()
    begun = 0  # the unpacker's position where `pending` begins
    last = False
    while True:
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            if offset == end:
                break
            file.seek(offset)
            chunk = file.read(min(CHUNK_BYTES, end - offset))
            if not chunk or len(pending) + len(chunk) > BATCH_BYTES_MAX + CHUNK_BYTES:
                raise FormatError(f"{member.name} is cut off or holds a batch too large") from None
            offset += len(chunk)
            unpacker.feed(chunk)
            pending += chunk
            continue
        except (ValueError, msgpack.UnpackException):
            raise FormatError(f"{member.name} holds what is not MessagePack") from None
        length = unpacker.tell() - begun
        begun += length
        batch = bytes(pending[:length])
        del pending[:length]
        count = batch_count(batch) if batch[:1] == b"\xdd" else 0
        if last or not 1 <= count <= BATCH_RECORDS:
            raise FormatError(f"{member.name} is not in batches of {BATCH_RECORDS} records")
        last = count < BATCH_RECORDS
        yield batch
    if pending:
        raise FormatError(f"{member.name} ends within a batch")
