"""Everything that two nodes can say to each other in a session, one frozen class each.

A message is a MessagePack array `[type, field, …]` in a frame of its own. Fields are checked by
the schema before anything believes them; other types, other lengths and other encodings are
refused. Records travel inside `Append` as the very bytes that were hashed.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.accusation import FILE_BYTES_MAX
from tallystick.protocol.blinding import INCARNATION_SIZE
from tallystick.protocol.errors import PeerBreach
from tallystick.protocol.items import Carried, Conflict, Item
from tallystick.protocol.records import TIME_MAX_US, Digest, Label, Text, batch_count
from tallystick.protocol.rowset import ROW_BYTES_MAX, SLICE_BYTES, SLICES_MAX, By
from tallystick.protocol.sketch import CELL_BYTES

PROTOCOL_VERSION = 3
FRAME_BYTES_MAX = 8 * 1024 * 1024
BATCH_BYTES_MAX = 4 * 1024 * 1024
APPEND_RECORDS_MAX = 16_384
PAGE_LINES = 256
CHANNELS_MAX = 4096  # between two parties
ROWS_MAX = 100_000_000  # that a party brings to a reconciliation
OPENS_MAX = 100_000  # of them that may be opened to the peer
CELLS_MAX = 4096  # of a sketch, in one message
FINGERPRINTS_MAX = 8192  # in one message
PAGE_ROWS = 256
METERS_MAX = 1000
ITEMS_MAX = 64  # of gossip, in one message
CONFLICTS_MAX = 8

Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Signature64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Cosignature72 = Annotated[bytes, Meta(min_length=72, max_length=72)]
Said = Annotated[str, Meta(max_length=1000)]


class _Message(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Base of the messages: arrays of known length."""


class Hello(_Message, frozen=True, tag=1):
    """First on both sides: who speaks, which version, its clock (s), where it listens."""

    version: Annotated[int, Meta(ge=0, le=65535)]
    party: Annotated[str, Meta(max_length=253)]
    clock_s: Size
    address: Annotated[str, Meta(max_length=300)]


class Holding(_Message, frozen=True, tag=2):
    """What the sender holds of the receiver's log in a channel, proved by the author's signature.

    Size 0 has an empty signature. Nothing is appended to a log before its author heard this.
    `own_size` is what the sender signed of its own log: if that is less than the receiver holds,
    the receiver returns the rest. `doubt` says how certain the sender is of what it signed last:
    0 certain; 1 its home came from a copy; 2 the same, and its people agree to go on with what is
    left; 3 it went on, and its `Epoch` record waits for the receiver's co-signature.
    """

    channel: Digest
    doubt: Annotated[int, Meta(ge=0, le=3)]
    own_size: Size
    size: Size
    root: Digest
    signature: Annotated[bytes, Meta(max_length=64)]
    cosignature: Annotated[bytes, Meta(max_length=72)]


class Append(_Message, frozen=True, tag=3):
    """Records of the sender's own log from index `first`, and its signature on the head after."""

    channel: Digest
    first: Size
    batch: Annotated[bytes, Meta(min_length=6, max_length=BATCH_BYTES_MAX)]
    signature: Signature64


class Cosign(_Message, frozen=True, tag=4):
    """The sender holds the receiver's log up to `size`, durably, and every record is valid."""

    channel: Digest
    size: Size
    cosignature: Cosignature72


class Return(_Message, frozen=True, tag=5):
    """Records of the receiver's own log, which it lost; the signature is its own.

    The sender's co-signature on that head comes with it, if it made one.
    """

    channel: Digest
    first: Size
    batch: Annotated[bytes, Meta(min_length=6, max_length=BATCH_BYTES_MAX)]
    signature: Signature64
    cosignature: Annotated[bytes, Meta(max_length=72)]


class ProposeTerms(_Message, frozen=True, tag=6):
    """The terms record, and the proposer's signature on its log's head of size 1."""

    terms: Annotated[bytes, Meta(min_length=1, max_length=64 * 1024)]
    signature: Signature64


class TermsHeld(_Message, frozen=True, tag=7):
    """The proposal is stored and waits for a person."""

    channel: Digest


class Founded(_Message, frozen=True, tag=8):
    """A channel that both accepted: the terms, and each party's signature on its log's head of
    size 1. It tells a proposer that its terms were accepted, and a party that lost all else what
    it had agreed to.
    """

    terms: Annotated[bytes, Meta(min_length=1, max_length=64 * 1024)]
    provider_signature: Signature64
    consumer_signature: Signature64


class ProposeCheckpoint(_Message, frozen=True, tag=9):
    """A period's checkpoint text with the proposer's signature; `early`: before the grace time.

    `verdict` is the proposer's, whose digest is in the text: so a difference can be named.
    """

    channel: Digest
    text: Annotated[str, Meta(max_length=256 * 1024)]
    signature: Signature64
    early: bool
    verdict: Annotated[bytes, Meta(max_length=512 * 1024)]


class SignCheckpoint(_Message, frozen=True, tag=10):
    """The receiver of a proposal computed the same and signed."""

    channel: Digest
    digest: Digest
    signature: Signature64


class RefuseCheckpoint(_Message, frozen=True, tag=11):
    """The proposal cannot be signed now; nothing was signed."""

    channel: Digest
    digest: Digest
    reason: Said


class StatementPage(_Message, frozen=True, tag=12):
    """The sender's own statement lines (canonical bytes) from `offset`, after it computed other
    ones than proposed. An incomplete page that ends the statement is the last.
    """

    channel: Digest
    digest: Digest
    offset: Size
    lines: Annotated[list[Annotated[bytes, Meta(max_length=4096)]], Meta(max_length=PAGE_LINES)]
    last: bool


class WantPage(_Message, frozen=True, tag=13):
    """The page so far is equal: send the next one."""

    channel: Digest
    digest: Digest
    offset: Size


class Difference(_Message, frozen=True, tag=14):
    """The first line that differs, as the proposer and the other have it (empty: not there)."""

    channel: Digest
    digest: Digest
    proposer: Annotated[bytes, Meta(max_length=4096)]
    other: Annotated[bytes, Meta(max_length=4096)]


class Halt(_Message, frozen=True, tag=15):
    """The sender stops this channel and says why."""

    channel: Digest
    reason: Said


class Bye(_Message, frozen=True, tag=16):
    """The sender closes the session and says why."""

    code: Annotated[str, Meta(max_length=64)]
    reason: Said


class Ping(_Message, frozen=True, tag=17):
    """Shows that the sender is alive; answered by nothing, any frame counts as life."""


class Channels(_Message, frozen=True, tag=18):
    """The channels with the receiver that are open at the sender; said once, after the hello."""

    channels: Annotated[list[Digest], Meta(max_length=CHANNELS_MAX)]


class Full(_Message, frozen=True, tag=19):
    """The receiver's log has reached the sender's quota: nothing more of it is taken or co-signed
    on this connection. It goes on from what is held once the quota was raised.
    """

    channel: Digest
    reason: Said


class TermsRefused(_Message, frozen=True, tag=20):
    """The proposal is not stored, and why; it may be made again."""

    channel: Digest
    reason: Said


class Presence(_Message, frozen=True, tag=31):
    """Which process of its party speaks: right after the hello on both sides, and again when asked.

    `incarnation` is drawn by each process when it starts; `generation` grows when another home of
    the party takes over. `item` is the same as signed gossip, which only the sender's own party can
    read: so two copies of it learn of each other. `asks`: say yours again now.
    """

    incarnation: Annotated[bytes, Meta(min_length=INCARNATION_SIZE, max_length=INCARNATION_SIZE)]
    generation: Size
    asks: bool
    item: Item | None


class Hearsay(_Message, frozen=True, tag=32):
    """Gossip: blinded heads of others, and pairs of them that contradict each other."""

    items: Annotated[list[Carried], Meta(max_length=ITEMS_MAX)]
    conflicts: Annotated[list[Conflict], Meta(max_length=CONFLICTS_MAX)]


class Accusation(_Message, frozen=True, tag=35):
    """A file of evidence about a channel of the receiver's, which verifies it by itself."""

    evidence: Annotated[bytes, Meta(min_length=1, max_length=FILE_BYTES_MAX)]


class Promoted(_Message, frozen=True, tag=37):
    """Between hello and presence, by a node that took over: its generation, signed by its party."""

    generation: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    proof: Signature64


class Fenced(_Message, frozen=True, tag=38):
    """The receiver was superseded: its party signed this newer generation. The session is over."""

    generation: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    proof: Signature64


# What follows is said in reconciliation sessions, each of which has an id of its own.
# `protocol/reconcile.py` says what comes when, and what is checked of it.

SessionId = Annotated[bytes, Meta(min_length=16, max_length=16)]
RowCount = Annotated[int, Meta(ge=0, le=ROWS_MAX)]
Opens = Annotated[int, Meta(ge=0, le=OPENS_MAX)]
Nonce = Annotated[bytes, Meta(min_length=32, max_length=32)]
Sums = Annotated[bytes, Meta(min_length=SLICE_BYTES, max_length=SLICE_BYTES * SLICES_MAX)]


class AskReconcile(_Message, frozen=True, tag=21):
    """The sender asks to reconcile a period: of which meters, how rows are compared, how many it
    brings, how many of them it would open at most, and commitments to its set and to its nonce.
    """

    channel: Digest
    session: SessionId
    period: Label
    meters: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=METERS_MAX)]
    by: By
    resolution_us: Annotated[int, Meta(ge=1, le=TIME_MAX_US)]
    rows: RowCount
    opens_max: Opens
    commitment: Digest
    nonce_digest: Digest


class ConsentReconcile(_Message, frozen=True, tag=22):
    """The sender consents: the same about its own rows, and its nonce."""

    channel: Digest
    session: SessionId
    rows: RowCount
    opens_max: Opens
    commitment: Digest
    nonce: Nonce


class RevealNonce(_Message, frozen=True, tag=23):
    """The nonce of who asked, so that both know the key; and its sums, slice by slice."""

    channel: Digest
    session: SessionId
    nonce: Nonce
    sums: Sums


class SliceSums(_Message, frozen=True, tag=24):
    """The sums of who consented: slices with other sums are sketched."""

    channel: Digest
    session: SessionId
    sums: Sums


class WantCells(_Message, frozen=True, tag=25):
    """Send the cells from index `first` on, so many."""

    channel: Digest
    session: SessionId
    first: Annotated[int, Meta(ge=0, le=8 * OPENS_MAX)]
    count: Annotated[int, Meta(ge=1, le=CELLS_MAX)]


class SketchCells(_Message, frozen=True, tag=26):
    """The cells that were asked for."""

    channel: Digest
    session: SessionId
    first: Annotated[int, Meta(ge=0, le=8 * OPENS_MAX)]
    cells: Annotated[bytes, Meta(min_length=CELL_BYTES, max_length=CELL_BYTES * CELLS_MAX)]


class WantRows(_Message, frozen=True, tag=27):
    """The sketch is read: fingerprints of rows that only the receiver has, in ascending order,
    eight bytes each; and how many only the sender has. The last page says that it is the last.
    """

    channel: Digest
    session: SessionId
    fingerprints: Annotated[bytes, Meta(max_length=8 * FINGERPRINTS_MAX)]
    ours: Opens
    last: bool


class OpenRows(_Message, frozen=True, tag=28):
    """Rows of the sender: those that differ, in ascending order of fingerprint, or, with `kin`,
    rows near the period that may be the same events as rows that the receiver opened.
    """

    channel: Digest
    session: SessionId
    kin: bool
    rows: Annotated[
        list[Annotated[bytes, Meta(min_length=1, max_length=ROW_BYTES_MAX)]],
        Meta(max_length=PAGE_ROWS),
    ]
    last: bool


class ReconcileDone(_Message, frozen=True, tag=29):
    """Digests of the rows that the sender opened and of those that it received."""

    channel: Digest
    session: SessionId
    opened: Digest
    received: Digest


class ReconcileStop(_Message, frozen=True, tag=30):
    """The session ends here without a result, and why; the channel goes on as before."""

    channel: Digest
    session: SessionId
    code: Annotated[str, Meta(max_length=64)]
    reason: Said


InReconciliation = (
    AskReconcile
    | ConsentReconcile
    | RevealNonce
    | SliceSums
    | WantCells
    | SketchCells
    | WantRows
    | OpenRows
    | ReconcileDone
    | ReconcileStop
)

InFounding = ProposeTerms | TermsHeld | TermsRefused | Founded
InClosing = (
    ProposeCheckpoint | SignCheckpoint | RefuseCheckpoint | StatementPage | WantPage | Difference
)
# All that is of no channel's session.
OfConnection = (
    InFounding | Hello | Presence | Promoted | Fenced | Hearsay | Accusation | Channels | Bye | Ping
)
InChannel = InReconciliation | InClosing | Holding | Append | Cosign | Return | Full | Halt

Message = OfConnection | InChannel


def plain(text: str) -> str:
    """A peer's words as a terminal and a log may show them: nothing in them takes effect there."""
    return "".join(c if c.isprintable() else " " for c in text)


encode_message = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def decode_message(body: bytes) -> Message:
    """The message of a frame's body; `PeerBreach` if it is none or not canonical."""
    try:
        message: Message = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PeerBreach("malformed", f"the peer sent a malformed message: {error}") from None
    if encode_message(message) != body:
        raise PeerBreach("malformed", "the peer sent a message in a form that is not canonical")
    if isinstance(message, Append | Return) and batch_count(message.batch) > APPEND_RECORDS_MAX:
        raise PeerBreach(
            "malformed", f"the peer sent more than {APPEND_RECORDS_MAX} records at once"
        )
    return message
