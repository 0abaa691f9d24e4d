"""Heads: three lines of a tlog-checkpoint, two signatures, and nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.heads import (
    Head,
    SignedHead,
    VerifiedHead,
    cosign_head,
    head_text,
    parse_head,
    parse_head_note,
    sign_head,
    verify_head_cosignature,
    verify_head_signature,
)
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Identity, Vkey, origin
from tallystick.protocol.notes import Note, Signature, cosigned_message, format_note, parse_note

ACME = Identity.from_seed("acme.example", b"a" * 32)
BETA = Identity.from_seed("beta.example", b"b" * 32)
ORIGIN = origin("acme.example", bytes(range(32)))
TIME_SECONDS = 1_793_491_200
ROOT = bytes(range(100, 132))
HEAD = Head(ORIGIN, 20_852_163, ROOT)
SIGNED = SignedHead(HEAD, sign_head(HEAD, ACME.log), cosign_head(HEAD, BETA.cosigner, TIME_SECONDS))
LOG = Vkey(ORIGIN, ED25519_NOTE, ACME.log_key)
COSIGNER = Vkey("beta.example", ED25519_COSIGNATURE, BETA.cosigner_key)
NOTE = SIGNED.note([LOG], [COSIGNER])

# The body of the example in c2sp.org/tlog-checkpoint.
EXAMPLE = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

heads = st.builds(
    Head,
    st.from_regex(r"[a-z0-9./-]{1,80}", fullmatch=True),
    st.integers(0, 10**19 - 1),
    st.binary(min_size=32, max_size=32),
)


def test_the_specifications_example() -> None:
    head = parse_head(EXAMPLE)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert head.root.hex().startswith("0ac5186a91863e8e1d90c808014aa89b")
    assert head_text(head) == EXAMPLE


@given(heads)
def test_heads_come_back_unchanged(head: Head) -> None:
    assert parse_head(head_text(head)) == head


GOOD = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n7\n{GOOD}",
        f"{ORIGIN}\n7\n{GOOD}\n\n",
        f"{ORIGIN}\n7\n{GOOD}\nan extension\n",
        f"\n7\n{GOOD}\n",
        f"two words\n7\n{GOOD}\n",
        f"a+b\n7\n{GOOD}\n",
        f"{ORIGIN}\n07\n{GOOD}\n",
        f"{ORIGIN}\n+7\n{GOOD}\n",
        f"{ORIGIN}\n-7\n{GOOD}\n",
        f"{ORIGIN}\n 7\n{GOOD}\n",
        f"{ORIGIN}\n٧\n{GOOD}\n",
        f"{ORIGIN}\n\n{GOOD}\n",
        f"{ORIGIN}\n{10**19}\n{GOOD}\n",
        f"{ORIGIN}\n7\n{base64.b64encode(ROOT[1:]).decode()}\n",
        f"{ORIGIN}\n7\n{base64.b64encode(ROOT + ROOT[:1]).decode()}\n",
        f"{ORIGIN}\n7\n{GOOD[:-1]}\n",
    ],
)
def test_what_a_head_is_not(text: str) -> None:
    with pytest.raises(FormatError, match="three lines"):
        parse_head(text)


def test_a_roots_spare_bits_are_zero() -> None:
    assert GOOD[-2] == "M"  # 0b001100, and the last two bits are spare
    with pytest.raises(FormatError, match="canonical"):
        parse_head(f"{ORIGIN}\n7\n{GOOD[:-2]}N=\n")


def test_the_authors_signature_is_over_the_text() -> None:
    assert len(SIGNED.signature) == 64
    ACME.log.verify_key.verify(head_text(HEAD).encode(), SIGNED.signature)
    verify_head_signature(HEAD, ACME.log_key, SIGNED.signature)


def test_the_peers_cosignature_is_over_the_time_and_the_text() -> None:
    assert len(SIGNED.cosignature) == 72
    assert int.from_bytes(SIGNED.cosignature[:8], "big") == TIME_SECONDS
    message = f"cosignature/v1\ntime {TIME_SECONDS}\n{head_text(HEAD)}".encode()
    BETA.cosigner.verify_key.verify(message, SIGNED.cosignature[8:])
    args = ("beta.example", BETA.cosigner_key, SIGNED.cosignature)
    assert verify_head_cosignature(HEAD, *args) == TIME_SECONDS


@pytest.mark.parametrize(
    "other",
    [
        Head(ORIGIN + "0", HEAD.size, ROOT),
        Head(ORIGIN, HEAD.size + 1, ROOT),
        Head(ORIGIN, HEAD.size, bytes(32)),
    ],
)
def test_signatures_hold_for_no_other_head(other: Head) -> None:
    with pytest.raises(ProofError, match=f"head {other.size}"):
        verify_head_signature(other, ACME.log_key, SIGNED.signature)
    with pytest.raises(ProofError, match=r"cosignature of beta\.example"):
        verify_head_cosignature(other, "beta.example", BETA.cosigner_key, SIGNED.cosignature)


def test_signatures_hold_for_no_other_key() -> None:
    with pytest.raises(ProofError):
        verify_head_signature(HEAD, BETA.log_key, SIGNED.signature)
    with pytest.raises(ProofError):
        verify_head_cosignature(HEAD, "beta.example", BETA.log_key, SIGNED.cosignature)


def test_another_time_spoils_the_cosignature() -> None:
    later = (TIME_SECONDS + 1).to_bytes(8, "big") + SIGNED.cosignature[8:]
    with pytest.raises(ProofError, match="does not hold"):
        verify_head_cosignature(HEAD, "beta.example", BETA.cosigner_key, later)


def test_a_cosignatures_time_has_63_bits() -> None:
    blob = (2**63).to_bytes(8, "big")
    blob += BETA.cosigner.sign(cosigned_message(head_text(HEAD), 2**63)).signature
    with pytest.raises(ProofError, match="length or time"):
        verify_head_cosignature(HEAD, "beta.example", BETA.cosigner_key, blob)


def test_a_signed_head_is_a_note_of_two_lines() -> None:
    text, _, lines = NOTE.decode().rpartition("\n\n")
    assert text + "\n" == head_text(HEAD)
    assert [line.split(" ")[:2] for line in lines.splitlines()] == [
        ["—", ORIGIN],
        ["—", "beta.example"],
    ]
    assert parse_head_note(NOTE, LOG, COSIGNER) == VerifiedHead(HEAD, TIME_SECONDS)


def with_lines(*signatures: Signature) -> bytes:
    """The head's note with these lines instead of its own."""
    return format_note(Note(head_text(HEAD), signatures))


WITNESS = Signature("witness.example", b"abcd", bytes(72))


def test_a_head_note_begins_with_its_two_lines_in_order() -> None:
    author, peer = parse_note(NOTE).signatures
    for wrong in (
        (author,),
        (peer,),
        (peer, author),
        (author, WITNESS, peer),
        (WITNESS, author, peer),
        (author, author),
    ):
        with pytest.raises(ProofError, match="two signatures"):
            parse_head_note(with_lines(*wrong), LOG, COSIGNER)


def test_lines_of_witnesses_follow_in_order_and_are_not_judged() -> None:
    author, peer = parse_note(NOTE).signatures
    first, second = Signature("a.example", b"abcd", b"1"), Signature("a.example", b"abce", b"2")
    note = SIGNED.note([LOG], [COSIGNER], [WITNESS, second, first])
    assert note == with_lines(author, peer, first, second, WITNESS)
    assert parse_head_note(note, LOG, COSIGNER) == VerifiedHead(HEAD, TIME_SECONDS)
    twice = Signature(peer.name, peer.key_id, bytes(72))
    with pytest.raises(ProofError, match="does not hold"):
        parse_head_note(with_lines(author, peer, twice), LOG, COSIGNER)


def test_a_head_note_of_another_log_or_peer_is_refused() -> None:
    elsewhere = Vkey(origin("acme.example", bytes(32)), ED25519_NOTE, ACME.log_key)
    with pytest.raises(ProofError, match=f"the head is of {ORIGIN}"):
        parse_head_note(NOTE, elsewhere, COSIGNER)
    with pytest.raises(ProofError, match="two signatures"):
        zeta = Vkey("zeta.example", ED25519_COSIGNATURE, BETA.cosigner_key)
        parse_head_note(NOTE, LOG, zeta)
    for log, cosigner in (
        (Vkey(ORIGIN, ED25519_NOTE, BETA.log_key), COSIGNER),
        (LOG, Vkey("beta.example", ED25519_COSIGNATURE, ACME.cosigner_key)),
        (LOG, Vkey("beta.example", ED25519_NOTE, BETA.cosigner_key)),
    ):
        with pytest.raises(ProofError, match="no signature of"):
            parse_head_note(NOTE, log, cosigner)


def test_a_note_that_is_no_head_is_refused() -> None:
    author, peer = parse_note(NOTE).signatures
    with pytest.raises(FormatError, match="three lines"):
        parse_head_note(format_note(Note("a poem\n", (author, peer))), LOG, COSIGNER)


@pytest.mark.parametrize("flip", [0x01, 0x04, 0x20, 0x80])
def test_any_changed_byte_of_a_head_note_is_noticed(flip: int) -> None:
    for at in range(len(NOTE)):
        changed = bytearray(NOTE)
        changed[at] ^= flip
        with pytest.raises((FormatError, ProofError)):
            parse_head_note(bytes(changed), LOG, COSIGNER)


def test_any_cut_of_a_head_note_is_noticed() -> None:
    for length in range(len(NOTE)):
        with pytest.raises((FormatError, ProofError)):
            parse_head_note(NOTE[:length], LOG, COSIGNER)
