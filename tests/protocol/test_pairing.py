"""Pairing without I/O: the code, the proofs of both sides, the words."""

from __future__ import annotations

import msgspec
import pytest
from builders import identity
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError, InputError, PeerBreach, ProofError
from tallystick.protocol.keys import Identity
from tallystick.protocol.pairing import (
    Challenge,
    Invite,
    Join,
    PeerIdentity,
    Refused,
    StoredInvite,
    build_join,
    build_welcome,
    comparison_words,
    decode_identity,
    decode_pairing,
    encode_identity,
    encode_pairing,
    invite_id,
    parse_invite,
    secret_digest,
    verify_join,
    verify_welcome,
)
from tallystick.protocol.words import WORDS

ACME, BETA, MALLORY = (
    identity("acme.example"),
    identity("beta.example"),
    identity("mallory.example"),
)
SECRET = b"0123456789abcdef"
CHALLENGE = Challenge(b"c" * 32)


def public(party: Identity) -> PeerIdentity:
    return PeerIdentity(
        party.name,
        party.log_key,
        party.cosigner_key,
        party.transport_key,
        b"certificate",
        "127.0.0.1:7450",
    )


INVITE = Invite(
    ACME.name,
    ACME.log_key,
    ACME.cosigner_key,
    ACME.transport_key,
    "acme.example:7450",
    SECRET,
    1_800_000_000,
)
STORED = StoredInvite(invite_id(SECRET), secret_digest(SECRET), 1_800_000_000, b"")


def a_join() -> Join:
    return build_join(BETA, public(BETA), INVITE, CHALLENGE)


# The code


@given(secret=st.binary(min_size=16, max_size=16), expires=st.integers(0, 2**40))
def test_a_code_says_what_was_put_in(secret: bytes, expires: int) -> None:
    invite = msgspec.structs.replace(INVITE, secret=secret, expires_at_s=expires)
    assert parse_invite(invite.encode()) == invite


def test_a_code_is_one_line_and_survives_wrapping() -> None:
    code = INVITE.encode()
    assert code.startswith("tally1-") and not set(code) & set("= \n")
    wrapped = "\r\n".join(code[at : at + 30] for at in range(0, len(code), 30))
    assert parse_invite(f"  {wrapped} \n") == INVITE


def test_every_cut_is_called_a_cut() -> None:
    code = INVITE.encode()
    for size in range(len("tally1-"), len(code)):
        with pytest.raises(InputError, match="cut"):
            parse_invite(code[:size])


def test_a_wrong_letter_is_called_mistyped() -> None:
    code = INVITE.encode()
    at = len(code) // 2
    with pytest.raises(InputError, match="mistyped"):
        parse_invite(code[:at] + ("A" if code[at] != "A" else "B") + code[at + 1 :])
    with pytest.raises(InputError, match="mistyped: '!'"):
        parse_invite(code[:at] + "!" + code[at + 1 :])


@given(data=st.data())
def test_no_changed_letter_is_accepted(data: st.DataObject) -> None:
    code = INVITE.encode()
    at = data.draw(st.integers(len("tally1-"), len(code) - 3))
    letter = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda new: new != code[at]))
    with pytest.raises(InputError):
        parse_invite(code[:at] + letter + code[at + 1 :])


@pytest.mark.parametrize(
    ("code", "said"),
    [("tally2-AAAA", "another version"), ("hello", "not a pairing code"), ("", "not a pairing")],
)
def test_other_texts_are_named(code: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_invite(code)


# What the joiner proves


def test_a_join_that_is_as_it_should_be_is_accepted_also_over_the_wire() -> None:
    heard = decode_pairing(encode_pairing(a_join()))
    assert isinstance(heard, Join) and heard.identity == public(BETA)
    verify_join(heard, STORED, CHALLENGE, ACME.transport_key)


def test_the_stored_invite_does_not_hold_the_secret() -> None:
    assert SECRET not in msgspec.msgpack.encode(STORED)


def test_a_wrong_secret_is_refused() -> None:
    join = build_join(
        BETA, public(BETA), msgspec.structs.replace(INVITE, secret=bytes(16)), CHALLENGE
    )
    with pytest.raises(ProofError, match="the secret is wrong"):
        verify_join(join, STORED, CHALLENGE, ACME.transport_key)


def test_a_join_is_bound_to_its_challenge_and_its_inviter() -> None:
    with pytest.raises(ProofError):
        verify_join(a_join(), STORED, Challenge(b"d" * 32), ACME.transport_key)
    with pytest.raises(ProofError):
        verify_join(a_join(), STORED, CHALLENGE, MALLORY.transport_key)


def test_another_address_in_a_join_is_noticed() -> None:
    moved = msgspec.structs.replace(public(BETA), address="evil.example:1")
    with pytest.raises(ProofError):
        verify_join(
            msgspec.structs.replace(a_join(), identity=moved),
            STORED,
            CHALLENGE,
            ACME.transport_key,
        )


@pytest.mark.parametrize("job", ["log", "cosigner", "transport"])
def test_each_key_must_be_owned(job: str) -> None:
    """Somebody with the secret cannot hand over a key of another."""
    claimed = msgspec.structs.replace(
        public(BETA), **{f"{job}_key": getattr(MALLORY, f"{job}_key")}
    )
    join = build_join(BETA, claimed, INVITE, CHALLENGE)
    with pytest.raises(ProofError, match=f"{job} key"):
        verify_join(join, STORED, CHALLENGE, ACME.transport_key)


def test_a_name_that_is_no_party_name_is_refused() -> None:
    claimed = msgspec.structs.replace(public(BETA), name="Beta\x1b[2J")
    with pytest.raises(ProofError, match="party name"):
        verify_join(
            build_join(BETA, claimed, INVITE, CHALLENGE), STORED, CHALLENGE, ACME.transport_key
        )


# What the inviter proves


def test_the_inviter_is_who_the_code_names() -> None:
    welcome = build_welcome(ACME, public(ACME), public(BETA), CHALLENGE)
    assert verify_welcome(welcome, INVITE, public(BETA), CHALLENGE) == public(ACME)


def test_another_inviter_is_refused() -> None:
    welcome = build_welcome(MALLORY, public(MALLORY), public(BETA), CHALLENGE)
    with pytest.raises(ProofError, match="another name"):
        verify_welcome(welcome, INVITE, public(BETA), CHALLENGE)
    lying = build_welcome(MALLORY, public(ACME), public(BETA), CHALLENGE)
    with pytest.raises(ProofError, match="log key"):
        verify_welcome(lying, INVITE, public(BETA), CHALLENGE)


def test_a_welcome_is_for_one_joiner_and_one_challenge() -> None:
    welcome = build_welcome(ACME, public(ACME), public(BETA), CHALLENGE)
    with pytest.raises(ProofError):
        verify_welcome(welcome, INVITE, public(MALLORY), CHALLENGE)
    with pytest.raises(ProofError):
        verify_welcome(welcome, INVITE, public(BETA), Challenge(b"d" * 32))


# Bodies


@given(body=st.binary(max_size=200))
def test_garbage_is_a_breach(body: bytes) -> None:
    with pytest.raises(PeerBreach):
        decode_pairing(b"\xc1" + body)


def test_another_encoding_of_the_same_message_is_a_breach() -> None:
    body = encode_pairing(Refused("used", "it was used"))
    assert body[0] == 0x93
    with pytest.raises(PeerBreach, match="canonical"):
        decode_pairing(b"\xdc\x00\x03" + body[1:])


def test_a_text_cannot_move_the_terminals_cursor() -> None:
    with pytest.raises(PeerBreach):
        decode_pairing(encode_pairing(Refused("used", "\x1b[2Jhello")))


def test_an_identity_is_stored_and_read_back() -> None:
    assert decode_identity(encode_identity(public(BETA))) == public(BETA)
    with pytest.raises(FormatError):
        decode_identity(encode_identity(public(BETA))[:-1])


# Words


def test_both_sides_show_the_same_words() -> None:
    words = comparison_words(ACME, public(BETA))
    assert words == comparison_words(BETA, public(ACME))
    assert len(words) == 8 and set(words) <= set(WORDS)


@pytest.mark.parametrize("field", ["log_key", "cosigner_key", "transport_key"])
def test_any_other_key_gives_other_words(field: str) -> None:
    other = msgspec.structs.replace(public(BETA), **{field: getattr(MALLORY, field)})
    assert comparison_words(ACME, other) != comparison_words(ACME, BETA)


def test_the_words_are_short_plain_and_distinct() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert all(3 <= len(w) <= 7 and w.isascii() and w.isalpha() and w.islower() for w in WORDS)
