"""Targets for the files of usage that are imported and compared."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import builders

from fuzzing.contract import attempt, scratch_file
from tallystick.node.importing.drafts import Draft, Reject, read_drafts
from tallystick.node.importing.mapping import Mapping, load_mapping
from tallystick.protocol.errors import InputError
from tallystick.protocol.records import Delta, check_texts, decode_record, encode_record

METERS = {
    m.name: m
    for m in (
        builders.meter("tokens", minimum=0, maximum=10**9),
        builders.meter("hours", scale=2, minimum=-100, maximum=10**6),
    )
}
MAP = """\
time = { column = "when", zone = "Europe/Berlin" }
id = { template = "{id}-{row}" }
subject = { column = "who" }
[[meter]]
meter = "tokens"
quantity = { column = "n" }
[[meter]]
meter = "hours"
quantity = { column = "h" }
"""
BATCH_ROWS = (3, 1000)


@cache
def _mapping() -> Mapping:
    return load_mapping(scratch_file("known-map.toml", MAP.encode()))


def _read(name: str, data: bytes) -> None:
    """Every row is counted once, every draft could be recorded as it is, and the rows in a batch
    change nothing.
    """
    path = scratch_file(name, data)
    few, many = (attempt(InputError, _all, path, rows) for rows in BATCH_ROWS)
    assert few == many


def _all(path: Path, batch_rows: int) -> tuple[list[Draft], list[Reject]]:
    drafts: list[Draft] = []
    rejects: list[Reject] = []
    for batch in read_drafts(path, _mapping(), METERS, batch_rows):
        taken = set(batch.draft_rows)
        refused = {reject.row for reject in batch.rejects}
        assert not taken & refused
        assert len(taken) + len(refused) == batch.rows_read
        for reject in batch.rejects:
            assert reject.reason
            reject.reason.encode()
        for d in batch.drafts:
            check_texts(d.id, d.subject)
            meter = METERS[d.meter]
            assert meter.minimum <= d.quantity <= meter.maximum
            at = d.occurred_at
            record = Delta(d.id, d.meter, d.subject, d.quantity, at, at, None)
            assert decode_record(encode_record(record)) == record
        drafts += batch.drafts
        rejects += batch.rejects
    return drafts, sorted(rejects, key=lambda reject: reject.row)


def csv(data: bytes) -> None:
    """A CSV file."""
    _read("export.csv", data)


def csv_gz(data: bytes) -> None:
    """A CSV file in gzip."""
    _read("export.csv.gz", data)


def json_lines(data: bytes) -> None:
    """A JSON Lines file."""
    _read("export.jsonl", data)


def parquet(data: bytes) -> None:
    """A Parquet file."""
    _read("export.parquet", data)
