"""Timestamps: those of real authorities hold, and no lie of one that the tests made does."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from authorities import Authority
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from stamping import LIES, SHA512, Maker, Stamp, der, integer

from tallystick.protocol.errors import FormatError, ProofError, TallyError
from tallystick.protocol.timestamps import (
    CERTIFICATES_MAX,
    RESPONSE_BYTES_MAX,
    check_chain,
    check_token,
    parse_response,
    parse_trusted,
)

NOTE = b"what both signed\n\n\xe2\x80\x94 acme.example abc\n"
MAKER = Maker()
GOOD = Stamp(NOTE)
RESPONSE = MAKER.response(GOOD)


def refused(response: bytes, stamped: bytes = NOTE) -> str:
    """What is said of a timestamp that must not hold without any certificate being trusted."""
    with pytest.raises(TallyError) as caught:
        check_token(parse_response(response), stamped)
    return caught.value.message


def unchained(response: bytes, trusted: list[bytes], stamped: bytes = NOTE) -> str:
    """What is said of one that holds by itself and whose certificate leads nowhere."""
    check_token(parse_response(response), stamped)
    with pytest.raises(ProofError) as caught:
        check_chain(response, stamped, trusted)
    return caught.value.message


@pytest.mark.parametrize("kind", ["sha1", "sha256", "ec"])
def test_a_real_authoritys_timestamp_holds(tmp_path: Path, kind: str) -> None:
    naming, key = ("sha256", "ec") if kind == "ec" else (kind, "rsa:2048")
    authority = Authority(tmp_path, naming=naming, key=key)
    response = authority.stamp(NOTE)
    trusted = parse_trusted(authority.root.read_bytes())
    token = parse_response(response)
    check_token(token, NOTE)
    check_chain(response, NOTE, trusted)
    assert token.said().endswith("Z (± 1.5 s), says time.example")
    assert abs(token.time_us / 1e6 - datetime.now(UTC).timestamp()) < 60
    assert authority.verifies(NOTE, response)
    assert refused(response, NOTE + b" ") == "the timestamp is of something else"
    assert "does not lead" in unchained(response, [MAKER.root_der])
    own = (authority.folder / "authority.pem").read_bytes()
    assert "does not lead" in unchained(response, parse_trusted(own))


def test_openssl_takes_what_the_tests_make(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.root.write_bytes(MAKER.root_pem)
    assert authority.verifies(NOTE, RESPONSE)
    assert not authority.verifies(NOTE, MAKER.response(replace(GOOD, named=MAKER.root_der)))


def test_what_a_timestamp_says() -> None:
    token = parse_response(RESPONSE)
    assert token.said() == "2026-12-01T00:05:00Z (± 1 s), says time.example"
    exact = parse_response(MAKER.response(replace(GOOD, time="20261201000500.25Z", accuracy=None)))
    assert exact.said() == "2026-12-01T00:05:00.25Z, says time.example"
    finer = der(0x30, integer(0), der(0x80, b"\x05"), der(0x81, b"\x01"))
    assert " (± 0.005001 s)" in parse_response(MAKER.response(replace(GOOD, accuracy=finer))).said()
    assert parse_response(MAKER.response(replace(GOOD, nonce=2**63))).nonce == 2**63
    assert token.nonce is None


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_curves_and_hashes(curve: ec.EllipticCurve) -> None:
    maker = Maker(curve=curve)
    response = maker.response(replace(GOOD, digest=SHA512))
    check_token(parse_response(response), NOTE)
    check_chain(response, NOTE, [maker.root_der])


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_does_not_hold(lie: str) -> None:
    changes, said = LIES[lie]
    assert said in refused(MAKER.response(replace(GOOD, **changes)))


def test_only_certificates_for_timestamps_alone_stamp() -> None:
    stamping, serving = ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH
    for maker in (
        Maker(purposes=(serving,)),
        Maker(purposes=(stamping, serving)),
        Maker(purposes=()),
        Maker(critical=False),
    ):
        said = refused(maker.response(GOOD))
        assert said == "the certificate of time.example is not for timestamps alone"


def test_a_certificate_needs_to_be_valid_at_the_tokens_time_and_not_now() -> None:
    past = Maker(begins=datetime(2019, 1, 1, tzinfo=UTC), ends=datetime(2020, 1, 1, tzinfo=UTC))
    assert "was not valid" in refused(past.response(GOOD))
    early = Maker(ends=datetime(2026, 2, 1, tzinfo=UTC))
    response = early.response(replace(GOOD, time="20260115000000Z"))
    check_token(parse_response(response), NOTE)
    check_chain(response, NOTE, [early.root_der])


def test_a_chain_leads_to_what_is_trusted_or_nowhere() -> None:
    check_chain(RESPONSE, NOTE, [MAKER.root_der])
    other = Maker(number=100)  # the same names, other keys
    assert "does not lead" in unchained(RESPONSE, [other.root_der])
    check_chain(RESPONSE, NOTE, [other.root_der, MAKER.root_der])
    enclosed = (MAKER.der, MAKER.root_der)
    for order in (enclosed, enclosed[::-1]):
        response = MAKER.response(GOOD, order)
        check_token(parse_response(response), NOTE)
        check_chain(response, NOTE, [MAKER.root_der])
        assert "does not lead" in unchained(response, [other.root_der])


def test_the_signers_certificate_is_enclosed_once_and_others_are_bounded() -> None:
    other = Maker(number=100, serial=8)  # its certificate has the same issuer and number
    for enclosed in ((), (MAKER.root_der,), (MAKER.der, MAKER.der), (MAKER.der, other.der)):
        said = refused(MAKER.response(GOOD, enclosed))
        assert said == "a timestamp does not hold the one certificate of who signed it"
    swapped = MAKER.response(replace(GOOD, named=other.der), (other.der,))
    assert "signature does not hold" in refused(swapped)
    many = (MAKER.der, *[MAKER.root_der] * CERTIFICATES_MAX)
    assert "with 33 certificates" in refused(MAKER.response(GOOD, many))


def test_a_name_that_is_not_plain_is_not_shown() -> None:
    for name in ("time\u202egnp.exe", "t\u00efme", "time\x1b[2J"):
        token = parse_response(Maker(name=name).response(GOOD))
        assert token.said().endswith(", says an authority without a plain name")


def test_what_is_too_large_is_not_looked_at() -> None:
    with pytest.raises(FormatError, match="more than 65536 bytes"):
        parse_response(b"\x30" * (RESPONSE_BYTES_MAX + 1))


def test_no_changed_byte_makes_another_timestamp() -> None:
    whole = parse_response(RESPONSE)
    chance = random.Random(1)
    for _ in range(1500):
        changed = bytearray(RESPONSE)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        try:
            token = parse_response(bytes(changed))
            check_token(token, NOTE)
            check_chain(bytes(changed), NOTE, [MAKER.root_der])
        except TallyError:
            continue
        assert replace(token, enclosed=b"") == replace(whole, enclosed=b"")


def test_garbage_is_refused_by_its_own_error() -> None:
    chance = random.Random(2)
    for size in [*range(40), *[chance.randrange(2000) for _ in range(200)]]:
        refused(chance.randbytes(size))
        refused(RESPONSE[: min(size, len(RESPONSE) - 1)])
        refused(der(0x30, chance.randbytes(size)))
    refused(b"\x30\x80" * 20_000)
    deep = b""
    while len(deep) < 50_000:
        deep = der(0x30, deep)
    refused(deep)


def test_certificates_to_trust_come_as_pem() -> None:
    pem = MAKER.root_pem + b"words between\n" + MAKER.certificate.public_bytes(Encoding.PEM)
    assert parse_trusted(pem) == [MAKER.root_der, MAKER.der]
    for bad in (b"", b"words", MAKER.root_der, MAKER.root_pem[:200], b"\xff" * 50):
        with pytest.raises(FormatError, match="no certificates in PEM"):
            parse_trusted(bad)
    with pytest.raises(FormatError, match="33 certificates"):
        parse_trusted(MAKER.root_pem * 33)
    assert x509.load_der_x509_certificate(MAKER.der).serial_number == 8
