"""The tables of a comparison: two lists of events, raw and as hypotheses see them.

The engine is DuckDB, for many events on a file: what does not fit into memory is on disk.

`ours` and `theirs`, one row an event:
    event     BIGINT   its number on its side, unique, from 0 on; all other tables name events by it
    place     BIGINT   the file's row, or the record's index; several meters may share one
    id        VARCHAR  NULL where the side has none
    meter, subject     VARCHAR
    quantity  BIGINT   in the meter's scale
    instant   BIGINT   µs UTC
    outcome, session   VARCHAR  NULL where the side does not say
`ours_as` and `theirs_as`, views of them that `causes.preparing` makes, without what is aside, with:
    as_meter, as_subject VARCHAR, as_quantity, as_instant BIGINT
        what pairing looks at: the raw ones as the hypotheses have them. A NULL in one of the last
        two keeps an event from being paired by anything but its id.
`kinds`, one row a meter: meter VARCHAR, aggregate VARCHAR ('sum', 'max', 'count'), scale INTEGER,
        reach BIGINT (the window of its terms in µs).
`pairs`, made by pairing, one row a pair, each event in one at most:
    ours, theirs BIGINT  events
    step       VARCHAR   'id', 'equal', 'time' or 'near': what paired them
    confidence VARCHAR   'certain', 'likely' or 'possible'
`groups`, made by pairing, one row a part of a sum, each event in one group at most and in no pair:
    side       VARCHAR   'ours' or 'theirs': which side has the sum
    whole      BIGINT    the event of that side that is the sum
    part       BIGINT    an event of the other side
    step       VARCHAR   'stretch', 'hour', 'day' or 'period': what bounds it
    confidence VARCHAR   'likely' or 'possible'
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb
import numpy
import pyarrow

from tallystick.node.errors import StoreError
from tallystick.protocol.records import Meter

THREADS = 2
MEMORY_BYTES = 1_500_000_000  # the engine's own; Python and what is being loaded come on top

# What is being done, how much of it is, and of how much.
Progress = Callable[[str, int, int], None]
Side = Literal["ours", "theirs"]
SIDES: tuple[Side, Side] = ("ours", "theirs")

EVENTS = pyarrow.schema(
    [
        ("place", pyarrow.int64()),
        ("id", pyarrow.string()),
        ("meter", pyarrow.string()),
        ("subject", pyarrow.string()),
        ("quantity", pyarrow.int64()),
        ("instant", pyarrow.int64()),
        ("outcome", pyarrow.string()),
        ("session", pyarrow.string()),
    ]
)


class Event(NamedTuple):
    """An event of either side: its row or record, and what it says. Times are µs UTC."""

    place: int
    id: str | None
    meter: str
    subject: str
    quantity: int
    at: int
    outcome: str | None = None
    session: str | None = None


class Tables:
    """Both lists of events of some meters, and the period that is compared. Close it when done.

    With a folder, all is on disk there and memory only a bounded cache of it: for many events.
    Without one all is in memory, which is quicker for few.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        start_us: int,
        end_us: int,
        folder: Path | None,
        time_zone: str = "UTC",
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.meters = {meter.name: meter for meter in meters}
        self.start_us, self.end_us, self.time_zone = start_us, end_us, time_zone
        self.progress: Progress = lambda step, done, of: None
        self.events = {"ours": 0, "theirs": 0}
        self._folder = folder and Path(tempfile.mkdtemp(prefix="engine-", dir=folder))
        self.db = duckdb.connect(
            str(self._folder / "events.duckdb") if self._folder else ":memory:"
        )
        self.db.execute(
            "SET temp_directory = ?", [str(self._folder / "spill") if self._folder else ""]
        )
        if folder:
            room = shutil.disk_usage(folder).free // 2
            self.db.execute(f"SET max_temp_directory_size = '{room // 1000}kB'")
        self.db.execute("SET enable_progress_bar = false")  # it would print one by itself
        self.db.execute(f"SET threads = {THREADS}")
        self.db.execute(f"SET memory_limit = '{memory_bytes // 1000}kB'")
        self.db.execute("SET preserve_insertion_order = false")
        self.db.execute(
            "CREATE TABLE kinds (meter VARCHAR, aggregate VARCHAR, scale INTEGER, reach BIGINT)"
        )
        for name, meter in self.meters.items():
            row = [name, meter.aggregate, meter.scale, meter.match_window_us]
            self.db.execute("INSERT INTO kinds VALUES (?, ?, ?, ?)", row)
        for side in SIDES:
            self.db.execute(
                f"CREATE TABLE {side} (event BIGINT, place BIGINT, id VARCHAR, meter VARCHAR,"
                " subject VARCHAR, quantity BIGINT, instant BIGINT, outcome VARCHAR,"
                " session VARCHAR)"
            )

    def close(self) -> None:
        """Give the engine's memory and files back."""
        self.db.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def load(self, side: Side, batches: Iterable[list[Event]]) -> None:
        """Add events to a side, batch by batch."""
        self.load_columns(side, (_columns(batch) for batch in batches if batch))

    def load_columns(self, side: Side, tables: Iterable[Any]) -> None:
        """Add events to a side from tables of pyarrow that have the columns of `EVENTS`."""
        self.db.begin()  # all at once: what is committed batch by batch is written twice
        for table in tables:
            first = self.events[side]
            self.events[side] = first + len(table)
            numbers = pyarrow.array(numpy.arange(first, first + len(table)))
            self.db.register("batch", table.add_column(0, "event", numbers))
            self.db.execute(f"INSERT INTO {side} SELECT * FROM batch")
            self.db.unregister("batch")
        self.db.commit()

    def insert(self, table: str, schema: Any, columns: Sequence[Any]) -> None:
        """Add rows, given column by column, to a table."""
        arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        self.db.register("batch", pyarrow.Table.from_arrays(arrays, schema=schema))
        self.db.execute(f"INSERT INTO {table} SELECT * FROM batch")
        self.db.unregister("batch")


@contextmanager
def told_plainly(folder: Path) -> Iterator[None]:
    """Raise `StoreError` where the engine stops for want of memory or of room on the disk."""
    try:
        yield
    except duckdb.Error as error:
        raise StoreError(
            f"the engine that compares stopped: {str(error).splitlines()[0]}",
            f"It needs memory, and room for what does not fit in {folder}",
        ) from error


def _columns(batch: list[Event]) -> Any:
    columns = zip(*batch, strict=True)
    arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, EVENTS, strict=True)]
    return pyarrow.Table.from_arrays(arrays, schema=EVENTS)
