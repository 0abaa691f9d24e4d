"""Declarations: a party commits to its own totals of a period, and opens them later.

The commitment is a hash of the totals and a random salt, so it tells nothing of them, and they
cannot be changed once it stands in a co-signed log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.records import Declaration, DeclaredTotal, Reveal, Role, Terms
from tallystick.protocol.terms import channel_id

TITLE = b"tallystick declaration v1\n"
_encode = msgspec.msgpack.Encoder().encode


def commitment(
    terms: Terms, role: Role, period: str, salt: bytes, totals: Sequence[DeclaredTotal]
) -> bytes:
    """What a declaration of these totals commits to; nobody else's declaration has the same."""
    said = _encode([period, salt, list(totals)])
    return hashlib.sha256(TITLE + channel_id(terms) + role.encode() + said).digest()


def check_reveal(terms: Terms, role: Role, declaration: Declaration, reveal: Reveal) -> None:
    """Refuse (`InvalidRecord`) a reveal that opens something else than what was committed to."""
    opened = commitment(terms, role, declaration.period, reveal.salt, reveal.totals)
    if opened != declaration.commitment:
        raise InvalidRecord("what it opens is not what its declaration committed to")
