"""Every key form of the store on one page.

The store is one LMDB environment with a few named tables. Keys of logs begin with the log's number
(big-endian), then an index or size, so that appends land at the end of their log's range. Log
numbers are `2 × channel number` for our own log and one more for the peer's.

| table       | key                                | value                                         |
| ----------- | ---------------------------------- | --------------------------------------------- |
| meta        | name                               | format version, counters                      |
| peers       | party name                         | PeerIdentity (MessagePack)                    |
| invites     | invite id                          | StoredInvite                                  |
| channels    | channel id                         | ChannelRow                                    |
| logs        | log                                | LogRow: the log's state                       |
| batches     | log, first index                   | a batch, or its part within a tile of the tree:
|             |                                    | the very bytes that are hashed                |
| heads       | log, size                          | HeadRow: root, signature, co-signature        |
| tiles       | log, level, number                 | root of 256^level leaves (‖ the last leaf)    |
| segments    | log, first index                   | SegmentRow: records that the archive has too  |
| corrections | log, hash of meter and id          | the delta's quantity as corrected             |
| matters     | log, index                         | a record of a kind in `Matter`                |
| closes      | log, index                         | a Close record                                |
| named       | log, digest of a record            | the index of that declaration or dispute      |
| ended       | log, index                         | the index of the reveal or lapse that ended it|
| derived     | log                                | DerivedRow: how far the rows below reach      |
| lines       | log, charge start, meter, subject  | Tally                                         |
| checkpoints | channel number, sequence           | CheckpointRow                                 |
| aside       | log, number                        | batch that was cut off, to be recorded again  |
| unplaced    | log, number                        | UnplacedRow: what could not be                |
| evidence    | channel number, digest             | an evidence file                              |
| shown       | log                                | ShownRow: a head that gossip showed, and more
|             |                                    | than is here                                  |
| declarations | channel number, commitment        | DeclarationRow: what opens it                 |
| attributes  | log, hash of meter and id          | what is kept beside a delta, salted           |
| answers     | time, hash of an idempotency key   | AnswerRow: what was answered to it            |
| snapshots   | proof root, hash of what it is of  | SnapshotRow: a checkpoint asked for over HTTP |
| timestamps  | channel number, checkpoint's digest | an authority's response, as it came          |
| feed        | cursor                             | FeedRow: something that happened              |
| concerning  | channel id, cursor                 | empty: the event concerns that channel        |
| followed    | channel id                         | FollowedRow: how far the feed follows it      |
| told        | channel id, what                   | empty: evidence or a deadline was told        |
| silent      | party name                         | since when (µs) it is silent, as was told     |
| lanes       | endpoint, channel id               | LaneRow: how far an endpoint was sent it      |
| fences      | cosigner key of a peer's party     | FenceRow: its newest generation seen here     |
| deliveries  | state, number                      | DeliveryRow: what became of a delivery        |
| witnessed   | log, size, hash of a witness's key | LineRow: a witness's line on that head        |
| asked       | log, hash of a witness's key       | AskedRow: how far that witness is             |
| seen        | hash of an origin                  | SeenRow: what we co-signed of it as a witness |
| changed     | number of a commit                 | the keys that it changed, for a standby       |

`tiles`, `corrections`, `matters`, `closes`, `named`, `ended`, `derived`, `lines` and the id index's
files follow from the rest and can be rebuilt. The tables from `feed` to `deliveries` only tell
others what happened: where they are gone the feed begins anew. An event of no channel has 32 zeros
for its id.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.derive import LineKey, Tally
from tallystick.protocol.log import LogFacts
from tallystick.protocol.records import DeclaredTotal, Role

FORMAT_VERSION = 4  # a batch is cut where tiles end; since 3, records may be in segments alone
FORMATS = (2, 3, FORMAT_VERSION)
FORMAT = str(FORMAT_VERSION).encode()
COVERED_NOTHING = -1

TABLES = (
    "meta",
    "peers",
    "invites",
    "channels",
    "logs",
    "batches",
    "heads",
    "tiles",
    "segments",
    "corrections",
    "derived",
    "lines",
    "checkpoints",
    "aside",
    "unplaced",
    "evidence",
    "shown",
    "matters",
    "closes",
    "named",
    "ended",
    "declarations",
    "attributes",
    "answers",
    "snapshots",
    "timestamps",
    "feed",
    "concerning",
    "followed",
    "told",
    "silent",
    "lanes",
    "deliveries",
    "fences",
    "witnessed",
    "asked",
    "seen",
    "changed",
)

META_KEYS = (
    b"format", b"fingerprints", b"place", b"port", b"http-port", b"restored", b"feed", b"archive",
    b"line", b"mirrored", b"generation", b"presence",
    b"witness-port", b"witness-doubt",
)  # fmt: skip

_LOG = struct.Struct(">I")
_LOG_INDEX = struct.Struct(">IQ")
_LOG_TILE = struct.Struct(">IBQ")
_LOG_START = struct.Struct(">IQ")
_TALLY = struct.Struct(">16sq16sq")
_CURSOR = struct.Struct(">Q")
_SIGN = 1 << 63  # moves signed times into the unsigned range, so that keys sort by time


class ChannelRow(Struct, array_like=True):
    """A channel: its number here, the terms record, how far founding is, and with whom.

    `state` is `proposed` (by us), `offered` (by the peer), `open` or `halted`; `signature` is the
    other side's signature on its log's first head. `doubt` says how certain it is what we
    signed last, as in the message `Holding`: 0 certain, 1 not, 2 agreed to go on, 3 gone on.
    """

    number: int
    terms: bytes
    peer: str
    state: str
    signature: bytes
    reason: str
    doubt: int


class LogRow(Struct, array_like=True):
    """A log's durable state; `signed_size` and `cosigned_size` are its newest such heads.

    `held_bytes` is what its batches and heads count against a quota.
    """

    size: int
    last_leaf: bytes
    frontier: bytes
    facts: LogFacts
    signed_size: int
    cosigned_size: int
    held_bytes: int = 0


class PresenceRow(Struct, array_like=True):
    """The latest time that a process of this party said (POSIX milliseconds), and since when (µs)
    it stopped for another copy of it, with the latest time that one said; 0: it did not.
    """

    said_ms: int = 0
    stopped_us: int = 0
    seen_ms: int = 0


class ShownRow(Struct, array_like=True, frozen=True):
    """A head that was signed here, or co-signed, and is not in this home: it is older than that."""

    size: int
    root: bytes
    signature: bytes
    cosignature: bytes


class HeadRow(Struct, array_like=True):
    """A head at the end of a batch; signatures are empty until there is one."""

    root: bytes
    signature: bytes
    cosignature: bytes


class SegmentRow(Struct, array_like=True):
    """A segment in the archive, read back and equal to the tree here: of which log it is, the root
    of its subtree and its last leaf's hash.
    """

    channel: Annotated[bytes, Meta(min_length=32, max_length=32)]
    role: Role
    root: bytes
    last_leaf: bytes


class RunRow(Struct, array_like=True):
    """One sorted run of the id index: its file and how many entries it has."""

    file: str
    entries: int


class DerivedRow(Struct, array_like=True):
    """Lines and id index cover the log's records below `covered`.

    `COVERED_NOTHING` says that they are wrong and must be made anew.
    """

    covered: int
    runs: list[RunRow]


class UnplacedRow(Struct, array_like=True):
    """A record of ours that was set aside and could not be recorded again, and why."""

    record: bytes
    reason: str


class DeclarationRow(Struct, array_like=True):
    """What opens a declaration of ours; nobody else knows it before the reveal."""

    period: str
    salt: Annotated[bytes, Meta(min_length=32, max_length=32)]
    totals: tuple[DeclaredTotal, ...]


class AnswerRow(Struct, array_like=True):
    """The answer to a request with an idempotency key: the digest of the request, status, body."""

    request: bytes
    status: int
    body: bytes


class SnapshotRow(Struct, array_like=True):
    """A checkpoint or an invoice proof that the PacSpace interface gave (`node.api.pacspace`).

    `label` is that of a closed or closing period, empty for a co-signed head of the log of `role`,
    of that `size`; `total` is a decimal. `listed` ones were asked for as checkpoints.
    """

    root: bytes
    channel: bytes
    customer: str
    scope: str
    label: str
    role: str
    size: int
    total: str
    deltas: int
    created_us: int
    listed: bool
    extras: bytes


class LineRow(Struct, array_like=True):
    """A witness's line on a head of this root, which holds; its blob is all after the key's id."""

    root: Annotated[bytes, Meta(min_length=32, max_length=32)]
    name: str
    key_id: Annotated[bytes, Meta(min_length=4, max_length=4)]
    blob: bytes
    at_s: int


class AskedRow(Struct, array_like=True):
    """The newest head of a log that a witness co-signed for us, and what it did that none may do
    (`breach`, empty as a rule), with when that was. `evidence` is the file that convicts it, if two
    of its lines do.
    """

    size: int
    at_s: int
    breach: str = ""
    breach_us: int = 0
    evidence: bytes = b""


class SeenRow(Struct, array_like=True):
    """The newest head of an origin that we co-signed as a witness, with the checkpoint: its log's
    line and ours.
    """

    origin: str
    size: int
    root: Annotated[bytes, Meta(min_length=32, max_length=32)]
    checkpoint: bytes
    at_s: int


class CheckpointRow(Struct, array_like=True):
    """A closed period: the note, its bounds and sizes, and the statement's lines as bytes.

    `verdict` is its canonical bytes, empty for a period closed before there were verdicts.
    """

    period: str
    end_us: Annotated[int, Meta()]
    note: bytes
    digest: bytes
    provider_size: int
    consumer_size: int
    lines: list[bytes]
    verdict: bytes = b""

    @property
    def sizes(self) -> tuple[int, int]:
        """How many records it counts: of the provider's log, and of the consumer's."""
        return self.provider_size, self.consumer_size

    def size_of(self, role: Role) -> int:
        """How many records it counts of that role's log."""
        return self.provider_size if role == "provider" else self.consumer_size


class FenceRow(Struct, array_like=True):
    """The newest generation of a peer's nodes, and its party's signature on it."""

    generation: int
    proof: bytes


class FeedState(Struct, array_like=True):
    """In `meta`: the oldest event that the feed still has, and the cursor of the next one. Cursors
    in `gaps` (from, and below) are of no event: another node of the party may have given them.
    """

    first: int
    next: int
    gaps: list[tuple[int, int]] = []

    @property
    def count(self) -> int:
        """How many events the feed still has."""
        skipped = sum(max(below - max(start, self.first), 0) for start, below in self.gaps)
        return self.next - self.first - skipped


class FeedRow(Struct, array_like=True):
    """An event: what names it wherever it is sent, when it was noticed, and what it is.

    `also` are other channels that it concerns.
    """

    id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    at_us: int
    kind: str
    channel: Annotated[bytes, Meta(min_length=32, max_length=32)]
    peer: str
    data: dict[str, Any]
    also: list[bytes] = []


class FollowedRow(Struct, array_like=True):
    """What the feed has told of a channel: its state and doubt (see `ChannelRow`), the co-signed
    sizes of our log and the peer's, how many checkpoints, and how much that could not be placed.

    While `returning`, records that were lost here come back: what they say was told before.
    """

    state: str
    doubt: int
    returning: bool
    own: int = 0
    peer: int = 0
    checkpoints: int = 0
    unplaced: int = 0


class LaneRow(Struct, array_like=True):
    """How far an endpoint was sent the events of a channel.

    All is settled up to the event `cursor`; of the next one, what comes before `step` and `item`
    (see `webhooks.bodies`). `attempts` of the one after that failed, the first at `since_us`; it is
    tried again at `next_us`. `said` is how the last attempt ended.
    """

    cursor: int
    step: int = 0
    item: int = 0
    attempts: int = 0
    since_us: int = 0
    next_us: int = 0
    said: str = ""


class DeliveryRow(Struct, array_like=True):
    """What was sent to an endpoint, byte for byte, and how that ended.

    `channel` is empty for an event of none; `since_us` is when the first attempt was made.
    """

    endpoint: str
    event_id: str
    event: str
    channel: bytes
    cursor: int
    body: bytes
    attempts: int
    since_us: int
    ended_us: int
    said: str


def cursor_key(cursor: int) -> bytes:
    """Key of an event."""
    return _CURSOR.pack(cursor)


def cursor_of(key: bytes) -> int:
    """The cursor at the end of such a key."""
    return int(_CURSOR.unpack(key[-8:])[0])


def log_key(log: int) -> bytes:
    """Key of a log's row."""
    return _LOG.pack(log)


def index_key(log: int, index: int) -> bytes:
    """Key of a batch by its first index, or of a head by its size."""
    return _LOG_INDEX.pack(log, index)


def index_of(key: bytes) -> int:
    """The index or size in such a key."""
    return int(_LOG_INDEX.unpack(key)[1])


def digest_key(log: int, digest: bytes) -> bytes:
    """Key of a record of a log that others know by its digest."""
    return _LOG.pack(log) + digest


def line_of_head_key(log: int, size: int, witness: bytes) -> bytes:
    """Key of a witness's line on a head of a log."""
    return _LOG_INDEX.pack(log, size) + witness


def asked_key(log: int, witness: bytes) -> bytes:
    """Key of how far a witness is with a log."""
    return _LOG.pack(log) + witness


def evidence_key(channel: int, digest: bytes) -> bytes:
    """Key of a file of evidence, by its channel's number and its digest."""
    return _LOG.pack(channel) + digest


def timestamp_key(channel: int, digest: bytes) -> bytes:
    """Key of the timestamp of a checkpoint, by its channel's number and its digest."""
    return _LOG.pack(channel) + digest


def declaration_key(channel: int, commitment: bytes) -> bytes:
    """Key of what opens a declaration, by its channel's number and its commitment."""
    return _LOG.pack(channel) + commitment


def record_name(meter: str, id: str) -> bytes:
    """What an id's fingerprint is of."""
    return f"{meter}\0{id}".encode()


def delta_key(log: int, meter: str, id: str) -> bytes:
    """Key of what belongs to a delta of a log, whatever its index."""
    return _LOG.pack(log) + hashlib.sha256(record_name(meter, id)).digest()[:16]


def tile_key(log: int, level: int, number: int) -> bytes:
    """Key of the subtree `number` of 256^level leaves."""
    return _LOG_TILE.pack(log, level, number)


def line_key(log: int, key: LineKey) -> bytes:
    """Key of a tally; lines sort by charge period, then meter."""
    start = _LOG_START.pack(log, key.charge_start_us + _SIGN)
    name = key.meter.encode()
    return start + bytes([len(name)]) + name + key.subject.encode()


def line_of(key: bytes) -> LineKey:
    """The line of such a key."""
    start = _LOG_START.unpack_from(key)[1] - _SIGN
    length = key[12]
    return LineKey(start, key[13 : 13 + length].decode(), key[13 + length :].decode())


def pack_tally(tally: Tally) -> bytes:
    """A tally's value: totals are 128 bits wide, so sums of 64-bit quantities cannot overflow."""
    return _TALLY.pack(
        tally.total.to_bytes(16, "big", signed=True),
        tally.deltas,
        tally.billed.to_bytes(16, "big", signed=True),
        tally.billed_deltas,
    )


def unpack_tally(value: bytes) -> Tally:
    """The tally of such a value."""
    total, deltas, billed, billed_deltas = _TALLY.unpack(value)
    return Tally(
        int.from_bytes(total, "big", signed=True),
        deltas,
        int.from_bytes(billed, "big", signed=True),
        billed_deltas,
    )


encode_row = msgspec.msgpack.Encoder().encode
