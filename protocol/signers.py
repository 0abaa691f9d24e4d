"""Who may sign a head beside the channel's two parties: keys of every type that witnesses use.

A line of an Ed25519 note (0x01), of an Ed25519 cosignature (0x04) or of an ML-DSA-44 cosignature
(0x06; c2sp.org/tlog-cosignature) over the text of a tlog-checkpoint, extension lines included.
Nobody here signs with ML-DSA; public witnesses may.
"""

from __future__ import annotations

import base64
import re

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.heads import Head
from tallystick.protocol.keys import (
    ED25519_COSIGNATURE,
    ED25519_NOTE,
    Vkey,
    verify_signature,
)
from tallystick.protocol.notes import TIMESTAMP_MAX, verify_cosignature_blob

MLDSA44_COSIGNATURE = 0x06
ORIGIN_BYTES_MAX = 1024
SIZE_MAX = 2**63 - 1

_KEY_SIZES = {ED25519_NOTE: 32, ED25519_COSIGNATURE: 32, MLDSA44_COSIGNATURE: 1312}
_MLDSA44_SIGNATURE = 2420
_CHECKPOINT = re.compile(
    r"(?P<origin>[^\n]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*"
)


def parse_signer(text: str) -> Vkey:
    """The verifier key of a witness or of a log, of any of these types; `FormatError` if not."""
    try:
        name, id_hex, material = text.split("+", 2)
        raw = base64.b64decode(material, validate=True)
        vkey = Vkey(name, raw[0], raw[1:])
        size = _KEY_SIZES.get(vkey.kind)
        whole = str(vkey) == text and bool(re.fullmatch(r"[^\s+]+", name))
    except (IndexError, ValueError):
        raise FormatError(
            f"not a verifier key: {text[:80]!r}", "It reads name+hash+base64"
        ) from None
    if not whole or (size is not None and len(vkey.key) != size):
        raise FormatError(f"not a verifier key: {text[:80]!r}", "Its parts do not belong together")
    if size is None:
        raise FormatError(
            f"the key {name}+{id_hex} has the type 0x{vkey.kind:02x}, which is not known here",
            "0x01 and 0x04 are Ed25519, 0x06 is ML-DSA-44",
        )
    return vkey


def parse_checkpoint_head(text: str) -> Head:
    """The origin, size and root of anybody's tlog-checkpoint; what follows them is not read."""
    match = _CHECKPOINT.fullmatch(text)
    if match is None:
        raise FormatError("not a checkpoint: its lines are an origin, a size and a root in base64")
    root = base64.b64decode(match["root"])
    size = int(match["size"])
    if base64.b64encode(root).decode() != match["root"] or size > SIZE_MAX:
        raise FormatError(
            "not a checkpoint: its root is not canonical base64 or its size too large"
        )
    if len(match["origin"].encode()) > ORIGIN_BYTES_MAX:
        raise FormatError(f"not a checkpoint: its origin has more than {ORIGIN_BYTES_MAX} bytes")
    return Head(match["origin"], size, root)


def verify_line(vkey: Vkey, text: str, blob: bytes) -> int:
    """The time of a line's signature (POSIX seconds; 0 where the type has none); `ProofError` if
    it does not hold.
    """
    if vkey.kind == ED25519_COSIGNATURE:
        return verify_cosignature_blob(text, vkey, blob)
    if vkey.kind == MLDSA44_COSIGNATURE:
        return _verify_mldsa44(vkey, text, blob)
    if len(blob) != 64:
        raise ProofError(f"the signature of {vkey.name} has a wrong length")
    verify_signature(vkey.key, text.encode(), blob, f"note of {vkey.name}")
    return 0


def mldsa44_message(name: str, timestamp_s: int, head: Head) -> bytes:
    """What an ML-DSA-44 cosignature of a whole tree signs."""
    cosigner, origin = name.encode(), head.origin.encode()
    if not 1 <= len(cosigner) <= 255 or not 1 <= len(origin) <= 255:
        raise ProofError(f"an ML-DSA-44 cosignature of {name} cannot name so long a name or origin")
    return (
        b"subtree/v1\n\0"
        + bytes([len(cosigner)])
        + cosigner
        + timestamp_s.to_bytes(8, "big")
        + bytes([len(origin)])
        + origin
        + bytes(8)
        + head.size.to_bytes(8, "big")
        + head.root
    )


def _verify_mldsa44(vkey: Vkey, text: str, blob: bytes) -> int:
    # Loaded when it is needed: older versions of the package, and some systems, do not have it.
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
    except ImportError:
        raise ProofError(f"cosignature of {vkey.name}: ML-DSA-44 is missing here") from None
    timestamp_s = int.from_bytes(blob[:8], "big")
    if len(blob) != 8 + _MLDSA44_SIGNATURE or timestamp_s > TIMESTAMP_MAX:
        raise ProofError(f"the cosignature of {vkey.name} has a wrong length or time")
    try:
        message = mldsa44_message(vkey.name, timestamp_s, parse_checkpoint_head(text))
        MLDSA44PublicKey.from_public_bytes(vkey.key).verify(blob[8:], message)
    except (InvalidSignature, ValueError, FormatError):
        raise ProofError(f"cosignature of {vkey.name}: the signature does not hold") from None
    except UnsupportedAlgorithm:
        raise ProofError(
            f"cosignature of {vkey.name}: ML-DSA-44 is missing on this system"
        ) from None
    return timestamp_s
