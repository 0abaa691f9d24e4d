"""The known answers about disputes: logs, where their disputes stand, and the lines of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from builders import NOVEMBER_US
from disputing import ANSWER_DAYS, DISPUTE_DAYS, Quarrel

from tallystick.protocol.declarations import commitment
from tallystick.protocol.records import (
    Declaration,
    DeclaredTotal,
    Disclosure,
    Matter,
    Named,
    Record,
    Reminder,
    Resolution,
    Reveal,
    Withdrawal,
    encode_record,
    record_digest,
)


def _quarrel(closed: bool = False) -> tuple[Quarrel, bytes]:
    """The provider counted 100 tokens, the consumer 70, who disputes 30 of them."""
    channel = Quarrel()
    channel.count("tokens", 100, 70)
    if closed:
        channel.closing()
    named = (Named("provider", 1), Named("consumer", 1))
    return channel, channel.dispute("consumer", 30, records=named)


def _open(channel: Quarrel, digest: bytes) -> None:
    channel.dispute("provider", -250, meter="gpu-hours", code="reference")


def _answered(channel: Quarrel, digest: bytes) -> None:
    channel.answer("provider", digest, 10)


def _contested(channel: Quarrel, digest: bytes) -> None:
    channel.answer("provider", digest, 10)
    channel.answer("consumer", digest)


def _conceded(channel: Quarrel, digest: bytes) -> None:
    channel.answer("provider", digest, 10)
    channel.answer("provider", digest, 30)


def _resolved(channel: Quarrel, digest: bytes) -> None:
    channel.resolve("provider", digest, 12)
    channel.resolve("consumer", digest, 11)
    channel.resolve("consumer", digest, 12)


def _withdrawn(channel: Quarrel, digest: bytes) -> None:
    channel.withdraw("consumer", digest)


def _upheld(channel: Quarrel, digest: bytes) -> None:
    channel.lapse("consumer", channel.consumer_log.state.size - 1, 1, 1 + ANSWER_DAYS)


def _lapsed(channel: Quarrel, digest: bytes) -> None:
    index = channel.answer("provider", digest, 10)
    channel.lapse("provider", index, 2, 2 + DISPUTE_DAYS)


def _barred(channel: Quarrel, digest: bytes) -> None:
    channel.withdraw("consumer", digest)
    channel.lapse("provider", 2, 1, 1 + DISPUTE_DAYS)
    channel.dispute("consumer", 5, 2 + DISPUTE_DAYS)


def _carried(channel: Quarrel, digest: bytes) -> None:
    channel.closing(NOVEMBER_US)
    channel.answer("provider", digest, 10)


_CASES: tuple[tuple[bool, Callable[[Quarrel, bytes], None]], ...] = (
    (False, _open),
    (False, _answered),
    (False, _contested),
    (False, _conceded),
    (False, _resolved),
    (False, _withdrawn),
    (False, _upheld),
    (False, _lapsed),
    (True, _barred),
    (True, _carried),
)


def disputes() -> dict[str, Any]:
    """Both logs to where each dispute stands, and to all open lines: section 8, disputes."""
    cases = []
    for closed, act in _CASES:
        channel, digest = _quarrel(closed)
        act(channel, digest)
        cases.append(
            {
                "case": act.__name__.removeprefix("_"),
                "provider_records": [encode_record(r).hex() for r in channel.provider_log.records],
                "consumer_records": [encode_record(r).hex() for r in channel.consumer_log.records],
                "disputes": shown(channel),
                "open_lines": [msgspec.to_builtins(line) for line in channel.derive()],
            }
        )
    terms = encode_record(Quarrel().terms).hex()
    return {"terms": terms, "cases": cases, "invalid": _invalid()}


def shown(channel: Quarrel) -> list[dict[str, Any]]:
    """Where the disputes of a channel stand, as the vectors say it."""
    return [
        {
            "log": one.role,
            "index": one.index,
            "digest": one.digest.hex(),
            "state": one.state,
            "upheld": one.upheld,
            "pending": one.pending,
            "waits_for": one.waits_for,
        }
        for one in channel.standings()
    ]


def _invalid() -> list[dict[str, Any]]:
    """Records that may not be next in the consumer's log, each for one reason."""
    channel, digest = _quarrel()
    log = channel.consumer_log
    dispute = log.records[-1]
    at = log.state.facts.recorded_at
    early = (channel.attest("consumer", 1), channel.attest("consumer", ANSWER_DAYS))
    channel.lapse("consumer", 2, 1, 1 + ANSWER_DAYS)
    lapse = log.records.pop()
    before = [encode_record(record).hex() for record in log.records]
    soon = msgspec.structs.replace(lapse, start=early[0], end=early[1])
    forged = bytes(reversed(lapse.end.cosignature))  # type: ignore[union-attr]
    end = msgspec.structs.replace(lapse.end, cosignature=forged)  # type: ignore[union-attr]
    late = lapse.recorded_at  # type: ignore[union-attr]
    records: list[tuple[Record, str]] = [
        (msgspec.structs.replace(dispute, amount=0, recorded_at=late), "an amount of nothing"),
        (msgspec.structs.replace(dispute, meter="water", recorded_at=late), "no such meter"),
        (msgspec.structs.replace(dispute, period="2026-13", recorded_at=late), "no such period"),
        (
            msgspec.structs.replace(dispute, records=(Named("consumer", 9),), recorded_at=late),
            "it names a record of its own log that is not before it",
        ),
        (Withdrawal(bytes(32), "no", late), "the dispute is not in this log"),
        (Reminder(1, late), "record 1 waits for nobody"),
        (soon, "the co-signatures are a day less apart than the terms give"),
        (msgspec.structs.replace(lapse, end=end), "the second co-signature does not hold"),
        (msgspec.structs.replace(lapse, index=1), "record 1 waits for nobody"),
        (Resolution(digest, 1, "why", at), "recorded_at goes back"),
    ]
    return [
        {"before": before, "record": encode_record(record).hex(), "reason": reason}
        for record, reason in records
    ]


def matters() -> list[Matter]:
    """One record of each kind of matter."""
    channel, digest = _quarrel()
    _lapsed(channel, digest)
    _resolved(channel, digest)
    _withdrawn(channel, digest)
    at = channel.provider_log.state.facts.recorded_at
    totals = (DeclaredTotal("gpu-hours", "12.50"), DeclaredTotal("tokens", "100"))
    salt = bytes(range(32))
    made = commitment(channel.terms, "provider", "2026-10", salt, totals)
    declaration = Declaration("2026-10", made, at)
    session, opened = record_digest(declaration), record_digest(Quarrel().terms)
    found: dict[type, Record] = {}
    for record in [*channel.consumer_log.records, *channel.provider_log.records]:
        found.setdefault(type(record), record)
    return [
        declaration,
        Reveal(record_digest(declaration), bytes(32), salt, totals, at),
        *(record for record in found.values() if isinstance(record, Matter)),
        Disclosure(session, "2026-10", 3, 5, opened, at),
    ]
