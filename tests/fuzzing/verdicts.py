"""Targets for declarations and verdicts: what counts of any records, both forms of a verdict."""

from __future__ import annotations

import builders

from fuzzing.contract import attempt
from tallystick.protocol.declarations import (
    declared,
    next_opening,
    periods_of,
    sides_of,
)
from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import batch_bytes, decode_batch, encode_record
from tallystick.protocol.rendering import parse_verdict_json, verdict_json
from tallystick.protocol.verdict import (
    Verdict,
    declared_of,
    decode_verdict,
    describe_meter,
    encode_verdict,
    first_differing,
    make_verdict,
    verdict_digest,
)

CHANNEL = builders.busy_channel()
KNOWN = CHANNEL.closed[0]


def verdicts(data: bytes) -> None:
    """A verdict as a proposal has it."""
    verdict = attempt(FormatError, decode_verdict, data)
    if verdict is not None:
        assert encode_verdict(verdict) == data
        assert parse_verdict_json(verdict_json(verdict)) == verdict
        _shown(verdict)


def verdict_files(data: bytes) -> None:
    """A bundle's `verdict.json`."""
    verdict = attempt(FormatError, parse_verdict_json, data)
    if verdict is not None:
        assert parse_verdict_json(verdict_json(verdict)) == verdict
        _shown(verdict)


def _shown(verdict: Verdict) -> None:
    verdict_digest(verdict)
    first_differing(verdict, KNOWN.verdict)
    for row in verdict.meters:
        describe_meter(row, "acme.example", "beta.example").encode()
    totals = attempt(FormatError, declared_of, CHANNEL.terms, verdict)
    if totals is not None:
        made = make_verdict(CHANNEL.terms, verdict.period, KNOWN.lines, *totals)
        assert declared_of(CHANNEL.terms, made) == totals


def declarations(data: bytes) -> None:
    """A batch of any records: those before the first byte's place are the provider's, the rest the
    consumer's.
    """
    found = attempt(FormatError, decode_batch, data[1:])
    if found is None:
        return
    records = list(enumerate(found[0]))
    logs = records[: data[0]], records[data[0] :]
    for period in {label for log in logs for label in periods_of(log)}:
        sides = sides_of(CHANNEL.terms, period, *logs)
        counted = declared(*sides)
        for said, one in zip(sides, counted, strict=True):
            assert one.totals is None or (one.revealed and one.committed and not one.problem)
            assert said.openings.keys() <= said.declarations.keys()
        opened = next_opening(*sides, (len(records), len(records)), sides[0].declarations.keys())
        assert opened is None or opened[0] not in sides[0].openings
        make_verdict(CHANNEL.terms, period, [], counted[0].totals, counted[1].totals)


def declaration_seeds() -> list[bytes]:
    """Both parties' declarations of October, whole and with one left out."""
    logs = [
        [encode_record(record) for _, record in log.matters(log.state.size)] for log in CHANNEL.logs
    ]
    parts = [*logs[0], *logs[1]]
    ways = [parts, *(parts[:n] + parts[n + 1 :] for n in range(len(parts)))]
    return [bytes([len(logs[0])]) + batch_bytes(way) for way in ways]
