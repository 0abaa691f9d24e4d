"""The tables as such: sums, counts, and whether every row belongs to something that is there.

Rows of one table are read one at a time; what is damaged is kept as it is, to be set aside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from tallystick.node.doctor.findings import Damaged, Findings
from tallystick.node.errors import StoreError
from tallystick.node.founding import decode_channel, first_head
from tallystick.node.segments.reading import decode_segment
from tallystick.node.store.changed import decode_changed
from tallystick.node.store.disk import Txn, unseal
from tallystick.node.store.keyspace import (
    FORMAT_VERSION,
    FORMATS,
    META_KEYS,
    TABLES,
    AnswerRow,
    AskedRow,
    ChannelRow,
    CheckpointRow,
    DeclarationRow,
    FenceRow,
    LineRow,
    PresenceRow,
    SeenRow,
    ShownRow,
    SnapshotRow,
    UnplacedRow,
    index_of,
    log_key,
)
from tallystick.node.store.matters import FOLLOWING
from tallystick.protocol.contradiction import verify_contradiction
from tallystick.protocol.declarations import commitment
from tallystick.protocol.errors import TallyError
from tallystick.protocol.heads import verify_head_signature
from tallystick.protocol.pairing import StoredInvite, decode_identity
from tallystick.protocol.records import Role, Terms, decode_batch, decode_record
from tallystick.protocol.terms import channel_id
from tallystick.protocol.timestamps import check_token, parse_response

T = TypeVar("T")

OF_LOGS = ("logs", "batches", "heads", "tiles", "segments", "corrections", "derived", "lines",
           "aside", "unplaced", "attributes", "shown", "witnessed", "asked",
           *FOLLOWING)  # fmt: skip
OF_CHANNELS = ("checkpoints", "evidence", "declarations", "timestamps")
STATES = ("proposed", "offered", "open", "halted")

decode_checkpoint = msgspec.msgpack.Decoder(CheckpointRow).decode
_decode_presence = msgspec.msgpack.Decoder(PresenceRow).decode
_decode_shown = msgspec.msgpack.Decoder(ShownRow).decode
_decode_declaration = msgspec.msgpack.Decoder(DeclarationRow).decode
_decode_invite = msgspec.msgpack.Decoder(StoredInvite).decode
_decode_fence = msgspec.msgpack.Decoder(FenceRow).decode
_decode_answer = msgspec.msgpack.Decoder(AnswerRow).decode
_decode_snapshot = msgspec.msgpack.Decoder(SnapshotRow).decode
_decode_line = msgspec.msgpack.Decoder(LineRow).decode
_decode_asked = msgspec.msgpack.Decoder(AskedRow).decode
_decode_seen = msgspec.msgpack.Decoder(SeenRow).decode
_decode_unplaced = msgspec.msgpack.Decoder(UnplacedRow).decode
# msgspec lets out UnicodeDecodeError and RecursionError as they are.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BAD = (TallyError, msgspec.MsgspecError, ValueError, IndexError, RecursionError)


def value_of(table: str, key: bytes, stored: bytes) -> bytes | None:
    """The value, or None if its sum is wrong."""
    try:
        return unseal(table, key, stored)
    except StoreError:
        return None


def decoded(decode: Callable[[bytes], T], value: bytes | None) -> T | None:
    """The row of a value, or None if there is no value or it cannot be read."""
    try:
        return None if value is None else decode(value)
    except _UNREADABLE:
        return None


def name_row(table: str, key: bytes) -> str:
    """A row as people can find it."""
    if table == "batches" and len(key) == 12:
        return f"the batch from record {index_of(key)} on of log {int.from_bytes(key[:4], 'big')}"
    if table == "heads" and len(key) == 12:
        return f"the head of size {index_of(key)} of log {int.from_bytes(key[:4], 'big')}"
    shown = key.decode() if key.isascii() and key.decode().isprintable() else key.hex()
    return f"table {table}, key {shown}"


def check_sums(txn: Txn, findings: Findings) -> None:
    """Every value's sum, and LMDB's own count of each table."""
    count = 0
    wrong: list[str] = []
    for table in TABLES:
        seen = 0
        for key, stored in txn.stored(table):
            seen += 1
            if value_of(table, key, stored) is None:
                findings.damaged.append(Damaged(table, key, stored, "its sum is wrong"))
        if seen != txn.entries(table):
            wrong.append(f"table {table} has {seen} rows, LMDB counts {txn.entries(table)}")
        count += seen
    faults = [f"{name_row(row.table, row.key)} is not what was written" for row in findings.damaged]
    findings.say("sums", faults, f"{count} values are what was written")
    findings.say("counts", wrong, f"{len(TABLES)} tables have as many rows as LMDB counts")


def read_channels(txn: Txn, findings: Findings) -> dict[int, tuple[bytes, Terms]]:
    """The channels by number, with their terms; from their logs where a row is gone."""
    channels: dict[int, tuple[bytes, Terms]] = {}
    faults: list[str] = []
    peers = {key.decode("utf-8", "replace") for key in txn.keys("peers")}
    for key, stored in txn.stored("channels"):
        value = value_of("channels", key, stored)
        if value is None:
            continue
        try:
            row = decode_channel(value)
            terms = _check_channel(key, row)
        except _BAD as error:
            faults.append(f"channel {key.hex()[:8]}: {error}")
            findings.damaged.append(Damaged("channels", key, stored, str(error)))
            continue
        if row.number in channels:
            faults.append(f"channel {key.hex()[:8]}: another one has its number {row.number}")
        if row.peer not in peers:
            faults.append(f"channel {key.hex()[:8]}: its peer {row.peer} is not paired")
        channels[row.number] = (key, terms)
    for number in sorted(_numbers(txn) - set(channels)):
        found = terms_of_log(txn, 2 * number) or terms_of_log(txn, 2 * number + 1)
        if found is not None:
            faults.append(f"channel {channel_id(found).hex()[:8]} has logs here, but no row")
            channels[number] = (channel_id(found), found)
    findings.say("channels", faults, f"{len(channels)} channels")
    return channels


def _check_channel(key: bytes, row: ChannelRow) -> Terms:
    terms = decode_record(row.terms)
    if not isinstance(terms, Terms) or channel_id(terms) != key:
        raise ValueError("its terms are not those that it is named by")
    other = [who for who in (terms.provider, terms.consumer) if who.name == row.peer]
    if not other or row.state not in STATES or row.doubt not in range(4):
        raise ValueError("its row does not make sense")
    if row.state in ("open", "halted") and row.signature:
        verify_head_signature(first_head(row.peer, terms), other[0].log_key, row.signature)
    return terms


def terms_of_log(txn: Txn, log: int) -> Terms | None:
    """The terms that a log begins with, if that can be read."""
    try:
        value = txn.get("batches", log_key(log) + bytes(8))
        sealed = None if value else txn.get("segments", log_key(log) + bytes(8))
        if sealed is not None:
            return txn.segments.archive(txn).terms(decode_segment(sealed).channel)
        first = decode_batch(value)[0][0] if value else None
    except _BAD:
        return None
    return first if isinstance(first, Terms) else None


def _numbers(txn: Txn) -> set[int]:
    """The numbers of channels that have records here."""
    keys = (key for table in ("logs", "batches") for key in txn.keys(table))
    return {int.from_bytes(key[:4], "big") // 2 for key in keys if len(key) >= 4}


def check_rows(txn: Txn, findings: Findings, channels: dict[int, tuple[bytes, Terms]]) -> None:
    """Rows that stand alone are readable, and none belongs to a log or channel that is not here."""
    faults: list[str] = []
    for table, check in _ALONE.items():
        for key, stored in txn.stored(table):
            value = value_of(table, key, stored)
            try:
                if value is not None:
                    check(key, value)
            except _BAD as error:
                faults.append(f"{name_row(table, key)}: {error}")
                findings.damaged.append(Damaged(table, key, stored, str(error)))
    if not txn.raw("meta", b"format"):
        faults.append("the store does not say which format it has")
    findings.say("rows", faults, "peers, invites and settings are readable")
    orphans: list[str] = []
    for table in (*OF_LOGS, *OF_CHANNELS):
        factor = 2 if table in OF_LOGS else 1
        for key in txn.keys(table):
            number = int.from_bytes(key[:4], "big") // factor
            if len(key) < 4 or number not in channels:
                orphans.append(f"{name_row(table, key)} belongs to nothing that is here")
                findings.damaged.append(Damaged(table, key, txn.raw(table, key), "an orphan"))
    findings.say("orphans", orphans, "every row belongs to a channel")


def check_declarations(txn: Txn, findings: Findings, number: int, terms: Terms, role: Role) -> None:
    """What is kept to open declarations opens those that it is named by; `role` is ours."""
    faults: list[str] = []
    count = 0
    for key, stored in txn.stored("declarations", log_key(number), log_key(number + 1)):
        count += 1
        row = decoded(_decode_declaration, value_of("declarations", key, stored))
        if row is None:
            faults.append("what opens one of our declarations is damaged: declare again")
        elif key[4:] != commitment(terms, role, row.period, row.salt, row.totals):
            faults.append(f"what is kept to open our declaration of {row.period} does not fit it")
        else:
            continue
        findings.damaged.append(Damaged("declarations", key, stored, faults[-1]))
    name = f"{channel_id(terms).hex()[:8]}: declarations"
    findings.say(name, faults, f"{count} of ours can be opened")


def check_timestamps(
    txn: Txn, findings: Findings, number: int, channel: bytes, checkpoints: Sequence[CheckpointRow]
) -> None:
    """Each timestamp is of the checkpoint that it is kept for; a node asks for others again."""
    faults: list[str] = []
    notes = {row.digest: row for row in checkpoints}
    count = 0
    for key, stored in txn.stored("timestamps", log_key(number), log_key(number + 1)):
        count += 1
        value, row = value_of("timestamps", key, stored), notes.get(key[4:])
        period = row.period if row is not None else "an unknown checkpoint"
        try:
            if value is not None and row is not None:
                check_token(parse_response(value), row.note)
                continue
            faults.append(f"the timestamp of {period} is damaged or of nothing that is here")
        except TallyError as error:
            faults.append(f"the timestamp of {period}: {error.message}")
        findings.damaged.append(Damaged("timestamps", key, stored, faults[-1]))
    if count:
        findings.say(f"{channel.hex()[:8]}: timestamps", faults, f"{count} are of its checkpoints")


def _meta_row(key: bytes, value: bytes) -> None:
    if key not in META_KEYS:
        raise ValueError("nothing here is called so")
    if key == b"format" and value not in [str(number).encode() for number in FORMATS]:
        raise ValueError(f"the format is {FORMAT_VERSION}")
    if key in (b"port", b"generation"):
        int(value)
    if key == b"presence":
        _decode_presence(value)


def _peer_row(key: bytes, value: bytes) -> None:
    if decode_identity(value).name.encode() != key:
        raise ValueError("it is another peer's")


def _invite_row(key: bytes, value: bytes) -> None:
    if _decode_invite(value).id != key:
        raise ValueError("it is another invite's")


def _unplaced_row(key: bytes, value: bytes) -> None:
    decode_record(_decode_unplaced(value).record)


def _shown_row(key: bytes, value: bytes) -> None:
    _decode_shown(value)


def _answer_row(key: bytes, value: bytes) -> None:
    _decode_answer(value)


def _snapshot_row(key: bytes, value: bytes) -> None:
    if not key.startswith(_decode_snapshot(value).root):
        raise ValueError("it is another root's")


def _fence_row(key: bytes, value: bytes) -> None:
    row = _decode_fence(value)
    if len(key) != 32 or len(row.proof) != 64 or row.generation < 1:
        raise ValueError("it is no fence")


def _line_row(key: bytes, value: bytes) -> None:
    if len(key) != 20 or _decode_line(value).at_s < 0:
        raise ValueError("it is no witness's line on a head")


def _asked_row(key: bytes, value: bytes) -> None:
    row = _decode_asked(value)
    if len(key) != 12 or row.size < 0:
        raise ValueError("it is no witness's")
    if row.evidence and not all(check.ok for check in verify_contradiction(row.evidence)):
        raise ValueError("its evidence convicts nobody")


def _seen_row(key: bytes, value: bytes) -> None:
    row = _decode_seen(value)
    if hashlib.sha256(row.origin.encode()).digest() != key or row.size < 0:
        raise ValueError("it is another origin's")


def _changed_row(key: bytes, value: bytes) -> None:
    if len(key) != 8 or not set(decode_changed(value)) <= set(TABLES):
        raise ValueError("it is no commit's")


_ALONE: dict[str, Callable[[bytes, bytes], None]] = {
    "meta": _meta_row,
    "peers": _peer_row,
    "invites": _invite_row,
    "aside": lambda key, value: decode_batch(value) and None,
    "unplaced": _unplaced_row,
    "answers": _answer_row,
    "shown": _shown_row,
    "snapshots": _snapshot_row,
    "fences": _fence_row,
    "witnessed": _line_row,
    "asked": _asked_row,
    "seen": _seen_row,
    "changed": _changed_row,
}
