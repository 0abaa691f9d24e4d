"""Known answers of the witness protocol and of policies, over the busy channel's provider log."""

from __future__ import annotations

from typing import Any

import builders

from tallystick.protocol.contradiction import build_contradiction
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey, derive_key, witness_name
from tallystick.protocol.merkle import chain_leaves, consistency_path, root_of
from tallystick.protocol.notes import Note, format_note, parse_note
from tallystick.protocol.policy import Witness, format_policy, k_of_n
from tallystick.protocol.records import encode_record
from tallystick.protocol.witness import (
    AddCheckpoint,
    cosign_checkpoint,
    format_request,
    origin_hash,
)

OLD_SIZE = 5
SEED = bytes(range(32))
PARTY = "gamma.example"


def witness_files(channel: builders.Channel) -> dict[str, Any]:
    """A request with its proof, the line that answers it, a policy that the head satisfies, and
    what convicts the witness once it co-signs an older head as the newest it knows.
    """
    log = channel.provider_log
    key = derive_key(SEED, "witness")
    vkey = Vkey(witness_name(PARTY), ED25519_COSIGNATURE, bytes(key.verify_key))
    leaves = chain_leaves(channel.id, [encode_record(record) for record in log.records])
    path = consistency_path(OLD_SIZE, len(leaves), lambda a, b: root_of(leaves[a:b]))
    signed = parse_note(log.head_note())
    shown = Note(signed.text, signed.signatures[:1])
    line = cosign_checkpoint(signed.text, vkey.name, key, builders.COSIGNED_AT_SECONDS)
    older = head_text(Head(log.head().origin, OLD_SIZE, root_of(leaves[:OLD_SIZE])))
    later = cosign_checkpoint(older, vkey.name, key, builders.COSIGNED_AT_SECONDS + 9)
    evidence = build_contradiction(vkey, Note(signed.text, (line,)), Note(older, (later,)))
    policy = k_of_n([Witness("gamma", vkey, "https://witness.gamma.example")], 1)
    return {
        "seed": SEED.hex(),
        "party": PARTY,
        "witness_vkey": str(vkey),
        "log_vkey": str(Keyring(channel.terms).log_vkeys("provider")[0]),
        "cosigner_vkey": str(Keyring(channel.terms).cosigner_vkeys("consumer")[0]),
        "old_size": OLD_SIZE,
        "old_root": root_of(leaves[:OLD_SIZE]).hex(),
        "request": format_request(AddCheckpoint(OLD_SIZE, tuple(path), shown)).decode(),
        "cosigned_at": builders.COSIGNED_AT_SECONDS,
        "answer": line.line(),
        "note": format_note(Note(signed.text, (*signed.signatures, line))).decode(),
        "origin_hash": origin_hash(log.head().origin),
        "policy": format_policy(policy).decode(),
        "evidence": evidence.decode(),
    }
