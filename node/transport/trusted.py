"""Certificates of peers in a folder, where OpenSSL finds the one that a client shows.

A context that is told all of them beforehand takes seconds for ten thousand, and some kilobytes
for each; from a folder it reads one when its owner connects. The names are those of `openssl
rehash`. Everything in it follows from the peers and is put right at each start.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from tallystick.node.errors import StoreError

_OIDS = {
    NameOID.COMMON_NAME: bytes.fromhex("0603550403"),
    NameOID.SERIAL_NUMBER: bytes.fromhex("0603550405"),
}
_SEQUENCE, _SET, _UTF8 = 0x30, 0x31, 0x0C


def subject_hash(certificate: bytes) -> str:
    """OpenSSL's hash of the subject of a certificate (DER) in the form of `tls.certificate_der`."""
    subject = x509.load_der_x509_certificate(certificate).subject
    canonical = b""
    for one in subject:
        value = " ".join(one.value.lower().split()) if isinstance(one.value, str) else ""
        pair = _OIDS[one.oid] + _tlv(_UTF8, value.encode())
        canonical += _tlv(_SET, _tlv(_SEQUENCE, pair))
    return f"{int.from_bytes(hashlib.sha1(canonical).digest()[:4], 'little'):08x}"


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag, size] if size < 128 else [tag, 0x81, size]) + content


class TrustedFolder:
    """The folder of one node; `StoreError` if it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: dict[str, tuple[bytes, ...]] = {}  # by the hashes of their subjects

    def begin(self, certificates: Iterable[bytes]) -> None:
        """Have these in the folder, and nothing else."""
        for one in certificates:
            self._note(one)
        wanted = {
            f"{name}.{place}": one
            for name, held in self._held.items()
            for place, one in enumerate(held)
        }
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            for file in self.path.iterdir():
                if file.name not in wanted:
                    file.unlink()
            for name, one in wanted.items():
                self._write(self.path / name, one)
        except OSError as error:
            raise self._failed(error) from None

    def _note(self, certificate: bytes) -> str:
        name = subject_hash(certificate)
        held = self._held.get(name, ())
        if certificate not in held:
            self._held[name] = (*held, certificate)
        return name

    def add(self, certificate: bytes) -> None:
        """Trust one more."""
        self._put(self._note(certificate))

    def remove(self, certificate: bytes) -> None:
        """Trust one no more. Contexts that have read it trust it still."""
        name = subject_hash(certificate)
        before = self._held.get(name, ())
        self._held[name] = tuple(one for one in before if one != certificate)
        self._put(name)
        for place in range(len(self._held[name]), len(before)):
            (self.path / f"{name}.{place}").unlink(missing_ok=True)

    def _put(self, name: str) -> None:
        try:
            for place, one in enumerate(self._held[name]):
                self._write(self.path / f"{name}.{place}", one)
        except OSError as error:
            raise self._failed(error) from None

    @staticmethod
    def _write(file: Path, certificate: bytes) -> None:
        text = ssl.DER_cert_to_PEM_cert(certificate)
        try:
            if file.read_text("ascii", errors="replace") == text:
                return
        except FileNotFoundError:
            pass
        beside = file.with_name("new")
        beside.write_text(text)
        beside.replace(file)

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"{self.path} cannot be written: {error.strerror}")
