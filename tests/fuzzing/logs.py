"""Targets for records: one, a batch, and what the rules and the terms say of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import builders

from fuzzing.contract import attempt
from tallystick.protocol.derive import Folder
from tallystick.protocol.errors import FormatError, InvalidRecord, ProofError
from tallystick.protocol.log import LogFacts, LogState, Rules, append, fold_facts
from tallystick.protocol.matters import Matters
from tallystick.protocol.records import (
    ROLES,
    Correction,
    Delta,
    Record,
    Role,
    Terms,
    batch_bytes,
    batch_count,
    decode_batch,
    decode_record,
    encode_record,
)
from tallystick.protocol.rendering import parse_statement_json, statement_csv, statement_json
from tallystick.protocol.replay import rederive
from tallystick.protocol.statement import decode_line, encode_line
from tallystick.protocol.terms import check_terms, describe_terms

CHANNEL = builders.busy_channel()
CHECKPOINT = CHANNEL.closed[0].checkpoint


def records(data: bytes) -> None:
    """One record; terms must be sayable in words if they hold."""
    record = attempt(FormatError, decode_record, data)
    if record is None:
        return
    assert encode_record(record) == data
    if isinstance(record, Terms):
        try:
            check_terms(record)
        except InvalidRecord as error:
            str(error).encode()
        else:
            "\n".join(describe_terms(record)).encode()


class _Past(Matters):
    """A log's deltas and matters, and those of the records that were checked on top of it."""

    def __init__(self, log: builders.MemoryLog) -> None:
        super().__init__(log)
        self.log = log
        self.now: dict[tuple[str, str], tuple[Delta, int | None]] = {}

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        return self.now.get((meter, id)) or self.log.effective(meter, id)

    def note(self, index: int, record: Record) -> None:
        super().note(index, record)
        if isinstance(record, Delta):
            self.now[record.meter, record.id] = (record, record.quantity)
        elif isinstance(record, Correction):
            found = self.effective(record.meter, record.id)
            assert found is not None, "a valid correction corrects what is there"
            self.now[record.meter, record.id] = (found[0], record.quantity)


def batches(data: bytes) -> None:
    """A batch on its own, then as the next one of either log, empty or not.

    Validity does not depend on where batches are cut: checked in one go or record by record, the
    same records pass, or the same one fails.
    """
    decoded = attempt(FormatError, decode_batch, memoryview(data))
    if decoded is None:
        return
    found, parts = decoded
    assert batch_bytes(parts) == data
    assert batch_count(data) == len(found)
    for role, log in zip(ROLES, CHANNEL.logs, strict=True):
        for state in (LogState.empty(CHANNEL.id), log.state):
            _check(role, log, state, found, parts)


def _check(
    role: Role, log: builders.MemoryLog, state: LogState, found: list[Record], parts: list[bytes]
) -> None:
    rules = Rules(CHANNEL.terms, role)
    known = log if state.size else builders.MemoryLog(log.terms, role, log.author, log.peer)
    whole: LogFacts | str
    try:
        whole = rules.check_batch(state, found, _Past(known))
    except InvalidRecord as error:
        str(error).encode()
        whole = error.message
    one_by_one: LogFacts | str = state.facts
    past, now = _Past(known), state
    try:
        for record, part in zip(found, parts, strict=True):
            facts = rules.check_batch(now, [record], past)
            past.note(now.size, record)
            now = append(now, [part], facts).state
            one_by_one = facts
    except InvalidRecord as error:
        one_by_one = error.message
    assert isinstance(whole, str) == isinstance(one_by_one, str), (whole, one_by_one)
    if isinstance(whole, LogFacts):
        assert whole == one_by_one
        assert fold_facts(state.facts, state.size, found) == whole
        assert append(state, parts, whole).state == replace(now, facts=whole)
        Folder(CHANNEL.terms).fold(found)


def logs(data: bytes) -> None:
    """A batch at the end of either log, up to the lines that are derived from both."""
    for side, log in enumerate(CHANNEL.logs):
        sizes = [log.state.size for log in CHANNEL.logs]
        sizes[side] += min(batch_count(data), 1000)
        sources = [other.source for other in CHANNEL.logs]
        sources[side] = partial(list, [*log.batches, data])
        attempt(
            (FormatError, InvalidRecord, ProofError),
            rederive,
            CHANNEL.terms,
            CHANNEL.id,
            *sources,
            (sizes[0], sizes[1]),
        )


def lines(data: bytes) -> None:
    """One balance line, as a proof and a peer's statement page have it."""
    line = attempt(FormatError, decode_line, data)
    if line is not None:
        assert encode_line(line) == data
        statement_csv([line])


def statements(data: bytes) -> None:
    """A statement's JSON."""
    found = attempt(FormatError, parse_statement_json, data)
    if found is not None:
        statement_csv(found)
        assert parse_statement_json(statement_json(CHECKPOINT, found)) == found
