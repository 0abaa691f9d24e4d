"""What follows from the records of a log or of both: id index, balances, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import msgspec
import numpy as np

from tallystick.node.doctor.findings import Check
from tallystick.node.doctor.logs import LogExamination
from tallystick.node.doctor.tables import decode_checkpoint, decoded, value_of
from tallystick.node.errors import StoreError
from tallystick.node.store.disk import Txn
from tallystick.node.store.idindex import Run, Uint64s
from tallystick.node.store.keyspace import (
    COVERED_NOTHING,
    CheckpointRow,
    DerivedRow,
    index_of,
    line_key,
    log_key,
    pack_tally,
)
from tallystick.protocol.checkpoint import (
    LogHead,
    build_checkpoint,
    like_signed,
    verify_checkpoint,
)
from tallystick.protocol.declarations import declared, sides_of
from tallystick.protocol.derive import (
    NO_ADJUSTMENTS,
    Adjustments,
    Deriver,
    Folder,
    LineKey,
    Tally,
    period_lines,
)
from tallystick.protocol.disputes import adjustments_at, disputed_lines
from tallystick.protocol.errors import TallyError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.moves import Moves, find_moves, moves_until, unbilled
from tallystick.protocol.records import Terms
from tallystick.protocol.replay import replay_log
from tallystick.protocol.statement import Line, encode_line
from tallystick.protocol.verdict import Verdict, encode_verdict, make_verdict, verdict_digest

Closing = dict[LineKey, Tally]  # the tallies that a checkpoint may bill
_decode_derived = msgspec.msgpack.Decoder(DerivedRow).decode


def derived_row(txn: Txn, log: int) -> DerivedRow | None:
    """How far balances and index of a log reach; None if the row is damaged."""
    stored = txn.raw("derived", log_key(log))
    if not stored:
        return DerivedRow(0, [])
    return decoded(_decode_derived, value_of("derived", log_key(log), stored))


class OpenRuns:
    """The files of a log's id index, held open, so that a running node may merge them away."""

    def __init__(self, folder: Path, row: DerivedRow) -> None:
        self.runs: list[Run] = []
        self.fault = ""
        for run in row.runs:
            try:
                self.runs.append(Run(folder / run.file, run.entries))
            except StoreError as error:
                self.fault = error.message

    def close(self) -> None:
        """Close the files."""
        for run in self.runs:
            run.close()


def check_index(log: LogExamination, row: DerivedRow, runs: OpenRuns) -> list[str]:
    """Every delta below `covered` is found in the index, and nothing else is in it."""
    if runs.fault:
        return [runs.fault]
    prints = np.frombuffer(log.seen.prints, dtype=np.uint64)
    indexes = np.frombuffer(log.seen.indexes, dtype=np.uint64)
    covered = indexes < np.uint64(max(row.covered, 0))
    prints, indexes = prints[covered], indexes[covered]
    found_prints: list[Uint64s] = []
    found_indexes: list[Uint64s] = []
    for run in runs.runs:
        fault = run.examine()
        if fault:
            return [fault]
        a, b = run.slice(0, run.entries)
        found_prints.append(a)
        found_indexes.append(b)
    a = np.concatenate([np.array([], dtype=np.uint64), *found_prints])
    b = np.concatenate([np.array([], dtype=np.uint64), *found_indexes])
    order = np.argsort(b, kind="stable")
    if len(b) != len(indexes) or not np.array_equal(b[order], indexes):
        return [f"the index has {len(b)} entries, the log {len(indexes)} deltas that it covers"]
    wrong = np.flatnonzero(a[order] != prints)
    return [f"record {int(indexes[wrong[0]])} would not be found by its id"] if len(wrong) else []


def read_checkpoints(txn: Txn, number: int) -> tuple[list[CheckpointRow], list[str]]:
    """A channel's checkpoints in a row from the first, and what is wrong with the rest."""
    rows: list[CheckpointRow] = []
    faults: list[str] = []
    for key, stored in txn.stored("checkpoints", log_key(number), log_key(number + 1)):
        row = decoded(decode_checkpoint, value_of("checkpoints", key, stored))
        if row is None:
            faults.append(f"the checkpoint after {len(rows)} others is damaged")
        elif len(key) != 12 or index_of(key) != len(rows):
            faults.append(f"{row.period} is the checkpoint {key.hex()}, {len(rows)} are before it")
        elif not faults:
            rows.append(row)
    return rows, faults


def replay_balances(
    log: LogExamination,
    row: DerivedRow,
    checkpoints: Sequence[CheckpointRow],
    disputed: Set[LineKey],
) -> tuple[dict[bytes, bytes], list[Closing]]:
    """The rows that the log's balances should have, and what each checkpoint found open.

    `disputed` are the lines that either log has disputes about: they may be open unchanged.
    """
    assert log.summary is not None
    stops = [(c.size_of(log.role), c.end_us) for c in checkpoints]
    closings: list[Closing] = []

    def at_stop(tallies: Mapping[LineKey, Tally]) -> None:
        end_us = stops[len(closings)][1]
        closings.append(
            {
                key: Tally(t.total, t.deltas, t.billed, t.billed_deltas)
                for key, t in tallies.items()
                if key.charge_start_us < end_us and (not t.settled or key in disputed)
            }
        )

    size = log.found.size if row.covered == COVERED_NOTHING else row.covered
    folder = Folder(log.found.terms)
    tallies = replay_log(folder, log.batches, size, stops, log.summary.corrected, at_stop)
    number = log.found.number
    return {line_key(number, key): pack_tally(t) for key, t in tallies.items()}, closings


def check_lines(txn: Txn, log: LogExamination, expected: dict[bytes, bytes]) -> list[str]:
    """The balances are what replay gives."""
    nothing = pack_tally(Tally())
    wanted = {key: value for key, value in expected.items() if value != nothing}
    number = log.found.number
    faults = []
    for key, stored in txn.stored("lines", log_key(number), log_key(number + 1)):
        value = value_of("lines", key, stored)
        if value != wanted.pop(key, nothing):
            faults.append(f"the balance {key[12:].decode('utf-8', 'replace')} is not what"
                          " the records give")  # fmt: skip
    if wanted:
        faults.append(f"{len(wanted)} balances are missing")
    return faults


def check_checkpoints(
    terms: Terms,
    rows: Sequence[CheckpointRow],
    logs: tuple[LogExamination, LogExamination],
    closings: tuple[list[Closing], list[Closing]],
    rings: tuple[Keyring, Keyring],
) -> list[str]:
    """Each checkpoint is signed by both and is what the records give; provider's side first."""
    deriver, folder = Deriver(terms, Folder(terms)), Folder(terms)
    faults: list[str] = []
    previous, before_us = b"", None
    disputed: list[Adjustments] = [NO_ADJUSTMENTS]
    lines_of = lines_in_dispute(terms, logs)
    moves = find_moves(
        (unbilled(lines_of, a), unbilled(lines_of, b)) for a, b in zip(*closings, strict=False)
    )
    for place, row in enumerate(rows):
        try:
            signed = _verify(row, rings)
            disputed.append(_disputed(terms, folder, logs, row, moves_until(moves, place)))
            lines = deriver.lines(
                closings[0][place], closings[1][place], before_us, disputed[-1], disputed[-2]
            )
            period = folder.calendar.parse(row.period)
            heads = tuple(
                LogHead(log.party.name, size, log.seen.roots[size])
                for log, size in zip(logs, row.sizes, strict=True)
            )
            lines = period_lines(lines, period.label)
            verdict = _verdict(terms, row, logs, lines)
            digest = verdict_digest(verdict)
            channel = logs[0].found.channel_id
            made = like_signed(
                build_checkpoint(
                    terms, channel, period, previous, (heads[0], heads[1]), lines, digest
                ),
                signed,
            )
        except IndexError:
            faults.append(f"{row.period}: it counts records that are not here")
            break
        except (TallyError, KeyError) as error:
            faults.append(f"{row.period}: {error}")
            break
        if (row.digest, row.end_us) != (signed.digest(), period.end_us):
            faults.append(f"{row.period}: its row is not of the checkpoint in it")
        given = encode_verdict(verdict) if signed.verdict else b""
        kept = ([encode_line(line) for line in lines], given)
        if made.text() != signed.text() or kept != (row.lines, row.verdict):
            faults.append(f"{row.period}: it is not what the records give")
        previous, before_us = row.digest, row.end_us
    return faults


def _verdict(
    terms: Terms,
    row: CheckpointRow,
    logs: tuple[LogExamination, LogExamination],
    lines: Sequence[Line],
) -> Verdict:
    """The verdict that the records give at a checkpoint's sizes."""
    matters = []
    for log in logs:
        assert log.summary is not None
        size = row.size_of(log.role)
        matters.append([said for said in log.summary.matters if said[0] < size])
    provider, consumer = declared(*sides_of(terms, row.period, matters[0], matters[1]))
    return make_verdict(terms, row.period, lines, provider.totals, consumer.totals)


def lines_in_dispute(terms: Terms, logs: Sequence[LogExamination]) -> set[LineKey]:
    """The lines that either log has disputes about, as far as it can be read."""
    calendar = Folder(terms).calendar
    return {
        line
        for log in logs
        if log.summary is not None
        for line in disputed_lines(calendar, log.summary.matters)
    }


def _disputed(
    terms: Terms,
    folder: Folder,
    logs: tuple[LogExamination, LogExamination],
    row: CheckpointRow,
    moves: Moves,
) -> Adjustments:
    """What disputes did to the lines when a checkpoint was made."""
    a, b = (log.summary.matters if log.summary else () for log in logs)
    return adjustments_at(terms, folder.calendar, (a, b), row.sizes, moves)


def _verify(row: CheckpointRow, rings: tuple[Keyring, Keyring]):  # type: ignore[no-untyped-def]
    try:
        return verify_checkpoint(row.note, rings[0])
    except TallyError:
        return verify_checkpoint(row.note, rings[1])


def unjudged(log: LogExamination, names: Sequence[str]) -> list[Check]:
    """Checks that damage keeps from being made."""
    return [Check(log.name(name), None, "cannot be judged") for name in names]
