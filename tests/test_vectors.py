"""The known-answer vectors: those on disk are what the implementation makes, and what it accepts.

`signed-note.json` and `rfc6962.json` come from the standards' own examples and not from us. What
was signed before there were verdicts is kept as it was, and made anew by nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from vector_files import make_files

from tallystick.node.seed import decrypt_seed
from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.contradiction import verify_contradiction
from tallystick.protocol.declarations import Placed, declared, sides_of
from tallystick.protocol.errors import FormatError
from tallystick.protocol.evidence import verify_evidence
from tallystick.protocol.extras import Trust
from tallystick.protocol.heads import parse_head_note
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import parse_vkey
from tallystick.protocol.line_proof import verify_line_proof
from tallystick.protocol.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from tallystick.protocol.notes import parse_note, verify_note_signature
from tallystick.protocol.pairing import parse_invite
from tallystick.protocol.policy import judge, parse_policy
from tallystick.protocol.proof import parse_proof, verify_proof
from tallystick.protocol.records import (
    ROLES,
    Declaration,
    Reveal,
    Rotation,
    Terms,
    batch_bytes,
    decode_record,
    record_digest,
)
from tallystick.protocol.refutation import verify_refutation
from tallystick.protocol.replay import rederive, survey_log
from tallystick.protocol.statement import decode_line
from tallystick.protocol.terms import channel_id
from tallystick.protocol.timestamps import parse_trusted
from tallystick.protocol.verdict import decode_verdict, make_verdict, verdict_digest
from tallystick.protocol.verify import verify_bundle
from tallystick.protocol.verify_certificate import verify_certificate
from tallystick.protocol.witness import Seen, examine, parse_request, read_answer

VECTORS = Path(__file__).parent / "vectors"
MADE = make_files()
KEPT = {"bundle-without-verdict.tally", "checkpoint-without-verdict.json"}


def _load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


@pytest.mark.parametrize("name", MADE)
def test_made_anew_they_are_the_same_bytes(name: str) -> None:
    assert (VECTORS / name).read_bytes() == MADE[name]


def test_every_file_is_known_and_specified() -> None:
    formats = (VECTORS.parents[1] / "docs" / "formats.md").read_text()
    files = {file.name for file in VECTORS.iterdir()}
    assert files == {*MADE, *KEPT, "rfc6962.json", "signed-note.json"}
    assert [name for name in sorted(files) if name not in formats] == []


def test_refused_records() -> None:
    for case in _load("records.json")["refused"]:
        with pytest.raises(FormatError):
            decode_record(bytes.fromhex(case["bytes"]))


def test_proofs_from_disk_hold() -> None:
    for case in _load("inclusion.json"):
        path = [bytes.fromhex(item) for item in case["path"]]
        leaf, root = bytes.fromhex(case["leaf"]), bytes.fromhex(case["root"])
        verify_inclusion(leaf, case["index"], case["size"], path, root)
    for case in _load("consistency.json"):
        path = [bytes.fromhex(item) for item in case["path"]]
        roots = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
        verify_consistency(case["old_size"], roots[0], case["new_size"], roots[1], path)
    case = _load("tlog-proof.json")
    keys = parse_vkey(case["log_vkey"]), parse_vkey(case["cosigner_vkey"])
    verify_proof(parse_proof(case["proof"].encode()), bytes.fromhex(case["leaf"]), *keys)
    note = _load("heads.json")
    head = parse_head_note(note["note"].encode(), *keys)
    assert (head.head.size, head.cosigned_at_s) == (note["size"], note["cosigned_at"])
    case = _load("line-proof.json")
    terms = decode_record(bytes.fromhex(case["terms"]))
    assert isinstance(terms, Terms)
    line = bytes.fromhex(case["line"])
    verify_line_proof(case["proof"].encode(), line, Keyring(terms))


def test_a_witnesss_answer_from_disk() -> None:
    case = _load("witness.json")
    request = parse_request(case["request"].encode())
    seen = Seen(case["old_size"], bytes.fromhex(case["old_root"]))
    log, witness = parse_vkey(case["log_vkey"]), parse_vkey(case["witness_vkey"])
    examine(request, [log], seen)
    answer = read_answer(200, "", case["answer"].encode(), request.checkpoint.text, [witness])
    assert isinstance(answer, tuple)
    assert [one.at_s for one in answer] == [case["cosigned_at"]]
    note = case["note"].encode()
    assert judge(parse_policy(case["policy"].encode()), parse_note(note)).satisfied
    parse_head_note(note, log, parse_vkey(case["cosigner_vkey"]))
    checks = verify_contradiction(case["evidence"].encode())
    assert all(check.ok for check in checks)
    assert "9 seconds later" in checks[-1].detail


def test_derivation_from_disk() -> None:
    case = _load("derive.json")
    terms = decode_record(bytes.fromhex(case["terms"]))
    assert isinstance(terms, Terms)
    logs = [
        [batch_bytes([bytes.fromhex(record)]) for record in case[f"{role}_records"]]
        for role in ("provider", "consumer")
    ]
    lines = rederive(
        terms, channel_id(terms), lambda: logs[0], lambda: logs[1], (len(logs[0]), len(logs[1]))
    )
    assert [msgspec.to_builtins(line) for line in lines] == case["open_lines"]


def test_disputes_from_disk() -> None:
    case = _load("disputes.json")
    terms = decode_record(bytes.fromhex(case["terms"]))
    assert isinstance(terms, Terms)
    for one in case["cases"]:
        logs = [
            [batch_bytes([bytes.fromhex(record)]) for record in one[f"{role}_records"]]
            for role in ROLES
        ]
        sizes = (len(logs[0]), len(logs[1]))
        lines = rederive(terms, channel_id(terms), lambda: logs[0], lambda: logs[1], sizes)  # noqa: B023
        assert [msgspec.to_builtins(line) for line in lines] == one["open_lines"]
    for one in case["invalid"]:
        before = batch_bytes([bytes.fromhex(record) for record in one["before"]])
        batch = batch_bytes([bytes.fromhex(one["record"])])
        size = len(one["before"])
        id_ = channel_id(terms)
        assert not survey_log(terms, "consumer", id_, lambda: [before], size).fault  # noqa: B023
        found = survey_log(terms, "consumer", id_, lambda: [before, batch], size + 1)  # noqa: B023
        assert found.fault
        assert found.fault.message.startswith(f"record {size}: ")


def test_evidence_and_a_refutation_from_disk() -> None:
    for case in _load("evidence.json"):
        data = (VECTORS / case["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == case["digest"]
        verify = verify_refutation if case["file"].endswith("refutation") else verify_evidence
        found = [(check.name, check.ok, check.detail) for check in verify(data)]
        assert found == [(check["name"], True, check["detail"]) for check in case["checks"]]


def test_bundles_with_extras_from_disk() -> None:
    case = _load("extras.json")
    certificates = tuple(parse_trusted(case["certificates"].encode()))
    policies = {name: parse_policy(text.encode()) for name, text in case["policies"].items()}
    trusts = {
        "nobody": Trust(),
        "one": Trust(policies["one"], certificates),
        "two": Trust(policies["two"]),
    }
    for name, trust in trusts.items():
        with (VECTORS / "bundle-extras.tally").open("rb") as file:
            found = verify_bundle(file, trust)
        assert all(check.ok for check in found[:7])
        stated = [(one["name"], one["ok"], one.get("detail")) for one in case["checks"][name]]
        said = [(check.name, check.ok, check.detail if check.ok else None) for check in found[7:]]
        assert said == stated
        with (VECTORS / "bundle-extras-full.tally").open("rb") as file:
            full = verify_bundle(file, trust)
        assert [check.detail for check in full[12:]] == [check.detail for check in found[7:]]


def test_what_was_signed_before_there_were_verdicts_still_holds() -> None:
    with (VECTORS / "bundle-without-verdict.tally").open("rb") as file:
        checks = verify_bundle(file)
    assert [check.name for check in checks if not check.ok] == []
    assert len(checks) == 12
    before = b""
    for case in _load("checkpoint-without-verdict.json"):
        checkpoint = parse_checkpoint(parse_note(case["note"].encode()).text)
        assert (checkpoint.verdict, checkpoint.previous) == (b"", before)
        assert (checkpoint.text(), checkpoint.digest().hex()) == (case["text"], case["digest"])
        before = checkpoint.digest()


def test_the_verdict_from_disk() -> None:
    case = _load("verdict.json")
    terms = decode_record(bytes.fromhex(case["terms"]))
    assert isinstance(terms, Terms)
    logs = []
    for role in ROLES:
        placed: list[Placed] = []
        for index, row in enumerate(case["declarations"][role]):
            record = decode_record(bytes.fromhex(row["record"]))
            assert isinstance(record, Declaration | Reveal)
            assert record_digest(record).hex() == row["digest"]
            placed.append((index, record))
        logs.append(placed)
    provider, consumer = declared(*sides_of(terms, case["period"], logs[0], logs[1]))
    lines = [decode_line(bytes.fromhex(data)) for data in case["lines"]]
    made = make_verdict(terms, case["period"], lines, provider.totals, consumer.totals)
    assert [list(row) for row in msgspec.to_builtins(made.meters)] == case["meters"]
    assert made == decode_verdict(bytes.fromhex(case["bytes"]))
    assert verdict_digest(made).hex() == case["digest"]


def test_certificates_from_disk() -> None:
    for case in _load("certificates.json"):
        data = (VECTORS / case["file"]).read_bytes()
        found = [(check.name, check.ok, check.detail) for check in verify_certificate(data)]
        assert found == [(check["name"], True, check["detail"]) for check in case["checks"]]


def test_the_invite_from_disk() -> None:
    case = _load("invite.json")
    invite = parse_invite(case["code"])
    assert (invite.name, invite.secret.hex()) == (case["name"], case["secret"])


def test_the_standards_own_examples() -> None:
    note = _load("signed-note.json")
    verify_note_signature(parse_note(note["note"].encode()), parse_vkey(note["vkey"]))
    tree = _load("rfc6962.json")
    leaves = [leaf_hash(bytes.fromhex(item)) for item in tree["inputs"]]
    assert [root_of(leaves[:size]).hex() for size in range(len(leaves) + 1)] == tree["roots"]


def test_rotations_and_their_bundle_from_disk() -> None:
    case = _load("rotations.json")
    terms = decode_record(bytes.fromhex(case["terms"]))
    assert isinstance(terms, Terms)
    ring = Keyring(terms)
    for step in case["provider_log"]:
        record = decode_record(bytes.fromhex(step["record"]))
        assert isinstance(record, Rotation)
        ring = ring.after(step["index"], record)
    assert [str(vkey) for vkey in ring.log_vkeys("provider")] == case["log_vkeys"]
    with (VECTORS / "bundle-rotated.tally").open("rb") as file:
        assert all(check.ok for check in verify_bundle(file))


def test_the_encrypted_seed_from_disk_opens() -> None:
    case = _load("encrypted-seed.json")
    seed = decrypt_seed(case["text"], case["passphrase"].encode(), "it")
    assert seed.hex() == case["seed"]
