"""Co-signed heads as witnesses of time: when the peer had a record, and that it was there later."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from tallystick.node.logs import ChannelLog
from tallystick.node.store.keyspace import index_key, index_of, log_key
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.heads import Head, verify_head_cosignature
from tallystick.protocol.matters import attested_at_s, waiting_seconds
from tallystick.protocol.records import ROLES, Attested

HEADS_TRIED_MAX = 1024  # whose co-signature is not there, or not by the key in force
VERIFIED_MAX = 16_384  # co-signatures that are not verified again


def first_attested(log: ChannelLog, index: int) -> Attested | None:
    """The first co-signed head that holds the record at an index, as a lapse may name it."""
    return next(_attested(log, max(index + 1, log.state.facts.lost_size + 1)), None)


def newest_attested(log: ChannelLog) -> Attested | None:
    """The newest co-signed head, as a lapse may name it."""
    size = log.cosigned_size
    return next(_attested(log, size), None) if size else None


def _attested(log: ChannelLog, size: int) -> Iterator[Attested]:
    """The heads of that size and more that the peer co-signed by its key in force there."""
    start, stop = index_key(log.number, size), log_key(log.number + 1)
    with log.store.read() as txn:
        for (key, _), _ in zip(
            txn.scan("heads", start, stop), range(HEADS_TRIED_MAX), strict=False
        ):
            row = log.head_row(txn, index_of(key))
            if row is not None and row.cosignature:
                found = Attested(index_of(key), row.root, row.cosignature)
                if _counts(log, found):
                    yield found


def _counts(log: ChannelLog, attested: Attested) -> bool:
    other = next(role for role in ROLES if role != log.role)
    peer = log.terms.provider if other == "provider" else log.terms.consumer
    key = log.keyring_at(attested.size).keys(other, "cosigner")[-1].key
    return _holds(log.head(attested.size, attested.root), peer.name, key, attested.cosignature)


@lru_cache(VERIFIED_MAX)  # many records share a head, and are asked about again and again
def _holds(head: Head, name: str, key: bytes, cosignature: bytes) -> bool:
    try:
        verify_head_cosignature(head, name, key, cosignature)
    except (FormatError, ProofError):
        return False
    return True


def until_s(log: ChannelLog, index: int) -> int | None:
    """Until when the terms let the peer contradict the record at an index (POSIX seconds, by the
    peer's clock); None if it has not co-signed it yet, or the record waits for nothing.
    """
    record = log.matter(index)
    seconds = None if record is None else waiting_seconds(log.terms, record)
    start = first_attested(log, index)
    return None if seconds is None or start is None else attested_at_s(start) + seconds
