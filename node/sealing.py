"""What is kept beside a delta: its record has only a salted digest of it.

Whoever is shown the sealed bytes can check them against the co-signed record; without the salt
nobody can guess them; and they can be erased while the chain still verifies. They are never sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256

from tallystick.node.importing.drafts import Draft
from tallystick.node.logs import ChannelLog
from tallystick.node.store.keyspace import delta_key
from tallystick.node.store.matters import Row
from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.records import TIME_MAX_US, Delta

SALT_BYTES = 16
SEALED_BYTES_MAX = 64 * 1024


def seal(content: bytes) -> bytes:
    """Content under a fresh salt."""
    return secrets.token_bytes(SALT_BYTES) + content


def deltas_of(drafts: Sequence[Draft], recorded_at: int) -> list[Delta]:
    """The records of drafts; each has the digest of what is kept beside it."""
    return [
        Delta(
            d.id,
            d.meter,
            d.subject,
            d.quantity,
            d.occurred_at,
            recorded_at,
            sha256(d.sealed).digest() if d.sealed else None,
        )
        for d in drafts
    ]


def rows_beside(log: int, drafts: Sequence[Draft]) -> list[Row]:
    """The rows that keep what is beside these drafts."""
    return [
        ("attributes", delta_key(log, draft.meter, draft.id), draft.sealed)
        for draft in drafts
        if draft.sealed
    ]


def check_sealed(draft: Draft) -> None:
    """`InvalidRecord` if too much is to be kept beside a delta."""
    if len(draft.sealed) > SEALED_BYTES_MAX:
        raise InvalidRecord(
            f"{len(draft.sealed)} bytes beside {draft.meter}/{draft.id};"
            f" {SEALED_BYTES_MAX} are allowed"
        )


def check_time(draft: Draft) -> None:
    """`InvalidRecord` if a delta is of a time that no record can hold, as by a wrong clock."""
    if not 0 <= draft.occurred_at <= TIME_MAX_US:
        raise InvalidRecord(
            f"{draft.meter}/{draft.id} is not of a time between 1970 and 9998;"
            " is this machine's clock right?"
        )


def sealed_of(log: ChannelLog, delta: Delta) -> bytes:
    """What is kept beside a delta of a log; empty if nothing is, or if it was erased."""
    if delta.attributes is None:
        return b""
    with log.store.read() as txn:
        sealed = txn.get("attributes", delta_key(log.number, delta.meter, delta.id)) or b""
    return sealed if sha256(sealed).digest() == delta.attributes else b""


def content_of(log: ChannelLog, delta: Delta) -> bytes | None:
    """The content that is kept beside a delta; None if there is none."""
    return sealed_of(log, delta)[SALT_BYTES:] or None
