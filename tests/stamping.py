"""Timestamps for tests: an authority whose every part can be made wrong, and what it writes.

Keys follow from numbers and signatures are deterministic, so the bytes are the same each time. What
a real authority writes is in `authorities`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGINS, ENDS = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
STAMPED_AT = "20261201000500Z"

SHA256 = "2.16.840.1.101.3.4.2.1"
SHA512 = "2.16.840.1.101.3.4.2.3"
TOKEN_INFO = "1.2.840.113549.1.9.16.1.4"
_HASHES = {SHA256: hashes.SHA256(), SHA512: hashes.SHA512()}
_SIGNED_BY = {SHA256: "1.2.840.10045.4.3.2", SHA512: "1.2.840.10045.4.3.4"}


def der(tag: int, *parts: bytes) -> bytes:
    """A DER value."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def oid(text: str) -> bytes:
    """An object identifier."""
    first, second, *rest = map(int, text.split("."))
    content = b""
    for number in (40 * first + second, *rest):
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        content += bytes(reversed(digits))
    return der(0x06, content)


def integer(number: int) -> bytes:
    """An integer."""
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def hash_of(name: str) -> bytes:
    """How a hash is named."""
    return der(0x30, oid(name), der(0x05))


@dataclass
class Stamp:
    """What is made, and what of it is otherwise than it should be."""

    data: bytes
    time: str = STAMPED_AT
    nonce: int | None = None
    accuracy: bytes | None = field(default_factory=lambda: der(0x30, integer(1)))
    version: int = 1
    hashing: str = SHA256
    imprint: bytes | None = None
    info_tail: bytes = b""
    digest: str = SHA256
    algorithm: str | None = None
    content_type: str = TOKEN_INFO
    said_type: str = TOKEN_INFO
    said_digest: bytes | None = None
    named: bytes | None = None  # the certificate that the signature names
    attributes_more: tuple[bytes, ...] = ()
    signature: bytes | None = None
    signers: int = 1
    status: bytes = field(default_factory=lambda: der(0x30, integer(0)))


class Maker:
    """A root and an authority below it."""

    def __init__(
        self,
        number: int = 7,
        *,
        name: str = "time.example",
        begins: datetime = BEGINS,
        ends: datetime = ENDS,
        purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.TIME_STAMPING,),
        critical: bool = True,
        curve: ec.EllipticCurve | None = None,
        serial: int | None = None,
    ) -> None:
        curve = curve or ec.SECP256R1()
        self.root_key = ec.derive_private_key(number, ec.SECP256R1())
        self.key = ec.derive_private_key(number + 1, curve)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root of time")])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        root = _builder(issuer, issuer, self.root_key.public_key(), number, BEGINS, ENDS)
        root = root.add_extension(x509.BasicConstraints(True, None), True)
        own = x509.SubjectKeyIdentifier.from_public_key(self.root_key.public_key())
        self.root = _signed(root.add_extension(own, False), self.root_key)
        serial = number + 1 if serial is None else serial
        one = _builder(issuer, subject, self.key.public_key(), serial, begins, ends)
        one = one.add_extension(x509.BasicConstraints(False, None), True)
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root_key.public_key())
        one = one.add_extension(by, False)
        if purposes:
            one = one.add_extension(x509.ExtendedKeyUsage(purposes), critical)
        self.certificate = _signed(one, self.root_key)

    @property
    def root_der(self) -> bytes:
        """The root's certificate."""
        return self.root.public_bytes(Encoding.DER)

    @property
    def root_pem(self) -> bytes:
        """The same as people hand it over."""
        return self.root.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    def response(self, stamp: Stamp, enclosed: tuple[bytes, ...] | None = None) -> bytes:
        """The response that holds a timestamp; `enclosed` are the certificates with it."""
        imprint = hashlib.sha256(stamp.data).digest() if stamp.imprint is None else stamp.imprint
        info = der(
            0x30,
            integer(stamp.version),
            oid("1.3.6.1.4.1.99999.1"),
            der(0x30, hash_of(stamp.hashing), der(0x04, imprint)),
            integer(4711),
            der(0x18, stamp.time.encode()),
            stamp.accuracy or b"",
            b"" if stamp.nonce is None else integer(stamp.nonce),
            stamp.info_tail,
        )
        signer = self._signer(stamp, info)
        certificates = (self.der,) if enclosed is None else enclosed
        content = der(
            0x30,
            integer(3),
            der(0x31, hash_of(stamp.digest)),
            der(0x30, oid(stamp.content_type), der(0xA0, der(0x04, info))),
            der(0xA0, *certificates),
            der(0x31, *[signer] * stamp.signers),
        )
        token = der(0x30, oid("1.2.840.113549.1.7.2"), der(0xA0, content))
        return der(0x30, stamp.status, token)

    def _signer(self, stamp: Stamp, info: bytes) -> bytes:
        hashing = _HASHES.get(stamp.digest, hashes.SHA256())
        digest = hashlib.new(hashing.name, info).digest()
        named = hashlib.sha256(self.der if stamp.named is None else stamp.named).digest()
        attributes = [
            _attribute("1.2.840.113549.1.9.3", oid(stamp.said_type)),
            _attribute("1.2.840.113549.1.9.4", der(0x04, stamp.said_digest or digest)),
            _attribute(
                "1.2.840.113549.1.9.16.2.47", der(0x30, der(0x30, der(0x30, der(0x04, named))))
            ),
            *stamp.attributes_more,
        ]
        signed = der(0x31, *sorted(attributes))
        signature = stamp.signature
        if signature is None:
            signature = self.key.sign(signed, ec.ECDSA(hashing, deterministic_signing=True))
        return der(
            0x30,
            integer(1),
            der(
                0x30,
                self.certificate.issuer.public_bytes(),
                integer(self.certificate.serial_number),
            ),
            hash_of(stamp.digest),
            b"\xa0" + signed[1:],
            der(0x30, oid(stamp.algorithm or _SIGNED_BY.get(stamp.digest, SHA256))),
            der(0x04, signature),
        )


def _attribute(kind: str, value: bytes) -> bytes:
    return der(0x30, oid(kind), der(0x31, value))


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    number: int,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(number)
        .not_valid_before(begins)
        .not_valid_after(ends - timedelta(seconds=1))
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


_EXTENSION = der(0x30, oid("1.2.3.4"), b"\x01\x01\xff", der(0x04, b""))
# What an authority may lie about: the changes of a stamp, and what is said of it then.
LIES: dict[str, tuple[dict[str, Any], str]] = {
    "of other data": ({"data": b"another note"}, "of something else"),
    "of another hash": ({"hashing": SHA512, "imprint": bytes(64)}, "of another hash"),
    "imprint too short": ({"imprint": bytes(31)}, "of another hash"),
    "version 2": ({"version": 2}, "another version"),
    "something critical": ({"info_tail": der(0xA1, _EXTENSION)}, "critical"),
    "a part too many": ({"info_tail": integer(1) * 2}, "a part too many"),
    "no time": ({"time": "never"}, "a time is not"),
    "before the certificate": ({"time": "20251231235959Z"}, "was not valid"),
    "after the certificate": ({"time": "20360101000000Z"}, "was not valid"),
    "accuracy below none": ({"accuracy": der(0x30, integer(-1))}, "out of range"),
    "accuracy of an age": ({"accuracy": der(0x30, integer(10**7))}, "out of range"),
    "another content": ({"content_type": "1.2.840.113549.1.7.1"}, "holds something else"),
    "signed as other content": ({"said_type": "1.2.840.113549.1.7.1"}, "does not say"),
    "signed of another token": ({"said_digest": bytes(32)}, "of another timestamp"),
    "signed for another certificate": ({"named": b"another certificate"}, "does not name"),
    "an attribute twice": (
        {"attributes_more": (der(0x30, oid("1.2.840.113549.1.9.4"), der(0x31, der(0x04, b""))),)},
        "there twice",
    ),
    "no signature": ({"signature": b""}, "signature does not hold"),
    "another signature": (
        {"signature": der(0x30, integer(1), integer(1))},
        "signature does not hold",
    ),
    "hashed by nobody knows what": ({"digest": "1.2.3.4"}, "not known here: 1.2.3.4"),
    "signed by nobody knows what": ({"algorithm": "1.2.3.4"}, "not known here: 1.2.3.4"),
    "signed by another hash": ({"algorithm": "1.2.840.10045.4.3.4"}, "another hash"),
    "signed by another kind of key": (
        {"algorithm": "1.2.840.113549.1.1.11"},
        "another kind of key",
    ),
    "signed twice": ({"signers": 2}, "and this one 2 times"),
    "signed by nobody": ({"signers": 0}, "and this one 0 times"),
    "refused": (
        {"status": der(0x30, integer(2), der(0x30, der(0x0C, b"no\x1b[2Jmore")))},
        "the authority gave no timestamp, status 2: no?[2Jmore",
    ),
    "granted with changes": ({"status": der(0x30, integer(1))}, "gave no timestamp, status 1"),
}
