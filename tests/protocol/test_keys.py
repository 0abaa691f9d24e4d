"""Keys: derived as specified, shown as verifier keys, and names that are like domains."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, InputError, ProofError
from tallystick.protocol.keys import (
    Identity,
    Vkey,
    check_party_name,
    derive_key,
    parse_vkey,
    verify_signature,
)

SEED = bytes(range(32))


@pytest.mark.parametrize("job", ["log", "cosigner", "transport", "witness"])
def test_a_key_is_hkdf_expand_of_the_seed(job: str) -> None:
    block = hmac.new(SEED, f"tallystick/v1 key {job}\x01".encode(), hashlib.sha256).digest()
    assert derive_key(SEED, job) == SigningKey(block)  # type: ignore[arg-type]


def test_three_jobs_three_keys() -> None:
    who = Identity.from_seed("acme.example", SEED)
    assert len({who.log_key, who.cosigner_key, who.transport_key}) == 3


def test_a_short_seed_is_refused() -> None:
    with pytest.raises(FormatError, match="31"):
        derive_key(SEED[:31], "log")


def test_the_specifications_example() -> None:
    text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    vkey = parse_vkey(text)
    assert (vkey.name, vkey.kind, str(vkey)) == ("example.com/foo", 1, text)


@given(st.binary(min_size=32, max_size=32), st.sampled_from((1, 4)), st.data())
def test_a_changed_vkey_is_refused(key: bytes, kind: int, data: st.DataObject) -> None:
    text = str(Vkey("acme.example", kind, key))
    assert parse_vkey(text) == Vkey("acme.example", kind, key)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    with pytest.raises(FormatError):
        parse_vkey(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize("name", ["acme", "a.b", "x-1.example", "1.2"])
def test_names_that_are_taken(name: str) -> None:
    assert check_party_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Acme", "a b", "-a", "a-", "a..b", ".a", "a/b", "a+b", "\u00e9", "a\n", "x" * 64]
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        check_party_name(name)


def test_a_signature_of_another_message_does_not_hold() -> None:
    key = derive_key(SEED, "log")
    signature = key.sign(b"this").signature
    verify_signature(bytes(key.verify_key), b"this", signature, "it")
    for message, bad in ((b"that", signature), (b"this", bytes(64)), (b"this", b"")):
        with pytest.raises(ProofError, match="it: the signature does not hold"):
            verify_signature(bytes(key.verify_key), message, bad, "it")
