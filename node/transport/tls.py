"""TLS 1.3 between nodes: self-signed Ed25519 certificates, pinned on both sides.

A session's two ends trust the certificates that pairing exchanged, or those that followed them by
rotation, and compare the key after the handshake. Who dials names the key that it expects, as the
server name, so a node whose key changes shows each peer the one that the peer knows. In pairing the
joiner has no certificate that the inviter could know: it pins the inviter's key, shows none of its
own, and may speak nothing but the pairing protocol.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import trio
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey

from tallystick.node.errors import PeerUnreachable, StoreError
from tallystick.node.transport.secure import SecureStream
from tallystick.protocol.errors import FormatError, InputError
from tallystick.protocol.keys import Identity

_log = logging.getLogger("tallystick.tls")

ALPN_SESSION = "tallystick/1"
ALPN_PAIRING = "tallystick-pair/1"
ALPN_STANDBY = "tallystick-standby/1"  # between two nodes of one party
CLOSE_SECONDS = 2

# Certificates carry no trust in time: pairing pins them, and a wrong clock must not unpair nodes.
_NOT_BEFORE = datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 30, tzinfo=datetime.UTC)
# How every certificate goes on after its two lengths: version 3, serial number 1.
_VERSION_AND_SERIAL, _VERSION_AND_SERIAL_AT = bytes.fromhex("a003020102020101"), 8
_SIGNATURE_SIZE = 64  # the last bytes of an Ed25519 certificate
_ANY_KEY = SigningKey(bytes(32))  # signs what is only compared up to the signature


@dataclass(frozen=True, slots=True)
class Shown:
    """What a node shows of itself in a handshake, once its key is not the identity's first."""

    transport: SigningKey


def certificate_der(name: str, key: SigningKey) -> bytes:
    """The party's self-signed certificate; the same every time it is made."""
    return _certificate(name, bytes(key.verify_key), key)


def _certificate(name: str, key: bytes, signer: SigningKey) -> bytes:
    private = Ed25519PrivateKey.from_private_bytes(bytes(signer))
    # OpenSSL looks trusted certificates up by subject: the key in it keeps two peers apart even if
    # one takes the other's name. A common name has at most 64 characters.
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name[:64]),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, key.hex()),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(Ed25519PublicKey.from_public_bytes(key))
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, None)
    )
    return certificate.public_bytes(Encoding.DER)


def certificate_key(der: bytes) -> bytes:
    """The key of a certificate; `FormatError` if it is not one that `certificate_der` makes.

    Nothing but the name, the key and the signature may vary, so a peer cannot hand over a
    certificate that OpenSSL chokes on or takes for another's.
    """
    try:
        if der[_VERSION_AND_SERIAL_AT:].startswith(_VERSION_AND_SERIAL):
            certificate = x509.load_der_x509_certificate(der)
        else:  # the library has errors and warnings of many kinds for other ones
            raise FormatError("the certificate is not in the form that this protocol writes")
        key = certificate.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise FormatError("the certificate's key is not Ed25519")
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        expected = _certificate(str(names[0].value), raw, _ANY_KEY) if names else b""
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise FormatError(f"not a self-signed Ed25519 certificate: {error}") from None
    if expected[:-_SIGNATURE_SIZE] != der[:-_SIGNATURE_SIZE]:
        raise FormatError("the certificate is not in the form that this protocol writes")
    return raw


def _load_own(
    context: ssl.SSLContext, identity: Identity | Shown, der: bytes, private_dir: Path
) -> None:
    """Give the context our certificate and key; ssl reads them from a file only."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(identity.transport))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        handle, name = tempfile.mkstemp(dir=private_dir, prefix=".tls-")  # mode 0600
    except OSError as error:
        raise StoreError(f"{private_dir} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem + ssl.DER_cert_to_PEM_cert(der).encode())
        context.load_cert_chain(name)
    except OSError as error:
        raise StoreError(f"{private_dir} cannot be written: {error.strerror}") from None
    finally:
        Path(name).unlink()


def _base(purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    return context


def session_context(
    identity: Identity | Shown,
    own: bytes,
    peer_certificate: bytes,
    private_dir: Path,
    alpn: str = ALPN_SESSION,
) -> ssl.SSLContext:
    """For dialling a paired peer, or another node of our own party."""
    context = _base(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=peer_certificate)
    _load_own(context, identity, own, private_dir)
    context.set_alpn_protocols([alpn])
    return context


def pairing_context() -> ssl.SSLContext:
    """For joining: the key is compared after the handshake, so no certificate is trusted."""
    context = _base(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN_PAIRING])
    return context


def server_context(
    identity: Identity | Shown, own: bytes, peer_certificates: Iterable[bytes], private_dir: Path
) -> ssl.SSLContext:
    """For listening: paired peers show their certificate, joiners none."""
    context = _base(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, identity, own, private_dir)
    trusted = b"".join(peer_certificates)
    if trusted:
        context.load_verify_locations(cadata=trusted)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols([ALPN_SESSION, ALPN_PAIRING, ALPN_STANDBY])
    # A resumed session would not show the certificate again.
    context.num_tickets = 0
    return context


def server_name(key: bytes) -> str:
    """The name by which a dialling node asks for the owner of a transport key."""
    digest = hashlib.sha256(b"tallystick/v1 server name" + key).hexdigest()
    return f"{digest[:32]}.tallystick"


def serve_by_name(context: ssl.SSLContext, find: Callable[[str], ssl.SSLContext | None]) -> None:
    """Let a listening context give way to the one of the name that a client asks for."""

    def choose(stream: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        found = find(name) if name else None
        if found is not None:
            stream.context = found

    context.sni_callback = choose


class PeerStream:
    """An authenticated connection. `dialled` is the address, or empty on the accepting side."""

    def __init__(self, stream: SecureStream, dialled: str = "") -> None:
        self._stream = stream
        self._silent_address = dialled  # until the peer has said something

    async def send(self, data: bytes) -> None:
        """Send all; `PeerUnreachable` if the connection is gone."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerUnreachable(f"the connection broke: {_cause(error)}") from None

    def send_nowait(self, data: bytes) -> bool:
        """Send something small if it can be sent at once; whether it was taken."""
        try:
            return self._stream.send_nowait(data)
        except trio.BrokenResourceError:
            return False  # whoever sends or receives next hears why

    async def receive(self) -> bytes:
        """Some bytes; empty at the end, however it came."""
        try:
            data = await self._stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        # In TLS 1.3 the server judges our certificate after our side of the handshake is done.
        if not data and self._silent_address:
            _log.warning(
                "the other side closed before it said anything: it may not know this node's"
                " certificate; does tally peers over there name this node?",
                extra={"address": self._silent_address},
            )
        self._silent_address = ""
        return data

    async def aclose(self) -> None:
        """Close, without waiting long for the other side."""
        with trio.move_on_after(CLOSE_SECONDS):
            try:
                await self._stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
        await trio.aclose_forcefully(self._stream)


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[HOST]:PORT`; `InputError` otherwise."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise InputError(f"{address!r} is not an address", "Write HOST:PORT, as in 127.0.0.1:7450")
    return host, int(port)


def address_text(host: str, port: int) -> str:
    """The reverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def dial(
    address: str,
    context: ssl.SSLContext | Callable[[], ssl.SSLContext],
    server_key: bytes,
    timeout_seconds: float,
) -> PeerStream:
    """A connection to the node whose transport key is `server_key`, or `PeerUnreachable`. What
    makes the context may be given instead: most of those who are away never need one.
    """
    try:
        host, port = parse_address(address)
    except InputError as error:  # peers tell their addresses: a bad one must not stop us
        raise PeerUnreachable(error.message, error.advice) from None
    with trio.move_on_after(timeout_seconds):
        try:
            raw = await trio.open_tcp_stream(host, port)
        except (OSError, ValueError) as error:  # ValueError: a name that no resolver takes
            reason = _cause(error)
            raise PeerUnreachable(
                f"{address} cannot be reached: {reason}",
                "Is the node running, and the address right?",
            ) from None
        name = server_name(server_key)
        try:
            made = context if isinstance(context, ssl.SSLContext) else context()
        except StoreError:
            await trio.aclose_forcefully(raw)
            raise
        stream = SecureStream(raw, made, name)
        try:
            await stream.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError) as error:
            await trio.aclose_forcefully(stream)
            raise PeerUnreachable(
                f"{address} {_explain(error)}", "Is the address right, and a node's?"
            ) from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        try:
            _check_server(stream, server_key, address)
        except PeerUnreachable:
            await trio.aclose_forcefully(stream)
            raise
        return PeerStream(stream, address)
    raise PeerUnreachable(
        f"{address} did not answer within {timeout_seconds:g} seconds",
        "Is a firewall in between, or another service on that port?",
    )


def _check_server(stream: SecureStream, server_key: bytes, address: str) -> None:
    der = stream.tls.getpeercert(binary_form=True)
    if der is None or _key_or_none(der) != server_key:
        raise PeerUnreachable(
            f"{address} is not the node that it should be: its key is another",
            "Nothing was sent. Ask your counterparty whether it has a new home or address",
        )
    if stream.tls.selected_alpn_protocol() is None:
        raise PeerUnreachable(
            f"{address} speaks another version of the protocol", "Update the older of the two nodes"
        )


def _key_or_none(der: bytes) -> bytes | None:
    try:
        return certificate_key(der)
    except FormatError:
        return None


async def accept(
    raw: trio.SocketStream, context: ssl.SSLContext, timeout_seconds: float
) -> tuple[PeerStream, bytes | None, str | None]:
    """The connection, the client's transport key (None: it showed none) and what it speaks."""
    stream = SecureStream(raw, context)
    with trio.move_on_after(timeout_seconds):
        try:
            await stream.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError) as error:
            await trio.aclose_forcefully(stream)
            raise PeerUnreachable(f"a client {_explain(error)}") from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        der = stream.tls.getpeercert(binary_form=True)
        key = _key_or_none(der) if der else None
        alpn = stream.tls.selected_alpn_protocol()
        if key is None and alpn != ALPN_PAIRING:
            await trio.aclose_forcefully(stream)
            raise PeerUnreachable(f"a client without a certificate asked for {alpn!r}")
        return PeerStream(stream), key, alpn
    await trio.aclose_forcefully(stream)
    raise PeerUnreachable("a client did not finish its handshake in time")


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_cause(inner) for inner in error.exceptions))
    if isinstance(error, OSError) and error.strerror:
        # Errors of name resolution have negative numbers, and their own text.
        if error.errno is not None and error.errno > 0:
            return os.strerror(error.errno).lower()
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _explain(error: BaseException) -> str:
    text = str(error.__cause__ or error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "UNKNOWN_CA" in text.upper():
        return "is not the node that it should be: its certificate is not the paired one"
    if "NO_APPLICATION_PROTOCOL" in text.upper().replace(" ", "_"):
        return "speaks another version of the protocol"
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
        return "does not speak TLS"
    if isinstance(error.__cause__, ssl.SSLEOFError):
        return "closed the connection during the TLS handshake"
    return f"does not complete a TLS 1.3 handshake: {text}"
