"""A file's rows made ready for a session: read once, kept as columns beside the rows' bytes.

Reading a large file takes seconds to minutes, so it is done in a process of its own, before a
session, and never in the node. A prepared set is a folder in the home's `reconciling/` with
`about.json`, `rows` (the rows' bytes) and a file for each column. It is removed when it was used.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from tallystick.node.errors import StoreError
from tallystick.protocol.errors import InputError
from tallystick.protocol.messages import ROWS_MAX
from tallystick.protocol.opening import Scope
from tallystick.protocol.rowset import (
    By,
    Likeness,
    Row,
    RowSet,
    as_words,
    decode_row,
    encode_row,
    number_copies,
    order_of,
)

FOLDER = "reconciling"
COLUMNS = ("digests", "instants", "copies", "starts", "ends", "meters", "quantities", "file_rows")
NEAR_COLUMNS = ("near_kin", "near_starts", "near_ends", "near_file_rows")


class About(Struct, frozen=True, forbid_unknown_fields=True):
    """What a prepared set is of. Times are µs UTC; `expires_at_s` is 0 if it is not an offer."""

    channel: str
    peer: str
    file: str
    period: str
    start_us: int
    end_us: int
    reach: tuple[int, int]
    meters: tuple[str, ...]
    by: By
    resolution_us: int
    kin_us: int
    opens_max: int
    rows: int
    rejected: int
    first_reject: str
    expires_at_s: int

    @property
    def likeness(self) -> Likeness:
        """How its rows are compared."""
        return Likeness(self.by, self.resolution_us, self.kin_us)

    def scope(self, session: bytes) -> Scope:
        """What a session with it is about."""
        return Scope(
            bytes.fromhex(self.channel),
            session,
            self.period,
            self.start_us,
            self.end_us,
            self.reach,
            frozenset(self.meters),
        )


class PreparedSet:
    """A prepared set, mapped from its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.about = msgspec.json.decode((path / "about.json").read_bytes(), type=About)
            self._columns: dict[str, Any] = {
                name: np.load(path / f"{name}.npy", mmap_mode="r")
                for name in (*COLUMNS, *NEAR_COLUMNS)
            }
            self._rows: Any = np.memmap(path / "rows", np.uint8, "r")
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise StoreError(
                f"the prepared rows in {path} cannot be read: {error}", "Prepare them again"
            ) from None

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.path.name

    def remove(self) -> None:
        """Remove the folder; what is mapped stays readable until it is let go."""
        shutil.rmtree(self.path, ignore_errors=True)

    def discard(self) -> None:
        """Remove the folder of a set that nobody reads any more. To let go first is quick; a file
        that is removed before it is let go is removed by what holds up all other threads.
        """
        self._columns.clear()
        self._rows = None
        self.remove()

    def row_set(self) -> RowSet:
        """The rows as a session takes them."""
        columns = self._columns
        return RowSet(
            self.about.likeness,
            columns["digests"],
            columns["instants"],
            self.row,
            columns["near_kin"],
            lambda place: self._bytes(columns["near_starts"][place], columns["near_ends"][place]),
        )

    def row(self, place: int) -> bytes:
        """A row's bytes."""
        columns = self._columns
        data = self._bytes(columns["starts"][place], columns["ends"][place])
        copy = int(columns["copies"][place])
        return encode_row(msgspec.structs.replace(decode_row(data), copy=copy)) if copy else data

    def file_rows(self, rows: Iterable[bytes]) -> list[int]:
        """Where rows of the period, copies told apart, are in the file, counted from 1."""
        digests, digest = self.row_set(), self.about.likeness.digest
        places = [digests.place_of(digest(decode_row(data))) for data in rows]
        return [int(self._columns["file_rows"][place]) for place in places]

    def near_file_rows(self, rows: Iterable[bytes]) -> list[int]:
        """The same of rows near the period; of equal ones each has its own."""
        found, taken, kin = self.row_set(), set[int](), self.about.likeness.kin
        places = []
        for data in rows:
            near = found.near(kin(decode_row(data)))
            place = next(n for n in near if n not in taken and found.near_row(n) == data)
            taken.add(place)
            places.append(place)
        return [int(self._columns["near_file_rows"][place]) for place in places]

    def _bytes(self, start: int, end: int) -> bytes:
        data: bytes = self._rows[int(start) : int(end)].tobytes()
        return data

    def totals(self, without: Iterable[int]) -> dict[str, tuple[int, int, int | None]]:
        """By meter, of all rows but some places: the sum of quantities, how many rows, and the
        place of the row with the highest quantity, if there is one.
        """
        rest = np.ones(self.about.rows, bool)
        rest[list(without)] = False
        meters, quantities = self._columns["meters"], self._columns["quantities"]
        found = {}
        for number, meter in enumerate(self.about.meters):
            places = np.flatnonzero(rest & (meters == number))
            values = quantities[places]
            # In two halves: a sum of many 64-bit numbers may need more bits.
            total = (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
            highest = int(places[values.argmax()]) if len(places) else None
            found[meter] = (total, len(places), highest)
        return found


class Writer:
    """Makes a prepared set of rows, one by one."""

    def __init__(self, folder: Path, likeness: Likeness, meters: tuple[str, ...]) -> None:
        self._folder = folder
        self._likeness = likeness
        self._numbers = {meter: number for number, meter in enumerate(meters)}
        self._digests, self._kin = bytearray(), bytearray()
        self._instants, self._ends = array("q"), array("q")
        self._meters, self._quantities = array("q"), array("q")
        self._near_starts, self._near_ends = array("q"), array("q")
        self._starts = array("q")
        self._file_rows, self._near_file_rows = array("q"), array("q")
        self._end = 0
        handle = os.open(folder / "rows", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=1 << 20)

    @property
    def count(self) -> int:
        """How many rows of the period there are."""
        return len(self._ends)

    def add(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Add rows of the period, each with its place in the file."""
        digest = self._likeness.digest
        for file_row, row in rows:
            self._file_rows.append(file_row)
            self._starts.append(self._end)
            self._write(row)
            self._ends.append(self._end)
            self._digests += digest(row)
            self._instants.append(row.occurred_at)
            self._meters.append(self._numbers[row.meter])
            self._quantities.append(row.quantity)
        if self.count > ROWS_MAX:
            raise InputError(
                f"more than {ROWS_MAX:,} rows in the period", "Reconcile a smaller period"
            )

    def add_near(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Add rows near the period, each with its place in the file."""
        for file_row, row in rows:
            self._near_file_rows.append(file_row)
            self._near_starts.append(self._end)
            self._write(row)
            self._near_ends.append(self._end)
            self._kin += self._likeness.kin(row)

    def _write(self, row: Row) -> None:
        data = encode_row(row)
        self._file.write(data)
        self._end += len(data)

    def finish(self) -> int:
        """Write the columns; how many rows there are."""
        if not self._end:
            self._file.write(b"\0")  # nothing cannot be mapped
        self._file.close()
        digests = as_words(bytes(self._digests))
        copies = number_copies(digests)
        for place in np.flatnonzero(copies).tolist():
            digests[place] = as_words(self._digest_of_copy(place, int(copies[place])))[0]
        order = order_of(digests)
        columns = (
            digests,
            _column(self._instants),
            copies,
            _column(self._starts),
            _column(self._ends),
            _column(self._meters),
            _column(self._quantities),
            _column(self._file_rows),
        )
        for name, column in zip(COLUMNS, columns, strict=True):
            np.save(self._folder / f"{name}.npy", np.asfortranarray(column[order]))
        kin = as_words(bytes(self._kin))
        near_order = order_of(kin)
        near = (
            kin,
            _column(self._near_starts),
            _column(self._near_ends),
            _column(self._near_file_rows),
        )
        for name, column in zip(NEAR_COLUMNS, near, strict=True):
            np.save(self._folder / f"{name}.npy", np.asfortranarray(column[near_order]))
        return self.count

    def _digest_of_copy(self, place: int, copy: int) -> bytes:
        with (self._folder / "rows").open("rb") as file:
            file.seek(self._starts[place])
            row = decode_row(file.read(self._ends[place] - self._starts[place]))
        return self._likeness.digest(msgspec.structs.replace(row, copy=copy))


def _column(values: array[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def folder_of(home: Path) -> Path:
    """Where a home's prepared sets are."""
    folder = home / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_about(folder: Path, about: About) -> None:
    """Write what a prepared set is of."""
    (folder / "about.json").write_text(json.dumps(msgspec.to_builtins(about), indent=1))
