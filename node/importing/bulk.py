"""From an export to columns of deltas: what `drafts` gives, many rows at a time.

Rows that are written as most are become numbers column by column (`columns`). A row of which any
field is not goes to the converter of `drafts`, which takes or refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as Lookup
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from tallystick.node.importing.blocks import Texts, read_texts_of
from tallystick.node.importing.columns import read_quantities, read_texts, read_times
from tallystick.node.importing.drafts import Converter, DraftBatch, Reject, ended
from tallystick.node.importing.mapping import Mapping, Source
from tallystick.node.importing.readers import Rows
from tallystick.protocol.records import Meter

COLUMNS = pyarrow.schema(
    [
        ("row", pyarrow.int64()),
        ("id", pyarrow.string()),
        ("meter", pyarrow.string()),
        ("subject", pyarrow.string()),
        ("quantity", pyarrow.int64()),
        ("instant", pyarrow.int64()),
        ("outcome", pyarrow.string()),
        ("session", pyarrow.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class DraftColumns:
    """What became of some rows: a table with the columns of `COLUMNS`, in no order, and rejects.

    Null is what is not mapped, and for outcome and session also what is empty.
    """

    rows_read: int
    bytes_read: int
    drafts: Any
    rejects: list[Reject]


def read_columns(
    path: Path, mapping: Mapping, meters: Lookup[str, Meter]
) -> Iterator[DraftColumns]:
    """The file's drafts and rejects, batch by batch in bounded memory."""
    converter = _Bulk(mapping, meters)
    for texts in read_texts_of(path, mapping):
        yield converter.convert(texts)


class _Bulk:
    def __init__(self, mapping: Mapping, meters: Lookup[str, Meter]) -> None:
        self._one_by_one = Converter(mapping, meters)
        self._mapping, self._meters = mapping, meters
        self._places = {name: place for place, name in enumerate(mapping.columns())}

    def convert(self, texts: Texts) -> DraftColumns:
        mapping = self._mapping
        count = len(texts.numbers)
        time = texts.columns[self._places[mapping.time]]
        instants, read = read_times(time, mapping.zone, mapping.unit)
        subjects, fine = self._texts(mapping.subject, texts)
        read &= fine
        ids = pyarrow.nulls(count, pyarrow.string())
        if mapping.id:
            ids, fine = self._texts(mapping.id, texts)
            read &= fine
        quantities = []
        for mapped in mapping.meters:
            amounts, fine = self._amounts(mapped.quantity, self._meters[mapped.meter], texts)
            quantities.append(amounts)
            read &= fine
        taken = pyarrow.array(read)
        outcomes = self._outcomes(texts).filter(taken)
        sessions = _filled(self._column(mapping.session, texts)).filter(taken)
        tables = [
            pyarrow.Table.from_arrays(
                [
                    pyarrow.array(texts.numbers[read]),
                    ids.filter(taken),
                    _constant(mapped.meter, int(read.sum())),
                    subjects.filter(taken),
                    pyarrow.array(amounts[read]),
                    pyarrow.array(instants[read]),
                    outcomes,
                    sessions,
                ],
                schema=COLUMNS,
            )
            for mapped, amounts in zip(mapping.meters, quantities, strict=True)
        ]
        rejects = [Reject(bad.row, "", "", bad.reason) for bad in texts.bad]
        if not read.all():
            table, refused = self._others(texts, ~read)
            tables.append(table)
            rejects += refused
        return DraftColumns(
            count + len(texts.bad), texts.bytes_read, pyarrow.concat_tables(tables), rejects
        )

    def _others(self, texts: Texts, left: Any) -> tuple[Any, list[Reject]]:
        """The rows that were not read in columns."""
        mask = pyarrow.array(left)
        values = zip(*(column.filter(mask).to_pylist() for column in texts.columns), strict=True)
        batch = self._one_by_one.convert(Rows(texts.numbers[left].tolist(), list(values)))
        return _table(batch), batch.rejects

    def _column(self, source: Source | None, texts: Texts) -> Any:
        """The texts of a source that is a column or not mapped."""
        if source is None or source.column is None:
            return pyarrow.nulls(len(texts.numbers), pyarrow.string())
        return texts.columns[self._places[source.column]]

    def _outcomes(self, texts: Texts) -> Any:
        """How the requests ended; each way that occurs is looked at once."""
        mapping = self._mapping
        if mapping.outcome is None and mapping.attempt is None:
            return pyarrow.nulls(len(texts.numbers), pyarrow.string())
        said = [self._column(source, texts) for source in (mapping.outcome, mapping.attempt)]
        ways, attempts = (column.dictionary_encode(null_encoding="encode") for column in said)
        width = max(len(attempts.dictionary), 1)
        pairs = ways.indices.to_numpy() * width + attempts.indices.to_numpy()
        present, places = np.unique(pairs, return_inverse=True)
        texts_of_ways, texts_of_attempts = (c.dictionary.to_pylist() for c in (ways, attempts))
        ends = [
            ended(texts_of_ways[pair // width], texts_of_attempts[pair % width]) or None
            for pair in present.tolist()
        ]
        return pyarrow.array(ends, pyarrow.string()).take(pyarrow.array(places))

    def _texts(self, source: Source, texts: Texts) -> tuple[Any, Any]:
        """A source's texts, and which are plain."""
        if source.column is not None:
            column = texts.columns[self._places[source.column]]
            return column, read_texts(column)
        if source.value is not None:
            column = _constant(source.value, len(texts.numbers))
            plain = bool(read_texts(column[:1]).all())
            return column, np.full(len(texts.numbers), plain)
        pieces, fine = [], np.ones(len(texts.numbers), dtype=bool)
        for piece in re.split(r"(\{[^{}]*\})", source.template or ""):
            if piece == "{row}":
                pieces.append(pyarrow.array(texts.numbers).cast(pyarrow.string()))
            elif piece.startswith("{") and piece.endswith("}"):
                column = texts.columns[self._places[piece[1:-1]]]
                pieces.append(column)
                # A value that looks like a part of the template would be filled in as well.
                brace = pyarrow.compute.match_substring(column, "{")
                fine &= ~brace.to_numpy(zero_copy_only=False)
            elif piece:
                pieces.append(pyarrow.scalar(piece))
        if not pieces or all(isinstance(piece, pyarrow.Scalar) for piece in pieces):
            return _constant(source.template or "", len(fine)), np.zeros(len(fine), dtype=bool)
        column = pyarrow.compute.binary_join_element_wise(*pieces, "")
        return column, fine & read_texts(column)

    def _amounts(self, source: Source, meter: Meter, texts: Texts) -> tuple[Any, Any]:
        """A meter's quantities, and which were read and are within its range."""
        if source.column is not None:
            column = texts.columns[self._places[source.column]]
            amounts, read = read_quantities(column, meter.scale)
        else:
            one, fine = read_quantities(_constant(source.value or "", 1), meter.scale)
            amounts = np.repeat(one, len(texts.numbers))
            read = np.repeat(fine, len(texts.numbers))
        return amounts, read & (amounts >= meter.minimum) & (amounts <= meter.maximum)


def _constant(value: str, count: int) -> Any:
    return pyarrow.repeat(pyarrow.scalar(value, pyarrow.string()), count)


def _filled(column: Any) -> Any:
    """A column with nulls for what is empty."""
    empty = pyarrow.compute.equal(column, "")
    return pyarrow.compute.if_else(empty, pyarrow.scalar(None, pyarrow.string()), column)


def _table(batch: DraftBatch) -> Any:
    drafts = batch.drafts
    nothing: list[str | None] = [None] * len(drafts)
    columns = (
        batch.draft_rows,
        [draft.id or None for draft in drafts],
        [draft.meter for draft in drafts],
        [draft.subject for draft in drafts],
        [draft.quantity for draft in drafts],
        [draft.occurred_at for draft in drafts],
        [outcome or None for outcome in batch.outcomes] or nothing,
        [session or None for session in batch.sessions] or nothing,
    )
    arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, COLUMNS, strict=True)]
    return pyarrow.Table.from_arrays(arrays, schema=COLUMNS)
