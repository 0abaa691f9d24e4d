"""Certificate: a deadline of the terms passed in silence, provable offline from signed records.

A record of one log waited for the peer: a closed period for a dispute, a dispute for an answer, an
answer for the disputer to insist. The peer co-signed a head with that record, and later, when the
time that the terms give was over, another one; both co-signatures carry the peer's own time. The
log's author wrote a `Lapse` of it. The file holds all that, and nothing else of the log:

    tallystick certificate v1
    channel <channel id, hex>
    log of <party>
    terms <terms record, base64>
    rotation <record, base64>            one for each later log or cosigner key of both parties
    dispute <record, base64>             only of an answer: the peer's dispute that it answers
    record <index>
    <32 bytes in base64, one line a hash>
    leaf <leaf data, base64>
    lapse <index>
    <32 bytes in base64, one line a hash>
    leaf <leaf data, base64>
    consistency <start's size> <end's size>
    <32 bytes in base64, one line a hash>
    consistency <end's size> <head's size>
    <32 bytes in base64, one line a hash>

    <the signed note of a head that holds both records>
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from tallystick.protocol.accusation import (
    HASHES,
    NOTE,
    NotedHead,
    base64_of,
    file_text,
    hashes_of,
)
from tallystick.protocol.errors import FormatError
from tallystick.protocol.merkle import (
    HASH_SIZE,
    Subtree,
    consistency_path,
    inclusion_path,
)
from tallystick.protocol.records import (
    Lapse,
    decode_record,
)

TITLE = "tallystick certificate v1"

_SIZE = r"(?:0|[1-9][0-9]{0,18})"
_BASE64 = r"[A-Za-z0-9+/]+={0,2}"
_FILE = re.compile(
    rf"{TITLE}\n"
    r"channel (?P<channel>[0-9a-f]{64})\n"
    r"log of (?P<party>[^ \n]{1,253})\n"
    rf"terms (?P<terms>{_BASE64})\n"
    rf"(?P<rotations>(?:rotation {_BASE64}\n)*)"
    rf"(?:dispute (?P<dispute>{_BASE64})\n)?"
    rf"record (?P<index>{_SIZE})\n(?P<path>{HASHES})leaf (?P<leaf>{_BASE64})\n"
    rf"lapse (?P<lapse_index>{_SIZE})\n(?P<lapse_path>{HASHES})leaf (?P<lapse_leaf>{_BASE64})\n"
    rf"consistency (?P<start>{_SIZE}) (?P<end>{_SIZE})\n(?P<first>{HASHES})"
    rf"consistency (?P<again>{_SIZE}) (?P<size>{_SIZE})\n(?P<second>{HASHES})"
    rf"\n(?P<note>{NOTE})"
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A record's place in a log: its index, its leaf data and its inclusion path."""

    index: int
    leaf: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a file says. `dispute` is the bytes of the peer's dispute that an answer is to, empty
    if it was no answer that waited; `sizes` are those of the lapse's start and end, and `paths`
    lead from the one to the other and on to the head.
    """

    channel_id: bytes
    party: str
    terms: bytes
    rotations: tuple[bytes, ...]
    dispute: bytes
    record: Placed
    lapse: Placed
    sizes: tuple[int, int]
    paths: tuple[tuple[bytes, ...], tuple[bytes, ...]]
    head: NotedHead


@dataclass(frozen=True, slots=True)
class Subject:
    """What a certificate is about: whose log, in which channel, by which keys, which dispute was
    answered. The fields are those of `Certificate`.
    """

    channel_id: bytes
    party: str
    terms: bytes
    rotations: tuple[bytes, ...]
    dispute: bytes = b""


def build_certificate(
    subject: Subject,
    record: tuple[int, bytes],
    lapse: tuple[int, bytes],
    note: bytes,
    tree: Subtree,
) -> bytes:
    """The file of two records of a log, each an index and its leaf data, in the head of a note.

    `tree` gives the hashes of the log up to that head. Whether the file holds is for
    `verify_certificate` to say; `FormatError` if the note or the lapse is none.
    """
    noted = NotedHead.parse(note)
    size = noted.head.size
    said = decode_record(lapse[1][HASH_SIZE:])
    if not isinstance(said, Lapse):
        raise FormatError("what should be a lapse is a record of another kind")
    sizes = (said.start.size, said.end.size)

    def placed(place: tuple[int, bytes]) -> Placed:
        return Placed(*place, tuple(inclusion_path(place[0], size, tree)))

    paths = (
        tuple(consistency_path(*sizes, tree)),
        tuple(consistency_path(said.end.size, size, tree)),
    )
    return encode_certificate(
        Certificate(
            subject.channel_id,
            subject.party,
            subject.terms,
            subject.rotations,
            subject.dispute,
            placed(record),
            placed(lapse),
            sizes,
            paths,
            noted,
        )
    )


def encode_certificate(certificate: Certificate) -> bytes:
    """The file's bytes."""
    start, end = certificate.sizes
    rows = [
        TITLE,
        f"channel {certificate.channel_id.hex()}",
        f"log of {certificate.party}",
        f"terms {base64_of(certificate.terms)}",
        *(f"rotation {base64_of(data)}" for data in certificate.rotations),
        *([f"dispute {base64_of(certificate.dispute)}"] if certificate.dispute else []),
    ]
    for name, placed in (("record", certificate.record), ("lapse", certificate.lapse)):
        rows += [f"{name} {placed.index}", *map(base64_of, placed.path)]
        rows.append(f"leaf {base64_of(placed.leaf)}")
    rows += [f"consistency {start} {end}", *map(base64_of, certificate.paths[0])]
    rows.append(f"consistency {end} {certificate.head.head.size}")
    rows += map(base64_of, certificate.paths[1])
    return "".join(f"{row}\n" for row in [*rows, ""]).encode() + certificate.head.data


def parse_certificate(data: bytes) -> Certificate:
    """The certificate of a file; `FormatError` unless `encode_certificate` would write it so.

    Nothing is verified here.
    """
    match = _FILE.fullmatch(file_text(data, TITLE))
    if match is None:
        raise FormatError("not a certificate: a line is missing, doubled or misspelt")
    try:
        rotations = [base64.b64decode(row[9:]) for row in match["rotations"].splitlines()]
        certificate = Certificate(
            bytes.fromhex(match["channel"]),
            match["party"],
            base64.b64decode(match["terms"]),
            tuple(rotations),
            base64.b64decode(match["dispute"] or ""),
            _placed(match["index"], match["leaf"], match["path"]),
            _placed(match["lapse_index"], match["lapse_leaf"], match["lapse_path"]),
            (int(match["start"]), int(match["end"])),
            (hashes_of(match["first"]), hashes_of(match["second"])),
            NotedHead.parse(match["note"].encode()),
        )
    except ValueError as error:
        raise FormatError(f"not a certificate: a value is not base64: {error}") from None
    if encode_certificate(certificate) != data:
        raise FormatError("not a certificate: it is not in canonical form")
    return certificate


def _placed(index: str, leaf: str, path: str) -> Placed:
    return Placed(int(index), base64.b64decode(leaf), hashes_of(path))
