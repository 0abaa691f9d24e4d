"""What each target begins from: good values of its format, made from the known channel."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
from copy import deepcopy
from functools import cache
from pathlib import Path

import accusing
import dispute_vectors
import msgspec
import numpy as np
import pyarrow
import stating
import vector_files
from disputing import Quarrel
from pyarrow import parquet
from reconciling import sides, talk

from fuzzing import intake, papers, resales, sketches, stamps, stored, verdicts, witnesses
from fuzzing.exports import MAP
from fuzzing.wire import CHALLENGE, CHANNEL, INVITE, OWN_SIZE, RECEIVED_SIZE
from tallystick.node.backup import BACKUP_FORMAT, FileEntry, Manifest
from tallystick.node.pairing import own_identity
from tallystick.node.statement.making import encode_claims
from tallystick.node.store.disk import unseal
from tallystick.node.store.keyspace import TABLES, DeclarationRow, encode_row
from tallystick.node.template import TEMPLATE
from tallystick.node.transport.tls import certificate_der
from tallystick.protocol import messages as m
from tallystick.protocol.framing import frame
from tallystick.protocol.items import SEALED_SIZE, Carried, Conflict, Item
from tallystick.protocol.keyring import make_rotation
from tallystick.protocol.keys import Identity, derive_key
from tallystick.protocol.pairing import Refused, build_join, build_welcome, encode_pairing
from tallystick.protocol.records import (
    BATCH_HEADER_SIZE,
    ROLES,
    Epoch,
    Rotation,
    batch_bytes,
    encode_record,
)
from tallystick.protocol.rendering import statement_json, verdict_json
from tallystick.protocol.rowset import encode_row as encode_private
from tallystick.protocol.sketch import Encoder
from tallystick.protocol.statement import encode_line
from tallystick.protocol.verdict import encode_verdict

ITEM = Item(2980, bytes(32), 7, bytes(32), bytes(SEALED_SIZE), bytes(64))
RUN = bytes(range(16))  # a reconciliation session's id
CORPUS = Path(__file__).parent / "corpus"
TERMS = """\
provider = "acme.example"
consumer = "beta.example"
[period]
calendar = "month"
time_zone = "Europe/Berlin"
[clocks]
grace = "3d"
dispute = "15d"
answer = "29d"
[meters.output-tokens]
unit = "token"
scale = 2
aggregate = "sum"
source = "both"
payable = "provider"
range = ["-10", "1000.5"]
match = { window = "2s" }
tolerance = { relative = "0.5%", absolute = "1000", base = "provider", least = 1000 }
"""
CSV = (
    b'when,id,who,n,h\n2026-01-01T00:00:00Z,a,x,5,1.25\n2026-03-29 02:30,"b,""",y,1e3,-0.5\n,,,,\n'
)


def of(name: str) -> list[bytes]:
    """The seeds of a target, then its kept corpus, in a fixed order."""
    kept = sorted((CORPUS / name).glob("*"))
    return [*_made()[name], *(path.read_bytes() for path in kept)]


def _rotation() -> Rotation:
    new = derive_key(b"acme.example".ljust(32, b"\0"), "log", 1)
    at = CHANNEL.provider_log.state.facts.recorded_at + 1
    unsigned = Rotation("provider", "log", 1, bytes(new.verify_key), at + 10**9, bytes(64), b"", at)
    return make_rotation(CHANNEL.terms, unsigned, CHANNEL.provider.log, new)


def _records() -> list[bytes]:
    at = CHANNEL.provider_log.state.facts.recorded_at + 1
    epoch = Epoch(1, 3, bytes(32), 10**6, bytes(32), "both disks failed", at)
    found = {type(r): r for log in CHANNEL.logs for r in log.records}
    records = [*found.values(), epoch, _rotation(), *dispute_vectors.matters()]
    return [encode_record(record) for record in records]


def _disputed() -> list[bytes]:
    """Matters that may come next in the logs of the known channel, in batches."""
    found = []
    for role, log in zip(ROLES, CHANNEL.logs, strict=True):
        quarrel = Quarrel()
        quarrel.provider_log, quarrel.consumer_log = (deepcopy(log) for log in CHANNEL.logs)
        digest = quarrel.dispute(role, 30)
        quarrel.answer(role, digest)
        quarrel.answer(role, bytes(32), 5)
        for index in (log.state.size, log.state.size + 2):
            quarrel.lapse(role, index, 1, 40)
        quarrel.dispute(role, -7, 80, period="2026-12", meter="calls", subject="é")
        quarrel.resolve(role, digest, 3)
        quarrel.withdraw(role, digest)
        said = quarrel.log(role).batches[len(log.batches) :]
        found.append(batch_bytes([batch[BATCH_HEADER_SIZE:] for batch in said]))
    return found


def _batches() -> list[bytes]:
    own = [*CHANNEL.provider_log.batches, *CHANNEL.consumer_log.batches]
    whole = batch_bytes([encode_record(record) for record in CHANNEL.provider_log.records])
    return [*own[-6:], whole, *_disputed(), *(batch_bytes([record]) for record in _records())]


def _messages() -> list[bytes]:
    id_, log = CHANNEL.id, CHANNEL.provider_log
    closed = CHANNEL.closed[0]
    digest, root = closed.checkpoint.digest(), log.head().root
    lines = [encode_line(line) for line in closed.lines]
    said = [
        m.Hello(m.PROTOCOL_VERSION, "beta.example", 1_800_000_000, "192.0.2.1:7450"),
        m.Presence(bytes(16), 1, False, ITEM),
        m.Hearsay([Carried(1, ITEM)], [Conflict(0, ITEM, ITEM)]),
        m.Accusation(b"evidence"),
        m.Promoted(1, bytes(64)),
        m.Fenced(2**63 - 1, bytes(64)),
        m.Channels([id_]),
        m.Holding(id_, 0, RECEIVED_SIZE, OWN_SIZE - 3, root, bytes(64), bytes(72)),
        m.Append(id_, RECEIVED_SIZE, log.batches[1], bytes(64)),
        m.Cosign(id_, OWN_SIZE, bytes(72)),
        m.Return(id_, OWN_SIZE, log.batches[1], bytes(64), b""),
        m.ProposeTerms(encode_record(CHANNEL.terms), bytes(64)),
        m.TermsHeld(id_),
        m.Founded(encode_record(CHANNEL.terms), bytes(64), bytes(64)),
        m.ProposeCheckpoint(id_, closed.checkpoint.text(), bytes(64), False, b""),
        m.SignCheckpoint(id_, digest, bytes(64)),
        m.RefuseCheckpoint(id_, digest, "too early"),
        m.StatementPage(id_, digest, 0, lines, True),
        m.WantPage(id_, digest, 3),
        m.Difference(id_, digest, lines[0], b""),
        m.Halt(id_, "so"),
        m.Ping(),
        m.Bye("bye", "done"),
        m.AskReconcile(id_, RUN, "2026-10", ("calls", "tokens"), "id", 1, 5, 5, digest, root),
        m.ConsentReconcile(id_, RUN, 5, 5, digest, root),
        m.RevealNonce(id_, RUN, digest, bytes(48)),
        m.SliceSums(id_, RUN, bytes(48)),
        m.WantCells(id_, RUN, 0, 16),
        m.SketchCells(id_, RUN, 0, bytes(30)),
        m.WantRows(id_, RUN, bytes(16), 1, True),
        m.OpenRows(id_, RUN, False, [encode_private(sketches.ROWS[1])], True),
        m.ReconcileDone(id_, RUN, digest, digest),
        m.ReconcileStop(id_, RUN, "silence", "the peer said nothing"),
    ]
    return [m.encode_message(message) for message in said]


def _sessions() -> list[bytes]:
    bodies = _messages()
    hello, presence, channels, holding, append, cosign, returned = bodies[:2] + bodies[4:9]
    greeting = hello + presence
    behind = m.Holding(CHANNEL.id, 0, 7, OWN_SIZE + 1, bytes(32), bytes(64), b"")
    framed = b"".join(map(frame, bodies))
    return [
        b"\0" + b"".join(bodies),
        b"\x11" + framed,
        b"\xff" + framed,
        b"\0" + greeting + channels + holding + append + cosign,
        b"\0" + greeting + m.encode_message(behind) + returned,
        *(b"\0" + greeting + holding + body for body in bodies[9:]),
    ]


def _identities() -> list[tuple[Identity, bytes]]:
    return [
        (who, certificate_der(who.name, who.transport))
        for who in (CHANNEL.consumer, CHANNEL.provider)
    ]


def _pairing() -> list[bytes]:
    (joiner, joiner_der), (inviter, inviter_der) = _identities()
    joining = own_identity(joiner, joiner_der, "192.0.2.2:7450")
    inviting = own_identity(inviter, inviter_der, "192.0.2.1:7450")
    said = (
        CHALLENGE,
        build_join(joiner, joining, INVITE, CHALLENGE),
        build_welcome(inviter, inviting, joining, CHALLENGE),
        Refused("used", "the code was used"),
    )
    return [encode_pairing(message) for message in said]


def _requests() -> list[bytes]:
    encode = msgspec.msgpack.Encoder().encode
    return [
        encode((1, "emit", {"channel": None, "drafts": b"\x90"})),
        encode((2, True, {"lines": [1, -1, "a", None, 1.5, b"x"]})),
        encode((3, False, ["InputError", "no", "do"])),
    ]


def _parquet() -> list[bytes]:
    columns = {
        "when": pyarrow.array([0, 1_790_805_600_000_000, None], pyarrow.timestamp("us", "UTC")),
        "id": ["a", "b", "c"],
        "who": ["x", "y", None],
        "n": pyarrow.array([1, 2, None], pyarrow.int64()),
        "h": pyarrow.array([1.5, 2.25, None], pyarrow.float64()),
    }
    text = {name: [str(v) for v in map(str, range(3))] for name in columns}
    text["when"] = ["2026-01-01", "2026-01-02T00:00:00Z", "x"]
    made = []
    for table, options in (
        (pyarrow.table(columns), {"compression": "none"}),
        (pyarrow.table(columns), {"compression": "snappy", "use_dictionary": False}),
        (pyarrow.table(text), {"compression": "none"}),
    ):
        out = io.BytesIO()
        parquet.write_table(table, out, **options)
        made.append(out.getvalue())
    return made


def _signed() -> list[bytes]:
    batch = CHANNEL.provider_log.batches[-1]
    return [
        b"\0\0\x05" + b"1" * 20,
        b"\0\x01\x07-5",
        b"\0\x82\x0a" + struct.pack(">Q", 3),
        b"\1\0" + "\n".join(CHANNEL.closed[1].checkpoint.totals).encode(),
        b"\2\0" + batch,
        *(b"\2\0" + batch_bytes([record]) for record in _records()),
        b"\3\0Asia/Kathmandu",
        b"\3\1hour",
        b"\3\2unit",
        b"\3\3name",
        b"\4\x002026-12",
        b"\4\1UTC",
        *(bytes([5, which]) + b"12" for which in range(7)),
        b"\5\x0eagreed",
    ]


def _older_checkpoint() -> bytes:
    """A checkpoint from before there were verdicts."""
    file = Path(__file__).parents[1] / "vectors" / "checkpoint-without-verdict.json"
    note: str = json.loads(file.read_bytes())[0]["note"]
    return note.encode()


def _rows() -> list[bytes]:
    """Of each table its first and its last row, with a right sum, and one of the empty ones."""
    made = []
    for number, (name, table) in enumerate(stored.known_rows().items()):
        for key in dict.fromkeys((*table.keys[:1], *table.keys[-1:])):
            value = unseal(name, key, table.values[key])
            made.append(bytes([number, len(key)]) + key + value)
    for name, key, value in (
        ("declarations", bytes(36), encode_row(DeclarationRow("2026-10", bytes(32), ()))),
        ("aside", bytes(12), CHANNEL.provider_log.batches[0]),
        ("unplaced", bytes(12), msgspec.msgpack.encode([_records()[0], "so"])),
        ("evidence", bytes(36), b"tallystick evidence v1\n"),
    ):
        made.append(bytes([TABLES.index(name), len(key)]) + key + value)
    gone, broken = bytearray(made[0]), bytearray(made[-4])
    gone[0] |= 0x80
    broken[0] |= 0x40
    return [*made, bytes(gone), bytes(broken)]


def _edits() -> list[bytes]:
    """Edits of every page: its number, its kind, its bounds, its first pointer, its last node."""
    places = ((0, 1), (10, 1), (12, 2), (14, -2), (16, 2), (254, 1), (510, 1))
    pages = len(stored.known_file()) // stored.PAGE
    return [
        b"\1" + struct.pack(">BBBh", page, place // 2, 1, change)
        for page in range(pages)
        for place, change in places
    ]


def _manifests() -> list[bytes]:
    """One whose seed is another than its sum says, and one without a seed."""
    files = {
        name: FileEntry(len(content), hashlib.sha256(content).hexdigest())
        for name, content in stored.FILES.items()
    }
    channels = [{"channel": "00", "own": {"size": 1}}]
    made = []
    for chosen in (files | {"seed": FileEntry(64, "0" * 64)}, {"store/data.mdb": files["name"]}):
        manifest = Manifest(BACKUP_FORMAT, "acme.example", "", "1", chosen, channels)
        made.append(msgspec.json.encode(manifest))
    return made


def _reconciliations() -> list[bytes]:
    """What each side hears in an honest session, by what the other one says."""
    heard = {True: b"", False: b""}  # by whether the consenter hears it

    def note(message: m.InReconciliation) -> m.InReconciliation:
        asked = m.AskReconcile | m.RevealNonce | m.SketchCells
        turn = isinstance(message, m.OpenRows | m.ReconcileDone) and not len(turns) % 2
        if isinstance(message, m.OpenRows | m.ReconcileDone):
            turns.append(message)
        heard[turn or isinstance(message, asked)] += m.encode_message(message)
        return message

    turns: list[m.InReconciliation] = []
    talk(*sides(sketches.OURS, sketches.THEIRS, (20, 20)), note)
    return [b"\1" + heard[True], b"\0" + heard[False]]


def _sketches() -> list[bytes]:
    items = np.arange(3, 12, dtype=np.uint64)
    cells = Encoder(sketches.KEY, items).next_cells(40).encode()
    return [b"\x0f" + cells, b"\x03" + cells, b"\x00" + cells[:60]]


@cache
def _made() -> dict[str, list[bytes]]:
    files = vector_files.make_files()
    vectors = {name: json.loads(data) for name, data in files.items() if name.endswith(".json")}
    head = CHANNEL.provider_log.head_note()
    proof, line_proof = vectors["tlog-proof.json"], vectors["line-proof.json"]
    checkpoints = [closed.note for closed in CHANNEL.closed]
    rows = [
        json.dumps(dict(zip(("when", "id", "who", "n", "h"), row, strict=True))).encode() + b"\n"
        for row in (("2026-01-01", "a", "x", 5, "1.25"), ("2026-01-01 01:00", "b", "y", 5, 1.5))
    ]
    return {
        "frames": [b"\x02" + frame(b"abc") + frame(b"d"), b"\x63" + frame(b"e" * 200)],
        "messages": _messages(),
        "session": _sessions(),
        "pairing": _pairing(),
        "certificates": [der for _, der in _identities()],
        "invites": [INVITE.encode().encode()],
        "requests": _requests(),
        "records": _records(),
        "private-rows": [encode_private(row) for row in sketches.ROWS[:3]],
        "reconciling": _reconciliations(),
        "sketches": _sketches(),
        "addresses": [b"192.0.2.1:7450", b"[2001:db8::1]:7450", b"node.acme.example:0"],
        "batches": _batches(),
        "logs": _batches(),
        "lines": [encode_line(line) for closed in CHANNEL.closed for line in closed.lines],
        "statements": [statement_json(c.checkpoint, c.lines) for c in CHANNEL.closed],
        "declarations": verdicts.declaration_seeds(),
        "verdicts": [encode_verdict(closed.verdict) for closed in CHANNEL.closed],
        "verdict-files": [verdict_json(closed.verdict) for closed in CHANNEL.closed],
        "notes": [head, *checkpoints],
        "heads": [head, vectors["heads.json"]["text"].encode()],
        "proofs": [proof["proof"].encode() + b"\0" + bytes.fromhex(proof["leaf"])],
        "line-proofs": [line_proof["proof"].encode() + b"\0" + bytes.fromhex(line_proof["line"])],
        "checkpoints": [
            *checkpoints,
            CHANNEL.closed[0].checkpoint.text().encode(),
            _older_checkpoint(),
        ],
        "vkeys": [vectors["keys.json"]["log_vkeys"][0].encode()],
        "quantities": [
            bytes([case["scale"]]) + case["text"].encode() for case in vectors["quantities.json"]
        ],
        "periods": [
            bytes([n]) + label.encode()
            for n in range(16)
            for label in ("2026-10-25T02+02:00", "2026-10-25", "2026-W43", "2026-10", "2011-12-30")
        ],
        "zones": [b"Europe/Berlin", b"UTC", b"posix/Asia/Kathmandu"],
        "times": [b"\0" + b"2026-10-25T02:30:00.123456789+02:00", b"\1" + b"2026-03-29 02:30"]
        + [bytes([n]) + b"1790805600.5" for n in range(3, 7)],
        "terms": [TERMS.encode()],
        "mappings": [MAP.encode()],
        "resale-maps": [resales.MAP.encode()],
        "resales": [*resales.files(), b"\0".join(reversed(resales.files()))],
        "configs": [TEMPLATE.encode(), TEMPLATE.replace("# ", "").encode()],
        "csv": [CSV],
        "csv-gz": [gzip.compress(CSV, mtime=0)],
        "json-lines": [b"".join(rows), rows[0]],
        "parquet": _parquet(),
        "lapses": [data for name, data in files.items() if name.endswith(".certificate")],
        "evidence": [files["author.evidence"], files["co-signer.evidence"]],
        "guilty": [b"\0\0\x02\x0c\0", b"\1\1\x03\x09\x0d\1\1", b"\0\1\x02\x0c\x0d\0\1"],
        "innocents": [b"\0\2\7\0\xff", b"\1\5\5\3", b"\0\3\4\1\2\3\4", b"\1\0\6\0"],
        "manifests": _manifests(),
        "pages": [b"\0" + stored.known_file(), *_edits()],
        "refutations": [files["author.refutation"], accusing.lost_refutation()],
        "rows": _rows(),
        "policies": witnesses.POLICIES,
        "witness-requests": witnesses.REQUESTS,
        "witness-answers": witnesses.ANSWERS,
        "witness-evidence": witnesses.EVIDENCE,
        "verified": [data for name, data in files.items() if not name.endswith(".json")],
        "bundles": [
            files["bundle-compact.tally"],
            files["bundle-full.tally"],
            files["bundle-extras.tally"],
        ],
        "timestamps": stamps.RESPONSES,
        "trusted": [stamps.MAKER.root_pem, stamps.MAKER.root_pem * 2],
        "signed-bundles": _signed(),
        "claims": [encode_claims([stating.CLAIM])],
        "invoices": papers.some_invoices(),
        "statement-files": papers.honest_statements(),
        **intake.SEEDS,
    }
