"""The known answers of every format, made anew from the implementation: file name to bytes.

Everything follows from two seeds that are their parties' names, so the files never change unless a
format does. `test_vectors` compares them with those on disk, and checks the foreign ones apart.
"""

from __future__ import annotations

import io
import json
from typing import Any

import accusing
import builders
import certifying
import dispute_vectors
import extra_vectors
import gossip_vectors
import msgspec
import reconciling
import reselling
import segment_vectors
import witness_vectors

from tallystick.node.seed import encrypt_seed
from tallystick.node.transport.tls import certificate_der, server_name
from tallystick.protocol.errors import PeriodError, QuantityError
from tallystick.protocol.evidence import evidence_digest, verify_evidence
from tallystick.protocol.heads import cosign_head, head_text, sign_head
from tallystick.protocol.keyring import Keyring, rotation_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, Identity, Vkey, derive_key
from tallystick.protocol.line_proof import build_line_proof
from tallystick.protocol.merkle import (
    chain_leaves,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
)
from tallystick.protocol.messages import InReconciliation, encode_message
from tallystick.protocol.pairing import (
    Invite,
    comparison_words,
    invite_id,
    secret_digest,
)
from tallystick.protocol.periods import Calendar
from tallystick.protocol.proof import format_proof
from tallystick.protocol.quantities import format_quantity, parse_quantity
from tallystick.protocol.records import (
    ROLES,
    Declaration,
    Delta,
    Job,
    Reveal,
    Rotation,
    decode_record,
    encode_record,
    record_digest,
)
from tallystick.protocol.refutation import verify_refutation
from tallystick.protocol.rowset import Row, encode_row, fingerprints, set_commitment
from tallystick.protocol.sketch import Encoder, check_of
from tallystick.protocol.statement import encode_line, line_leaves, statement_root
from tallystick.protocol.verdict import encode_verdict, verdict_digest
from tallystick.protocol.verify import verify_bundle
from tallystick.protocol.words import WORDS

JOBS: tuple[Job, ...] = ("log", "cosigner", "transport")
_REFUSED = {
    "c0": "nil is not a record",
    "9102": "a delta has eight elements",
    "980261616162616300000000c0": "the last field is a digest or nil, and nothing follows it",
    "9802616161626163cf0000000000000001000000c0": "an integer in a longer form than it needs",
    "9802d90161616261630100000000c0": "a string in a longer form than it needs",
    "dc0008026161616261630100000000c0": "an array in a longer form than it needs",
    "9802616161626163cb3ff00000000000000000c0": "a floating-point number",
    "98026161616261630100ff00c0": "a time before 1970",
    "9802a0616261630100000000c0": "an empty id",
    "9810616161626163010000c0": "an unknown kind",
    "9909a7323032362d3130a161a1620aa57072696365a1639000": "an unknown reason code of a dispute",
    "9909a3323032a161a1620aa56f74686572a1639000": "a period's label of three characters",
    "940d000000": "a reminder has three elements, and nothing follows them",
}


def _party(who: Identity, seed: bytes) -> dict[str, Any]:
    jobs = ("log", "cosigner", "transport")
    return {
        "name": who.name,
        "seed": seed.hex(),
        "keys": {job: bytes(derive_key(seed, job).verify_key).hex() for job in jobs},
        "cosigner_vkey": str(Vkey(who.name, ED25519_COSIGNATURE, who.cosigner_key)),
    }


def _keys(channel: builders.Channel) -> dict[str, Any]:
    parties = (channel.provider, channel.consumer)
    return {
        "parties": [_party(who, who.name.encode().ljust(32, b"\0")[:32]) for who in parties],
        "channel": channel.id.hex(),
        "log_vkeys": [str(Keyring(channel.terms).log_vkeys(role)[0]) for role in ROLES],
    }


def _records(channel: builders.Channel) -> dict[str, Any]:
    examples = []
    seen: set[type] = set()
    logs = [*channel.provider_log.records, *channel.consumer_log.records]
    for record in [*logs, *dispute_vectors.matters()]:
        if type(record) not in seen:
            seen.add(type(record))
            fields = msgspec.to_builtins(record, builtin_types=(bytes,))
            examples.append({"fields": _plain(fields), "bytes": encode_record(record).hex()})
    sealed = Delta("evt-é", "tokens", "project-7", -(2**63), 0, 253_370_764_799_999_999, bytes(32))
    fields = msgspec.to_builtins(sealed, builtin_types=(bytes,))
    examples.append({"fields": _plain(fields), "bytes": encode_record(sealed).hex()})
    refused = [{"bytes": data, "reason": reason} for data, reason in _REFUSED.items()]
    return {"records": examples, "refused": refused}


def _plain(value: Any) -> Any:
    """Bytes as hexadecimal text under a key that says so."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _leaves(channel: builders.Channel) -> dict[str, Any]:
    parts = [encode_record(record) for record in channel.provider_log.records]
    leaves = chain_leaves(channel.id, parts)
    return {
        "channel": channel.id.hex(),
        "records": [part.hex() for part in parts],
        "leaves": [leaf.hex() for leaf in leaves],
        "roots": {str(size): root_of(leaves[:size]).hex() for size in range(len(leaves) + 1)},
    }


def _tree() -> list[bytes]:
    return [leaf_hash(bytes([n])) for n in range(20)]


def _inclusion() -> list[dict[str, Any]]:
    leaves = _tree()
    return [
        {
            "leaf": leaves[index].hex(),
            "index": index,
            "size": size,
            "path": [
                item.hex()
                for item in inclusion_path(index, size, lambda a, b: root_of(leaves[a:b]))
            ],
            "root": root_of(leaves[:size]).hex(),
        }
        for size in (1, 2, 3, 7, 8, 13, 20)
        for index in sorted({0, size // 2, size - 1})
    ]


def _consistency() -> list[dict[str, Any]]:
    leaves = _tree()
    return [
        {
            "old_size": old,
            "old_root": root_of(leaves[:old]).hex(),
            "new_size": new,
            "new_root": root_of(leaves[:new]).hex(),
            "path": [
                item.hex() for item in consistency_path(old, new, lambda a, b: root_of(leaves[a:b]))
            ],
        }
        for old, new in ((0, 5), (1, 1), (1, 8), (3, 7), (4, 8), (6, 20), (16, 20), (20, 20))
    ]


def _heads(channel: builders.Channel) -> dict[str, Any]:
    head = channel.provider_log.head()
    time_s = builders.COSIGNED_AT_SECONDS
    return {
        "origin": head.origin,
        "size": head.size,
        "root": head.root.hex(),
        "text": head_text(head),
        "signature": sign_head(head, channel.provider.log).hex(),
        "cosigned_at": time_s,
        "cosignature": cosign_head(head, channel.consumer.cosigner, time_s).hex(),
        "note": channel.provider_log.head_note().decode(),
    }


def _tlog_proof(channel: builders.Channel) -> dict[str, Any]:
    log = channel.provider_log
    parts = [encode_record(record) for record in log.records]
    leaves = chain_leaves(channel.id, parts)
    index = 7
    path = inclusion_path(index, len(leaves), lambda a, b: root_of(leaves[a:b]))
    return {
        "log_vkey": str(Keyring(channel.terms).log_vkeys("provider")[0]),
        "cosigner_vkey": str(
            Vkey(channel.consumer.name, ED25519_COSIGNATURE, channel.consumer.cosigner_key)
        ),
        "leaf": (leaves[index - 1] + parts[index]).hex(),
        "proof": format_proof(index, path, log.head_note()).decode(),
    }


def _statement(channel: builders.Channel) -> dict[str, Any]:
    closed = channel.closed[1]
    return {
        "lines": [
            {
                "fields": msgspec.to_builtins(line),
                "bytes": encode_line(line).hex(),
                "leaf": leaf.hex(),
            }
            for line, leaf in zip(closed.lines, line_leaves(closed.lines), strict=True)
        ],
        "root": statement_root(closed.lines).hex(),
    }


def _verdict(channel: builders.Channel) -> dict[str, Any]:
    """Both logs' declarations of the first closed period, and the verdict on it."""
    closed = channel.closed[0]
    logs = {}
    for log in channel.logs:
        records = [record for _, record in log.matters(log.state.size)]
        logs[log.role] = [
            {
                "record": encode_record(record).hex(),
                "digest": record_digest(record).hex(),
            }
            for record in records
            if isinstance(record, Declaration | Reveal)
        ]
    return {
        "terms": encode_record(channel.terms).hex(),
        "period": closed.checkpoint.period,
        "declarations": logs,
        "lines": [encode_line(line).hex() for line in closed.lines],
        "meters": msgspec.to_builtins(closed.verdict.meters),
        "bytes": encode_verdict(closed.verdict).hex(),
        "digest": verdict_digest(closed.verdict).hex(),
    }


def _checkpoint(channel: builders.Channel) -> list[dict[str, Any]]:
    return [
        {
            "text": closed.checkpoint.text(),
            "digest": closed.checkpoint.digest().hex(),
            "note": closed.note.decode(),
        }
        for closed in channel.closed
    ]


def _line_proof(channel: builders.Channel) -> dict[str, Any]:
    closed = channel.closed[1]
    return {
        "channel": channel.id.hex(),
        "terms": encode_record(channel.terms).hex(),
        "line": encode_line(closed.lines[2]).hex(),
        "proof": build_line_proof(closed.lines, 2, closed.note).decode(),
    }


def _invite(channel: builders.Channel) -> dict[str, Any]:
    who = channel.provider
    secret = bytes(range(16))
    invite = Invite(
        who.name,
        who.log_key,
        who.cosigner_key,
        who.transport_key,
        "192.0.2.1:7450",
        secret,
        1_800_000_000,
    )
    return {
        "name": who.name,
        "address": invite.address,
        "expires_at": invite.expires_at_s,
        "secret": secret.hex(),
        "invite_id": invite_id(secret).hex(),
        "secret_digest": secret_digest(secret).hex(),
        "code": invite.encode(),
    }


def _words(channel: builders.Channel) -> dict[str, Any]:
    return {
        "list": list(WORDS),
        "between": [channel.provider.name, channel.consumer.name],
        "words": comparison_words(channel.provider, channel.consumer),
    }


def _periods() -> list[dict[str, Any]]:
    cases = [
        ("month", "Europe/Berlin", 1_793_000_000),
        ("month", "UTC", 1_709_164_800),
        ("day", "Europe/Berlin", 1_792_900_000),
        ("day", "America/Sao_Paulo", 1_541_300_400),
        ("day", "Pacific/Apia", 1_325_239_200),
        ("week", "UTC", 1_798_761_600),
        ("hour", "Europe/Berlin", 1_792_886_400),
        ("hour", "Europe/Berlin", 1_792_890_000),
        ("hour", "Australia/Lord_Howe", 1_775_314_800),
        ("hour", "Asia/Kathmandu", 1_700_000_000),
        ("month", "Europe/Berlin", 0),
    ]
    made = []
    for calendar, zone, second in cases:
        period = Calendar(calendar, zone).period_of(second * 1_000_000)
        made.append(
            {
                "calendar": calendar,
                "time_zone": zone,
                "instant_us": second * 1_000_000,
                "label": period.label,
                "from_us": period.start_us,
                "until_us": period.end_us,
            }
        )
    refused = [("month", "UTC", "2026-13"), ("hour", "Europe/Berlin", "2026-10-25T02"),
               ("hour", "Europe/Berlin", "2026-03-29T02"), ("day", "Pacific/Apia", "2011-12-30"),
               ("week", "UTC", "2026-W54")]  # fmt: skip
    for calendar, zone, label in refused:
        try:
            Calendar(calendar, zone).parse(label)
        except PeriodError:
            made.append({"calendar": calendar, "time_zone": zone, "refused_label": label})
    return made


def _quantities() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for text, scale in (
        ("12.50", 2), ("0", 0), ("-0.05", 2), ("+4", 0), ("1.500", 2), ("1e3", 0), ("1.5E1", 0),
        (".5", 1), ("5.", 0), ("9223372036854775807", 0), ("-9223372036854775808", 0),
        ("9223372036854775808", 0), ("1.234", 2), ("1,234", 0), ("1 234", 0), ("1_234", 0),
        ("NaN", 0), ("inf", 0), ("", 0), (" 1", 0), ("0x10", 0), ("1e999", 0), ("\u0661", 0),
    ):  # fmt: skip
        try:
            value = parse_quantity(text, scale)
        except QuantityError:
            made.append({"text": text, "scale": scale, "refused": True})
        else:
            canonical = format_quantity(value, scale)
            made.append({"text": text, "scale": scale, "value": value, "canonical": canonical})
    return made


def _derive(channel: builders.Channel) -> dict[str, Any]:
    """Both logs to all open lines: section 8 as one example."""
    return {
        "terms": encode_record(channel.terms).hex(),
        "provider_records": [encode_record(r).hex() for r in channel.provider_log.records],
        "consumer_records": [encode_record(r).hex() for r in channel.consumer_log.records],
        "open_lines": [msgspec.to_builtins(line) for line in channel.derive()],
    }


def _bundle(data: bytes) -> list[dict[str, Any]]:
    return [
        {"number": check.number, "name": check.name, "ok": check.ok}
        for check in verify_bundle(io.BytesIO(data))
    ]


def _evidence(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """What the checks say of the files of evidence and the refutation."""
    return [
        {
            "file": name,
            "digest": evidence_digest(data).hex(),
            "checks": [
                {"number": check.number, "name": check.name, "ok": check.ok, "detail": check.detail}
                for check in (
                    verify_refutation(data)
                    if name.endswith("refutation")
                    else verify_evidence(data)
                )
            ],
        }
        for name, data in files.items()
    ]


def _rotations(channel: builders.Channel) -> dict[str, Any]:
    """Each rotation of a channel, and what follows from it; the first ends a transport key too."""
    seed = channel.provider.name.encode().ljust(32, b"\0")[:32]
    key = channel.provider.signer("transport", 1)
    statements = []
    for index, data in channel.provider_log.rotations():
        record = decode_record(data)
        assert isinstance(record, Rotation)
        text = rotation_text(channel.terms, record)
        statements.append({"index": index, "text": text, "record": data.hex()})
    return {
        "seed": seed.hex(),
        "second_keys": {job: bytes(derive_key(seed, job, 1).verify_key).hex() for job in JOBS},
        "terms": encode_record(channel.terms).hex(),
        "provider_log": statements,
        "log_vkeys": [str(v) for v in channel.provider_log.keyring.log_vkeys("provider")],
        "transport": {
            "key": bytes(key.verify_key).hex(),
            "certificate": certificate_der(channel.provider.name, key).hex(),
            "server_name": server_name(bytes(key.verify_key)),
        },
    }


def _encrypted_seed() -> dict[str, Any]:
    seed, passphrase = bytes(range(32)), "correct horse battery staple"
    salt, nonce = bytes(range(16)), bytes(range(24))
    return {
        "seed": seed.hex(),
        "passphrase": passphrase,
        "salt": salt.hex(),
        "nonce": nonce.hex(),
        "text": encrypt_seed(seed, passphrase.encode(), salt, nonce),
    }


def _reconcile() -> dict[str, Any]:
    """What is made of a few rows, and everything that both sides say in a session about them."""
    rows = [
        Row("tokens", f"e{n}", "project", 10 * n, reconciling.START_US + n * 3600 * 10**6, 0)
        for n in range(1, 9)
    ]
    both = [rows[0], *rows]
    near = msgspec.structs.replace(rows[7], occurred_at=reconciling.START_US - 1)
    ours = reconciling.row_set(both[:-1])
    key = bytes(range(16))
    items = fingerprints(key, ours.digests)
    asker, consenter = reconciling.sides(
        reconciling.row_set(both), reconciling.row_set(both[2:-1], near=[near])
    )
    said: list[InReconciliation] = []

    def note(message: InReconciliation) -> InReconciliation:
        said.append(message)
        return message

    reconciling.talk(asker, consenter, note)
    likenesses = (reconciling.BY_ID, reconciling.BY_CONTENT)
    return {
        "rows": [
            {
                "row": msgspec.to_builtins(row),
                "bytes": encode_row(row).hex(),
                "digest_by_id": likenesses[0].digest(row).hex(),
                "kin_by_id": likenesses[0].kin(row).hex(),
                "digest_by_content": likenesses[1].digest(row).hex(),
                "kin_by_content": likenesses[1].kin(row).hex(),
            }
            for row in (rows[0], msgspec.structs.replace(rows[0], copy=1))
        ],
        "resolution_us": likenesses[1].resolution_us,
        "kin_us": likenesses[1].kin_us,
        "set": {
            "digests": [digest.astype("<u8").tobytes().hex() for digest in ours.digests],
            "salt": asker.salt.hex(),
            "commitment": set_commitment(asker.salt, ours.digests).hex(),
            "key": key.hex(),
            "fingerprints": [f"{item:016x}" for item in items.tolist()],
            "checks": [f"{check:016x}" for check in check_of(key, items).tolist()],
            "cells": Encoder(key, items).next_cells(24).encode().hex(),
        },
        "session": {
            "period": [reconciling.START_US, reconciling.END_US],
            "asker_nonce": asker.nonce.hex(),
            "consenter_nonce": consenter.nonce.hex(),
            "name": asker.name.hex(),
            "messages": [encode_message(message).hex() for message in said],
        },
    }


def make_files() -> dict[str, bytes]:
    """Every vector file."""
    channel = builders.busy_channel()
    compact = channel.bundle(channel.closed[1])
    full = channel.bundle(channel.closed[1], full=True)
    accusations = {
        "author.evidence": accusing.author_evidence(),
        "co-signer.evidence": accusing.cosigner_evidence(),
        "author.refutation": accusing.author_refutation(),
    }
    certificates = certifying.files()
    rotated = builders.rotated_channel()
    extras = extra_vectors.contents(channel.closed[1])
    with_extras = extra_vectors.bundle(channel, extras)
    resold = reselling.files()
    documents: dict[str, Any] = {
        "keys": _keys(channel),
        "records": _records(channel),
        "leaves": _leaves(channel),
        "inclusion": _inclusion(),
        "consistency": _consistency(),
        "heads": _heads(channel),
        "tlog-proof": _tlog_proof(channel),
        "statement": _statement(channel),
        "verdict": _verdict(channel),
        "checkpoint": _checkpoint(channel),
        "line-proof": _line_proof(channel),
        "invite": _invite(channel),
        "words": _words(channel),
        "periods": _periods(),
        "quantities": _quantities(),
        "derive": _derive(channel),
        "disputes": dispute_vectors.disputes(),
        "evidence": _evidence(accusations),
        "certificates": certifying.documents(certificates),
        "rotations": _rotations(rotated),
        "encrypted-seed": _encrypted_seed(),
        "reconcile": _reconcile(),
        "witness": witness_vectors.witness_files(channel),
        "passthrough": reselling.document(resold),
        "segments": segment_vectors.segments(channel),
        "gossip": gossip_vectors.gossip(),
        "extras": extra_vectors.documents(with_extras),
        "bundle": {"compact": _bundle(compact), "full": _bundle(full)},
    }
    files = {
        f"{name}.json": (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
        for name, document in documents.items()
    }
    return (
        files
        | accusations
        | certificates
        | resold
        | {
            "bundle-compact.tally": compact,
            "bundle-full.tally": full,
            "bundle-extras.tally": with_extras,
            "bundle-extras-full.tally": extra_vectors.bundle(channel, extras, full=True),
            "bundle-rotated.tally": rotated.bundle(rotated.closed[1]),
        }
    )
