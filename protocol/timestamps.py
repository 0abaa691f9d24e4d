"""Timestamps of RFC 3161: an authority outside says that a checkpoint existed at a time.

What is stamped is the SHA-256 of the checkpoint's whole note, both signatures included: so neither
can have been made later, with a key that leaked since. What is kept is the authority's response as
it came, and anybody's tools check it against the file `checkpoint.txt` of a bundle.

Checked here: that the token is over those bytes, that its certificate's key signed it, names that
certificate and is for timestamps only, and was valid then. Who vouches for the certificate is
`check_chain`'s, by certificates that the reader trusts. Source: RFC 3161; RFC 5652, section 5.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.checkpoint import format_instant
from tallystick.protocol.der import (
    BOOLEAN,
    GENERAL_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    TRUE,
    UTF8,
    Reader,
    Value,
    expect,
    instant_of,
    integer_of,
    oid_of,
    read_value,
    read_values,
)
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.x509 import HASHES, Certificate, parse_certificate, verify_by

RESPONSE_BYTES_MAX = 65_536
CERTIFICATES_MAX = 32  # in one token, and in a file of those that are trusted
TRUSTED_BYTES_MAX = 1 << 20  # of a file of certificates
ACCURACY_SECONDS_MAX = 10**6

_SHA256 = "2.16.840.1.101.3.4.2.1"
_SIGNED_DATA, _TOKEN_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_NAMES_BY_SHA1, _NAMES = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
_OPENSSL_SAYS = re.compile(r"Verify error:\s*([a-z -]{1,80})")
_A0, _A1, _80, _81 = 0xA0, 0xA1, 0x80, 0x81  # context tags 0 and 1, constructed and primitive


@dataclass(frozen=True, slots=True)
class Token:
    """A timestamp as it was parsed; nothing is verified until `check_token` returns."""

    imprint: bytes  # the SHA-256 of what is stamped
    time_us: int  # microseconds since the Unix epoch
    accuracy_us: int | None
    nonce: int | None
    info: bytes  # what the authority says, as it is hashed
    digest: str  # by which hash and which algorithm it is signed, as object identifiers
    algorithm: str
    attributes: bytes  # what is signed, as it is signed
    signature: bytes
    certificate: Certificate
    enclosed: bytes  # all certificates that came with it

    def said(self) -> str:
        """When, and who says so, in words."""
        second, micros = divmod(self.time_us, 1_000_000)
        instant = format_instant(second * 1_000_000)
        if micros:
            instant = f"{instant[:-1]}.{micros:06d}".rstrip("0") + "Z"
        within = "" if self.accuracy_us is None else f" (± {_seconds(self.accuracy_us)} s)"
        return f"{instant}{within}, says {self.certificate.name}"


def _seconds(micros: int) -> str:
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}".rstrip("0").rstrip(".")


def parse_response(data: bytes) -> Token:
    """The token in a response; `ProofError` if the authority refused, `FormatError` if it is not
    what an authority writes.
    """
    if len(data) > RESPONSE_BYTES_MAX:
        raise FormatError(f"a timestamp of more than {RESPONSE_BYTES_MAX} bytes")
    response = Reader(expect(read_value(data), SEQUENCE, what="a timestamp"), "a timestamp")
    _check_granted(response.take(SEQUENCE))
    content = Reader(response.take(SEQUENCE), "a timestamp's token")
    response.end()
    if oid_of(content.take(OID)) != _SIGNED_DATA:
        raise FormatError("a timestamp's token is not signed data")
    signed = Reader(read_value(content.take(_A0).content), "a timestamp's token")
    content.end()
    signed.take(INTEGER)
    signed.take(SET)
    info = _info_in(signed.take(SEQUENCE))
    certificates = signed.take(_A0)
    signed.maybe(_A1)
    signers = signed.take(SET).inside()
    signed.end()
    if len(signers) != 1:
        raise FormatError(f"a timestamp is signed once, and this one {len(signers)} times")
    found = certificates.inside()
    if len(found) > CERTIFICATES_MAX:
        raise FormatError(f"a timestamp with {len(found)} certificates; {CERTIFICATES_MAX} may be")
    return _signed(info, found, certificates.content, signers[0])


def _check_granted(status: Value) -> None:
    reader = Reader(status, "a timestamp's status")
    number = integer_of(reader.take(INTEGER))
    words = reader.maybe(SEQUENCE)
    if number:
        texts = words.inside() if words is not None else []
        said = b" ".join(one.content for one in texts if one.tag == UTF8)[:200]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in said)
        why = f": {shown}" if shown else ""
        raise ProofError(f"the authority gave no timestamp, status {number}{why}")


def _info_in(content: Value) -> bytes:
    """What the authority says, as the bytes that are signed."""
    reader = Reader(content, "a timestamp's content")
    if oid_of(reader.take(OID)) != _TOKEN_INFO:
        raise FormatError("a timestamp's token holds something else")
    held = read_value(reader.take(_A0).content)
    reader.end()
    return expect(held, OCTET_STRING, what="a timestamp's content").content


def _signed(info: bytes, certificates: Sequence[Value], enclosed: bytes, signer: Value) -> Token:
    reader = Reader(signer, "a timestamp's signature")
    reader.take(INTEGER)
    named = Reader(reader.take(SEQUENCE), "a timestamp's signer")
    issuer, serial = named.take(SEQUENCE).raw, named.take(INTEGER).raw
    named.end()
    digest = _algorithm(reader.take(SEQUENCE))
    attributes = reader.take(_A0)
    algorithm = _algorithm(reader.take(SEQUENCE))
    signature = reader.take(OCTET_STRING).content
    reader.maybe(_A1)
    reader.end()
    parsed = (parse_certificate(one.raw) for one in certificates if one.tag == SEQUENCE)
    mine = [one for one in parsed if (one.issuer, one.serial) == (issuer, serial)]
    if len(mine) != 1:
        raise FormatError("a timestamp does not hold the one certificate of who signed it")
    imprint, time_us, accuracy_us, nonce = _parse_info(info)
    as_set = bytes([SET]) + attributes.raw[1:]  # RFC 5652, 5.4: so it is signed
    return Token(
        imprint=imprint,
        time_us=time_us,
        accuracy_us=accuracy_us,
        nonce=nonce,
        info=info,
        digest=digest,
        algorithm=algorithm,
        attributes=as_set,
        signature=signature,
        certificate=mine[0],
        enclosed=enclosed,
    )


def _algorithm(value: Value) -> str:
    return oid_of(Reader(value, "an algorithm").take(OID))


def _parse_info(info: bytes) -> tuple[bytes, int, int | None, int | None]:
    """The imprint, the time, how exact it is, and the nonce."""
    reader = Reader(expect(read_value(info), SEQUENCE, what="a timestamp"), "a timestamp")
    if integer_of(reader.take(INTEGER)) != 1:
        raise FormatError("a timestamp of another version than 1")
    reader.take(OID)
    imprint = Reader(reader.take(SEQUENCE), "a timestamp's imprint")
    hashing, hashed = _algorithm(imprint.take(SEQUENCE)), imprint.take(OCTET_STRING).content
    imprint.end()
    if hashing != _SHA256 or len(hashed) != 32:
        raise FormatError("a timestamp is of a SHA-256, and this one is of another hash")
    reader.take(INTEGER)
    time_us = instant_of(reader.take(GENERAL_TIME))
    accuracy = reader.maybe(SEQUENCE)
    reader.maybe(BOOLEAN)
    nonce = reader.maybe(INTEGER)
    reader.maybe(_A0)
    extensions = reader.maybe(_A1)
    reader.end()
    for extension in extensions.inside() if extensions is not None else ():
        if any(part.raw == TRUE for part in extension.inside()):
            raise FormatError("a timestamp says something critical that is not known here")
    return (
        hashed,
        time_us,
        None if accuracy is None else _accuracy(accuracy),
        None if nonce is None else integer_of(nonce),
    )


def _accuracy(value: Value) -> int:
    reader = Reader(value, "a timestamp's accuracy")
    parts = (reader.maybe(INTEGER), reader.maybe(_80), reader.maybe(_81))
    reader.end()
    seconds, millis, micros = (
        0 if one is None else integer_of(Value(INTEGER, one.content, one.raw)) for one in parts
    )
    if not (0 <= seconds <= ACCURACY_SECONDS_MAX and 0 <= millis < 1000 and 0 <= micros < 1000):
        raise FormatError("a timestamp's accuracy is out of range")
    return seconds * 1_000_000 + millis * 1000 + micros


def check_token(token: Token, stamped: bytes) -> None:
    """Return if a token is over these bytes and its certificate's key signed it; `ProofError`."""
    if token.imprint != hashlib.sha256(stamped).digest():
        raise ProofError("the timestamp is of something else")
    _check_attributes(token)
    certificate = token.certificate
    verify_by(certificate, token.algorithm, token.digest, token.attributes, token.signature)
    if not certificate.stamps:
        raise ProofError(f"the certificate of {certificate.name} is not for timestamps alone")
    if not certificate.begins_us <= token.time_us <= certificate.ends_us:
        raise ProofError(f"the certificate of {certificate.name} was not valid at the token's time")


def _check_attributes(token: Token) -> None:
    """What is signed names the token's content, its kind, and the certificate."""
    found: dict[str, Value] = {}
    for attribute in read_value(token.attributes).inside():
        reader = Reader(attribute, "a timestamp's attribute")
        kind, values = oid_of(reader.take(OID)), reader.take(SET).inside()
        if kind in found or (kind in _NEEDED and len(values) != 1):
            raise FormatError("a timestamp's attribute is there twice")
        if values:
            found[kind] = values[0]
    if _CONTENT_TYPE not in found or oid_of(found[_CONTENT_TYPE]) != _TOKEN_INFO:
        raise ProofError("what the authority signed does not say that it is a timestamp")
    if token.digest not in HASHES:
        raise ProofError(f"the timestamp is hashed by a way that is not known here: {token.digest}")
    hashed = hashlib.new(HASHES[token.digest][0], token.info).digest()
    if _MESSAGE_DIGEST not in found or found[_MESSAGE_DIGEST].content != hashed:
        raise ProofError("what the authority signed is of another timestamp")
    if not _names_certificate(found, token.certificate):
        raise ProofError("what the authority signed does not name its certificate")


_NEEDED = (_CONTENT_TYPE, _MESSAGE_DIGEST, _NAMES_BY_SHA1, _NAMES)


def _names_certificate(found: dict[str, Value], certificate: Certificate) -> bool:
    """Whether the signing-certificate attribute (RFC 5035, or its older form) is of this one."""
    for kind in (_NAMES, _NAMES_BY_SHA1):
        if kind in found:
            what = "a timestamp's naming of a certificate"
            named = Reader(
                Reader(Reader(found[kind], what).take(SEQUENCE), what).take(SEQUENCE), what
            )
            hashing = "sha1" if kind == _NAMES_BY_SHA1 else "sha256"
            other = named.maybe(SEQUENCE) if kind == _NAMES else None
            if other is not None:
                hashing = HASHES.get(_algorithm(other), ("", None))[0]
            digest = named.take(OCTET_STRING).content
            return bool(hashing) and hashlib.new(hashing, certificate.raw).digest() == digest
    return False


def check_chain(response: bytes, stamped: bytes, trusted: Sequence[bytes]) -> None:
    """Return if a checked token's certificate leads to one of these (DER); `ProofError` if not.

    Certificates need to have been valid at the token's time, not now. Nobody is asked whether one
    was revoked.
    """
    from cryptography.x509 import load_der_x509_certificate
    from rfc3161_client import VerifierBuilder, decode_timestamp_response

    # Authorities enclose certificates in any order, which nobody signs; the library wants DER's.
    enclosed = parse_response(response).enclosed
    ordered = b"".join(sorted(one.raw for one in read_values(enclosed)))
    try:
        roots = [load_der_x509_certificate(one) for one in trusted]
        found = decode_timestamp_response(response.replace(enclosed, ordered, 1))
        VerifierBuilder(roots=roots).build().verify_message(found, stamped)
    except Exception as error:  # noqa: BLE001 - of odd certificates its parsers raise anything
        said = _OPENSSL_SAYS.search(str(error))
        why = f": {said[1]}" if said is not None else ""
        raise ProofError(
            f"the authority's certificate does not lead to one that is trusted here{why}"
        ) from None


def parse_trusted(pem: bytes) -> list[bytes]:
    """The certificates (DER) in a PEM file; `FormatError` if there is none, or what is none."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_certificates

    if len(pem) > TRUSTED_BYTES_MAX:
        raise FormatError(f"a file of certificates of more than {TRUSTED_BYTES_MAX} bytes")
    try:
        found = load_pem_x509_certificates(pem)
    except ValueError:
        raise FormatError("no certificates in PEM") from None
    if len(found) > CERTIFICATES_MAX:
        raise FormatError(f"{len(found)} certificates; {CERTIFICATES_MAX} may be trusted")
    return [one.public_bytes(Encoding.DER) for one in found]
