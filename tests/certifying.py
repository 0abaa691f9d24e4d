"""Certificates of the known parties: one of each kind, and one after keys were changed."""

from __future__ import annotations

from typing import Any

from builders import MemoryLog
from disputing import ANSWER_DAYS, DISPUTE_DAYS, Quarrel

from tallystick.protocol.certificate import Subject, build_certificate
from tallystick.protocol.checks import Check
from tallystick.protocol.merkle import chain_leaves, root_of
from tallystick.protocol.records import Role, Rotation, encode_record
from tallystick.protocol.verify_certificate import verify_certificate


def certificate(channel: Quarrel, role: Role, index: int, dispute: bytes = b"") -> bytes:
    """The certificate that record `index` of a party's log lapsed, which its last record says."""
    log = channel.log(role)
    parts = [encode_record(record) for record in log.records]
    leaves = chain_leaves(channel.id, parts)
    data = [before + part for before, part in zip([channel.id, *leaves], parts, strict=False)]
    keys = tuple(part for one in channel.logs for part in _rotations(one))
    at = len(parts) - 1
    return build_certificate(
        Subject(channel.id, log.author.name, encode_record(channel.terms), keys, dispute),
        (index, data[index]),
        (at, data[at]),
        log.head_note(),
        lambda start, end: root_of(leaves[start:end]),
    )


def _rotations(log: MemoryLog) -> list[bytes]:
    return [
        encode_record(record)
        for record in log.records
        if isinstance(record, Rotation) and record.party == log.role and record.job != "transport"
    ]


def upheld(channel: Quarrel | None = None) -> bytes:
    """The consumer's dispute was not answered."""
    channel = channel or Quarrel()
    channel.count("tokens", 100, 70)
    channel.dispute("consumer", 30)
    index = channel.consumer_log.state.size - 1
    channel.lapse("consumer", index, 1, 1 + ANSWER_DAYS)
    return certificate(channel, "consumer", index)


def rotated() -> bytes:
    """The same after both parties took new keys."""
    channel = Quarrel()
    channel.rotate("provider", "cosigner")
    channel.rotate("consumer", "log")
    return upheld(channel)


def lapsed() -> bytes:
    """The consumer did not insist after the provider's answer."""
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    digest = channel.dispute("consumer", 30)
    index = channel.answer("provider", digest, 10)
    channel.lapse("provider", index, 2, 2 + DISPUTE_DAYS)
    dispute = encode_record(channel.consumer_log.records[-1])
    return certificate(channel, "provider", index, dispute)


def accepted() -> bytes:
    """The consumer did not dispute the checkpoint of October."""
    channel = Quarrel()
    channel.count("tokens", 100, 100)
    channel.closing()
    index = channel.provider_log.state.size - 1
    channel.lapse("provider", index, 1, 1 + DISPUTE_DAYS)
    return certificate(channel, "provider", index)


def files() -> dict[str, bytes]:
    """The vectors, by file name."""
    return {
        "accepted.certificate": accepted(),
        "lapsed.certificate": lapsed(),
        "rotated.certificate": rotated(),
        "upheld.certificate": upheld(),
    }


def documents(made: dict[str, bytes]) -> list[dict[str, Any]]:
    """What each vector's checks say."""
    return [
        {"file": name, "checks": [_check(check) for check in verify_certificate(data)]}
        for name, data in made.items()
    ]


def _check(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "detail": check.detail}
