"""Proofs and notes that name no keys: they hold by the keys that are expected, and by no others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import verifying
from builders import Channel, busy_channel, meter
from hypothesis import given
from hypothesis import strategies as st
from verifying import by_python, proofs

from tallystick.protocol.checks import Check
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import Vkey
from tallystick.protocol.line_proof import build_line_proof
from tallystick.protocol.records import ROLES
from tallystick.protocol.statement import encode_line
from tallystick.protocol.verify_proof import verify_delta_proof, verify_line, verify_note

BUSY = busy_channel()
LOGS = [Keyring(BUSY.terms).log_vkeys(role)[0] for role in ROLES]


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.ok}


def test_a_line_holds_by_both_logs_keys() -> None:
    closed = BUSY.closed[1]
    for index, line in enumerate(closed.lines):
        proof = build_line_proof(closed.lines, index, closed.note)
        checks = verify_line(proof, encode_line(line), LOGS)
        assert failed(checks) == {}
        assert f"payable {line.payable} {line.unit}" in checks[1].detail
        other = encode_line(closed.lines[index - 1])
        assert list(failed(verify_line(proof, other, LOGS))) == ["inclusion"]


def test_a_line_of_another_period_is_not_the_checkpoints() -> None:
    closed = BUSY.closed[1]
    elsewhere = encode_line(BUSY.closed[0].lines[0])
    proof = build_line_proof(closed.lines, 0, closed.note)
    assert (
        "counts in 2026-10, not in 2026-11" in failed(verify_line(proof, elsewhere, LOGS))["line"]
    )


def test_a_note_says_what_both_signed() -> None:
    closed = BUSY.closed[0]
    checks = verify_note(closed.note, LOGS)
    assert failed(checks) == {}
    assert checks[0].detail.endswith("; ".join(closed.checkpoint.totals))
    assert closed.checkpoint.digest().hex() in checks[2].detail


def test_signatures_of_other_keys_do_not_count() -> None:
    closed = BUSY.closed[0]
    fake = replace(LOGS[1], key=LOGS[0].key)
    found = failed(verify_note(closed.note, [LOGS[0], fake]))
    assert list(found) == ["signatures"]
    stranger = Keyring(Channel([meter("x")]).terms).log_vkeys("provider")[0]
    found = failed(verify_note(closed.note, [stranger]))
    assert found["keys"].startswith("no expected key is of acme.example/")
    assert "tally vkey" in found["keys"]
    of_another_kind = [replace(key, kind=4) for key in LOGS]
    assert list(failed(verify_note(closed.note, of_another_kind))) == ["keys", "signatures"]


def test_a_note_with_one_signature_is_not_signed_by_both() -> None:
    note = BUSY.closed[0].note
    one = b"".join(note.splitlines(keepends=True)[:-1])
    assert "exactly two signatures" in failed(verify_note(one, LOGS))["keys"]


def test_of_several_keys_of_a_name_the_one_that_signed_is_taken() -> None:
    older = Vkey(LOGS[0].name, LOGS[0].kind, bytes(32))
    assert failed(verify_note(BUSY.closed[0].note, [older, *LOGS])) == {}


@pytest.mark.parametrize("name", proofs())
def test_each_changed_byte_is_caught(name: str) -> None:
    given = proofs()[name]
    assert all(check[2] for check in by_python(given))
    for position in range(len(given.data)):
        changed = bytearray(given.data)
        changed[position] ^= 1 << position % 8
        assert not all(check[2] for check in by_python(replace(given, data=bytes(changed))))
    for position in range(len(given.beside or b"")):
        beside = bytearray(given.beside or b"")
        beside[position] ^= 1 << position % 8
        assert not all(check[2] for check in by_python(replace(given, beside=bytes(beside))))


@given(st.binary(max_size=300), st.none() | st.binary(max_size=100))
def test_any_bytes_get_an_answer(data: bytes, beside: bytes | None) -> None:
    for verify in (verify_delta_proof, verify_line):
        assert not all(check.ok for check in verify(data, beside, LOGS))
    assert not all(check.ok for check in verify_note(data, LOGS))


def test_the_command_finds_the_leaf_and_takes_keys(tmp_path: Path) -> None:
    delta = proofs()["delta"]
    path = tmp_path / "evt-1.tlog-proof"
    path.write_bytes(delta.data)
    leaf = tmp_path / "evt-1.leaf"
    leaf.write_bytes(delta.beside or b"")
    keys = [f"--vkey={key}" for key in delta.keys]
    done = verifying.tally("verify", str(path), "--json", *keys)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["ok"]
    assert verifying.tally("verify", str(path)).returncode == 1
    moved = leaf.rename(tmp_path / "elsewhere")
    assert "is not there" in verifying.tally("verify", str(path), *keys).stdout
    assert verifying.tally("verify", str(path), "--of", str(moved), *keys).returncode == 0
    missing = verifying.tally("verify", str(path), "--of", str(leaf), *keys)
    assert missing.returncode == 2
    assert "cannot be read" in missing.stderr
    refused = verifying.tally("verify", str(path), "--vkey", "acme")
    assert refused.returncode == 2
    assert "not a verifier key" in refused.stderr
