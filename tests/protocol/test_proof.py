"""The tlog-proof file: what it looks like, what it proves, and that every byte of it counts."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.heads import Head, SignedHead, VerifiedHead, cosign_head, sign_head
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Identity, Vkey, origin
from tallystick.protocol.merkle import inclusion_path, leaf_hash, root_of
from tallystick.protocol.proof import Proof, format_proof, parse_proof, verify_proof

ACME = Identity.from_seed("acme.example", b"a" * 32)
BETA = Identity.from_seed("beta.example", b"b" * 32)
ORIGIN = origin("acme.example", bytes(32))
LOG = Vkey(ORIGIN, ED25519_NOTE, ACME.log_key)
COSIGNER = Vkey("beta.example", ED25519_COSIGNATURE, BETA.cosigner_key)
TIME_SECONDS = 1_793_491_200
RECORDS = [b"record %d" % index for index in range(11)]
LEAVES = [leaf_hash(record) for record in RECORDS]


def head_of(size: int) -> Head:
    """The head of the first records."""
    return Head(ORIGIN, size, root_of(LEAVES[:size]))


def head_note(size: int) -> bytes:
    """The co-signed head of the first records."""
    head = head_of(size)
    signature = sign_head(head, ACME.log)
    cosignature = cosign_head(head, BETA.cosigner, TIME_SECONDS)
    return SignedHead(head, signature, cosignature).note([LOG], [COSIGNER])


def proof_file(index: int, size: int) -> bytes:
    """The proof of one record under the head of the first records."""
    path = inclusion_path(index, size, lambda start, end: root_of(LEAVES[start:end]))
    return format_proof(index, path, head_note(size))


FILE = proof_file(4, 11)


def test_the_file_is_the_specifications() -> None:
    lines = FILE.decode().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 4"]
    assert lines[2] == base64.b64encode(LEAVES[5]).decode()  # the sibling comes first
    assert lines[5] == base64.b64encode(root_of(LEAVES[8:])).decode()  # the root's child last
    assert lines[6] == ""
    assert "\n".join(lines[7:]).encode() == head_note(11)


@pytest.mark.parametrize("size", range(1, len(RECORDS) + 1))
def test_every_record_is_proved(size: int) -> None:
    for index in range(size):
        proof = parse_proof(proof_file(index, size))
        found = verify_proof(proof, RECORDS[index], LOG, COSIGNER)
        assert found == VerifiedHead(head_of(size), TIME_SECONDS)


@given(
    st.integers(0, 10**19 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=64),
    st.binary(max_size=200),
)
def test_proofs_come_back_unchanged(index: int, path: list[bytes], note: bytes) -> None:
    data = format_proof(index, path, note)
    assert parse_proof(data) == Proof(index, tuple(path), note)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with c2sp.org/tlog-proof@v1"),
        (FILE.replace(b"@v1", b"@v2"), "does not begin with"),
        (b"\n" + FILE, "does not begin with"),
        (FILE.replace(b"\n", b"\r\n"), "does not begin with"),
        (FILE.replace(b"index", b"extra YWdl\nindex"), "extra line"),
        (FILE.replace(b"index 4", b"index 04"), "an index and hashes"),
        (FILE.replace(b"index 4", b"index -4"), "an index and hashes"),
        (FILE.replace(b"index 4", b"index  4"), "an index and hashes"),
        (FILE.replace(b"index 4", b"index " + b"9" * 20), "an index and hashes"),
        (FILE.replace(b"index 4\n", b""), "an index and hashes"),
        (FILE.replace(b"index 4\n", b"index 4\n\xff\n"), "an index and hashes"),
        (FILE.replace(b"index 4\n", b"index 4\nAAAA\n"), "an index and hashes"),
        (b"c2sp.org/tlog-proof@v1\n\n" + head_note(11), "an index and hashes"),
        (b"c2sp.org/tlog-proof@v1\nindex 0\n", "an index and hashes"),
        (format_proof(0, [LEAVES[0]] * 65, b""), "canonical"),
        (
            f"c2sp.org/tlog-proof@v1\nindex 0\n{'A' * 42}B=\n\n".encode(),  # a spare bit is set
            "canonical",
        ),
    ],
)
def test_what_a_proof_is_not(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_proof(data)


def test_a_proof_is_of_one_record_at_one_place() -> None:
    proof = parse_proof(FILE)
    for index, path, leaf_data in (
        (4, proof.path, RECORDS[5]),
        (5, proof.path, RECORDS[4]),
        (11, proof.path, RECORDS[4]),
        (4, proof.path[:-1], RECORDS[4]),
        (4, (*proof.path, LEAVES[0]), RECORDS[4]),
    ):
        with pytest.raises(ProofError):
            verify_proof(Proof(index, path, proof.note), leaf_data, LOG, COSIGNER)


def test_a_proof_needs_the_head_that_both_signed() -> None:
    proof = parse_proof(FILE)
    with pytest.raises(ProofError, match="root"):
        verify_proof(Proof(4, proof.path, head_note(10)), RECORDS[4], LOG, COSIGNER)
    for log, cosigner in (
        (Vkey(ORIGIN, ED25519_NOTE, BETA.log_key), COSIGNER),
        (LOG, Vkey("beta.example", ED25519_COSIGNATURE, ACME.cosigner_key)),
    ):
        with pytest.raises(ProofError, match="no signature of"):
            verify_proof(proof, RECORDS[4], log, cosigner)


def test_an_inner_node_is_not_a_record() -> None:
    """What a node's hash is over, shown as a leaf one level up, proves nothing."""
    path = parse_proof(FILE).path
    with pytest.raises(ProofError):
        verify_proof(Proof(2, path[1:], head_note(11)), LEAVES[4] + LEAVES[5], LOG, COSIGNER)


@pytest.mark.parametrize("flip", [0x01, 0x04, 0x20, 0x80])
def test_any_changed_byte_is_noticed(flip: int) -> None:
    for at in range(len(FILE)):
        changed = bytearray(FILE)
        changed[at] ^= flip
        with pytest.raises((FormatError, ProofError)):
            verify_proof(parse_proof(bytes(changed)), RECORDS[4], LOG, COSIGNER)


def test_any_cut_is_noticed() -> None:
    for length in range(len(FILE)):
        with pytest.raises((FormatError, ProofError)):
            verify_proof(parse_proof(FILE[:length]), RECORDS[4], LOG, COSIGNER)
