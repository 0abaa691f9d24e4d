"""Events on lanes as columns of numpy, streamed in order and cut only where no pair can be.

A *lane* is one meter and subject that both sides have events of. Columns come sorted from the
engine, so memory holds a batch and the longest piece that must not be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow

from tallystick.node.comparing.tables import Tables

BATCH_ROWS = 250_000

_PAIRS = pyarrow.schema(
    [
        ("ours", pyarrow.int64()),
        ("theirs", pyarrow.int64()),
        ("step", pyarrow.string()),
        ("confidence", pyarrow.string()),
    ]
)

Array = Any  # numpy's arrays, of one dimension throughout


class Stretch(NamedTuple):
    """Events in a row, column by column; `side` is 0 for ours and 1 for theirs."""

    lane: Array
    quantity: Array
    instant: Array
    side: Array
    event: Array
    reach: Array  # how far apart in time two events of a pair may be, in µs

    def at(self, where: Array) -> Stretch:
        """Those at an index, a mask or a slice."""
        return Stretch(*(column[where] for column in self))


class Pairs(NamedTuple):
    """Pairs as columns: events of ours, events of theirs, and which of them are likely."""

    ours: Array
    theirs: Array
    likely: Array


def stretches(tables: Tables, order: str, starts: Callable[[Stretch], Array]) -> Iterator[Stretch]:
    """What is left on lanes, in an order of columns, some whole pieces at a time.

    `starts` tells which events of a stretch begin a piece; it looks one event back at most.
    """
    with tables.db.cursor() as cursor:
        rows = cursor.sql(
            "SELECT lane, quantity, instant, side, event, reach FROM rest JOIN lanes USING (lane)"
            f" ORDER BY {order}, side, tie, event"
        )
        waiting: list[Stretch] = []
        for batch in rows.to_arrow_reader(BATCH_ROWS):
            stretch = Stretch(*(column.to_numpy() for column in batch.columns))
            if not batch.num_rows:
                continue
            last = [waiting[-1].at(slice(-1, None))] if waiting else []
            begins = np.flatnonzero(starts(_joined([*last, stretch])))[1:] - len(last)
            if len(begins):
                yield _joined([*waiting, stretch.at(slice(None, begins[-1]))])
                waiting = [stretch.at(slice(begins[-1], None))]
            else:
                waiting.append(stretch)
        if waiting:
            yield _joined(waiting)


def _joined(parts: list[Stretch]) -> Stretch:
    return Stretch(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def lane_starts(s: Stretch) -> Array:
    """Which events begin a lane."""
    begins = np.ones(len(s.lane), dtype=bool)
    begins[1:] = s.lane[1:] != s.lane[:-1]
    return begins


def insert_pairs(tables: Tables, step: str, pairs: Pairs) -> None:
    """Add pairs to the table."""
    names = np.where(pairs.likely, "likely", "possible").tolist()
    tables.insert("pairs", _PAIRS, [pairs.ours, pairs.theirs, [step] * len(names), names])


def pairs_of(found: list[tuple[int, int, bool]]) -> Pairs:
    """Pairs that were found one by one."""
    ours, theirs, likely = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return Pairs(ours, theirs, likely.astype(bool))


def drop_paired(tables: Tables) -> None:
    """Take out of `rest` what has a partner by now."""
    tables.db.execute(
        """
        CREATE TABLE fewer AS
            SELECT * FROM rest ANTI JOIN pairs ON event = ours WHERE side = 0
            UNION ALL SELECT * FROM rest ANTI JOIN pairs ON event = theirs WHERE side = 1;
        DROP TABLE rest;
        CREATE TABLE rest AS SELECT * FROM fewer WHERE lane IN
            (SELECT lane FROM fewer GROUP BY lane HAVING count(DISTINCT side) = 2);
        DROP TABLE fewer
        """
    )
