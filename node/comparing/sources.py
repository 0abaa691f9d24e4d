"""Both sides of a comparison as columns for the engine: an export's rows, and the record's deltas.

Nothing is loaded but what is of the wanted meters and within the wanted stretch of time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow
import pyarrow.compute

from tallystick.node.comparing.tables import EVENTS, Progress
from tallystick.node.corrected import corrected as all_corrected
from tallystick.node.importing.bulk import read_columns
from tallystick.node.importing.drafts import Reject
from tallystick.node.importing.mapping import Mapping
from tallystick.node.logs import ChannelLog
from tallystick.node.store.source import batches
from tallystick.protocol.records import Delta, Meter

RECORDS_AT_ONCE = 100_000

_DELTA = Delta.__struct_config__.tag
_decode = msgspec.msgpack.Decoder(list[tuple[Any, ...]]).decode

Corrected = dict[tuple[str, str], int | None]


class Export:
    """A file's events, and what could not be read of it."""

    def __init__(
        self, file: Path, mapping: Mapping, meters: dict[str, Meter], reach: tuple[int, int]
    ) -> None:
        self._file, self._mapping, self._meters, self._reach = file, mapping, meters, reach
        self.rejected = 0
        self._first: Reject | None = None

    @property
    def first_reject(self) -> str:
        """The first row that could not be read, and why; empty if all could."""
        first = self._first
        return f"row {first.row}, {first.column}: {first.reason}" if first else ""

    def tables(self, progress: Progress) -> Iterator[Any]:
        """The events as tables with the columns of `EVENTS`."""
        size = self._file.stat().st_size if self._file.exists() else 0
        for batch in read_columns(self._file, self._mapping, self._meters):
            self.rejected += len(batch.rejects)
            if batch.rejects and self._first is None:
                self._first = min(batch.rejects, key=lambda reject: reject.row)
            progress("reading the export", batch.bytes_read, size)
            yield _within(batch.drafts.rename_columns(EVENTS.names), self._reach)


def _table(columns: Sequence[Any]) -> Any:
    """A table of events, which in the record have no outcome and no session."""
    nothing = pyarrow.nulls(len(columns[0]), pyarrow.string())
    return pyarrow.Table.from_arrays([*columns, nothing, nothing], schema=EVENTS)


def _within(table: Any, reach: tuple[int, int]) -> Any:
    instants = table["instant"].to_numpy()
    inside = (instants >= reach[0]) & (instants < reach[1])
    return table if inside.all() else table.filter(pyarrow.array(inside))


def record_tables(
    log: ChannelLog, names: set[str], reach: tuple[int, int], progress: Progress
) -> Iterator[Any]:
    """The record's events, with their corrected quantities; voided ones are left out."""
    corrected = all_corrected(log)
    wanted = pyarrow.array(sorted(names), pyarrow.string())
    waiting: list[Any] = []
    for first, batch in _batches(log):
        table = _deltas(first, _decode(batch), corrected)
        if table is not None:
            meters = pyarrow.compute.is_in(table["meter"], value_set=wanted)
            waiting.append(_within(table.filter(meters), reach))
        if sum(map(len, waiting)) >= RECORDS_AT_ONCE:
            progress("reading the record", first, log.durable_size)
            yield pyarrow.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pyarrow.concat_tables(waiting)


def _batches(log: ChannelLog) -> Iterator[tuple[int, bytes]]:
    """The log's durable batches as they are stored, and each one's first index."""
    with log.store.read() as txn:
        for first, batch in batches(txn, log.number):
            if first >= log.durable_size:
                return
            yield first, batch


def _deltas(first: int, records: list[tuple[Any, ...]], corrected: Corrected) -> Any:
    """The deltas among records whose indexes begin at `first`; None if there are none."""
    places: Any = np.arange(first, first + len(records))
    if set(map(itemgetter(0), records)) != {_DELTA}:
        places = [first + n for n, record in enumerate(records) if record[0] == _DELTA]
        records = [record for record in records if record[0] == _DELTA]
    if not records:
        return None
    _, ids, meters, subjects, quantities, instants, *_ = zip(*records, strict=True)
    if corrected:
        found = zip(meters, ids, quantities, strict=True)
        quantities = tuple(corrected.get((meter, id_), amount) for meter, id_, amount in found)
    columns = (places, ids, meters, subjects, quantities, instants)
    table = _table(
        [pyarrow.array(c, f.type) for c, f in zip(columns, list(EVENTS)[:6], strict=True)]
    )
    return table.filter(table["quantity"].is_valid()) if corrected else table


@contextmanager
def without_collector() -> Iterator[None]:
    """Millions of tuples come and go while sides are read, and none is part of a cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
