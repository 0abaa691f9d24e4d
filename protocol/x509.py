"""The certificate of a timestamp authority: the few parts of X.509 that its tokens need.

Who vouches for a certificate is not judged here: a chain is followed by `timestamps.check_chain`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tallystick.protocol.der import (
    BIT_STRING,
    BOOLEAN,
    GENERAL_TIME,
    IA5,
    INTEGER,
    OCTET_STRING,
    OID,
    PRINTABLE,
    SEQUENCE,
    SET,
    TRUE,
    UTC_TIME,
    UTF8,
    Reader,
    Value,
    expect,
    instant_of,
    oid_of,
    read_value,
)
from tallystick.protocol.errors import ProofError

CERTIFICATE = "a certificate"
RSA_BITS_MIN = 2048

_VERSION, _ISSUER_ID, _SUBJECT_ID, _EXTENSIONS = 0xA0, 0x81, 0x82, 0xA3
_COMMON_NAME, _KEY_PURPOSES, _TIME_STAMPING = "2.5.4.3", "2.5.29.37", "1.3.6.1.5.5.7.3.8"
_RSA, _EC = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1"

HASHES: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "2.16.840.1.101.3.4.2.1": ("sha256", hashes.SHA256()),
    "2.16.840.1.101.3.4.2.2": ("sha384", hashes.SHA384()),
    "2.16.840.1.101.3.4.2.3": ("sha512", hashes.SHA512()),
}
# How a signature is named in a token: by the kind of its key, and most say the hash once more.
_SIGNATURES = {
    _RSA: (_RSA, ""),
    "1.2.840.113549.1.1.11": (_RSA, "sha256"),
    "1.2.840.113549.1.1.12": (_RSA, "sha384"),
    "1.2.840.113549.1.1.13": (_RSA, "sha512"),
    "1.2.840.10045.4.3.2": (_EC, "sha256"),
    "1.2.840.10045.4.3.3": (_EC, "sha384"),
    "1.2.840.10045.4.3.4": (_EC, "sha512"),
}
_CURVES = {"1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"}  # P-256, P-384, P-521


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate's parts; `name` is its subject's common name where that is plain text."""

    raw: bytes
    issuer: bytes
    serial: bytes
    name: str
    begins_us: int
    ends_us: int
    public_key: bytes  # SubjectPublicKeyInfo
    stamps: bool  # it is for timestamps and for nothing else, and says that this matters

    def digest(self) -> str:
        """Its SHA-256, by which people tell certificates apart."""
        return hashlib.sha256(self.raw).hexdigest()


def parse_certificate(raw: bytes) -> Certificate:
    """The certificate of these bytes; `FormatError` if they are none. Nothing is verified."""
    whole = Reader(expect(read_value(raw), SEQUENCE, what=CERTIFICATE), CERTIFICATE)
    body = Reader(whole.take(SEQUENCE), CERTIFICATE)
    whole.take(SEQUENCE)
    whole.take(BIT_STRING)
    whole.end()
    body.maybe(_VERSION)
    serial = body.take(INTEGER)
    body.take(SEQUENCE)
    issuer = body.take(SEQUENCE)
    validity = Reader(body.take(SEQUENCE), "a certificate's validity")
    begins, ends = (validity.take(UTC_TIME, GENERAL_TIME) for _ in range(2))
    validity.end()
    subject, public_key = body.take(SEQUENCE), body.take(SEQUENCE)
    body.maybe(_ISSUER_ID)
    body.maybe(_SUBJECT_ID)
    extensions = body.maybe(_EXTENSIONS)
    body.end()
    return Certificate(
        raw,
        issuer.raw,
        serial.raw,
        _name(subject),
        instant_of(begins),
        instant_of(ends),
        public_key.raw,
        extensions is not None and _stamps(extensions),
    )


def _name(subject: Value) -> str:
    for part in subject.inside():
        for pair in part.inside() if part.tag == SET else ():
            reader = Reader(pair, "a name")
            kind, value = oid_of(reader.take(OID)), reader.rest()
            if kind == _COMMON_NAME and len(value) == 1 and value[0].tag in (UTF8, PRINTABLE, IA5):
                text = value[0].content
                if text and all(0x20 <= byte < 0x7F for byte in text):
                    return text.decode()
    return "an authority without a plain name"


def _stamps(extensions: Value) -> bool:
    """Whether the one purpose of a certificate's key is to make timestamps, critically."""
    reader = Reader(extensions, "a certificate's extensions")
    for extension in reader.take(SEQUENCE).inside():
        parts = Reader(extension, "an extension")
        kind, critical = oid_of(parts.take(OID)), parts.maybe(BOOLEAN)
        value = parts.take(OCTET_STRING)
        if kind == _KEY_PURPOSES:
            purposes = [oid_of(one) for one in read_value(value.content).inside()]
            said = critical is not None and critical.raw == TRUE
            return said and purposes == [_TIME_STAMPING]
    return False


def verify_by(
    certificate: Certificate, algorithm: str, digest: str, message: bytes, signature: bytes
) -> None:
    """Return if a signature over a message is the certificate's key's; `ProofError` if not.

    `algorithm` and `digest` are object identifiers, as a token names them.
    """
    kind, named = _SIGNATURES.get(algorithm, ("", ""))
    if not kind or digest not in HASHES:
        raise ProofError(f"it is signed by an algorithm that is not known here: {algorithm}")
    name, hashing = HASHES[digest]
    if named not in ("", name):
        raise ProofError("it is signed by another hash than it says")
    if _kind_of(certificate.public_key) != kind:
        raise ProofError("it is signed by another kind of key than its certificate has")
    try:
        key = load_der_public_key(certificate.public_key)
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < RSA_BITS_MIN:
                raise ProofError(f"its key has {key.key_size} bits; {RSA_BITS_MIN} are the least")
            key.verify(signature, message, padding.PKCS1v15(), hashing)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashing))
    except InvalidSignature:
        raise ProofError("the authority's signature does not hold") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ProofError("the key in the authority's certificate is none") from None


def _kind_of(public_key: bytes) -> str:
    """The kind of a key; empty if it is none of those that sign here."""
    algorithm = Reader(Reader(read_value(public_key), "a key").take(SEQUENCE), "a key")
    kind, rest = oid_of(algorithm.take(OID)), algorithm.rest()
    if kind == _EC:
        return kind if len(rest) == 1 and oid_of(rest[0]) in _CURVES else ""
    return kind if kind == _RSA else ""
