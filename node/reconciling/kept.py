"""What is kept of a session: what was opened to the peer, what the peer opened, and the result.

A folder in the home's `reconciled/`, named by the session: `session.json`, and `rows.jsonl` with a
row a line. Beside the rows that were opened there are some that both sides have: those that an
opened row repeats, and of a `max` meter the highest, so that the report can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from tallystick.node.errors import StoreError
from tallystick.node.files import sync, whole_folder, write_new
from tallystick.node.reconciling.sets import About, PreparedSet
from tallystick.protocol.errors import InputError
from tallystick.protocol.opening import Opening
from tallystick.protocol.rowset import Row, decode_row

FOLDER = "reconciled"
SAMPLE_MIN, SAMPLE_MAX = 1000, 40_000  # of the rows that both have
SAMPLE_TIMES = 4  # so many for each row that differs

Why = Literal["differs", "kin", "both"]


class Shared(Struct, frozen=True, forbid_unknown_fields=True):
    """What both sides have of a meter and is not in the kept rows: its sum, and how many rows."""

    quantity: int
    rows: int


class Ended(Struct, frozen=True, forbid_unknown_fields=True):
    """A session that ended. `reason` is empty if it came to its result."""

    session: str
    ended_at: str
    reason: str
    about: About
    rows_theirs: int
    their_opens_max: int
    opened_ours: int
    opened_theirs: int
    opened_digest: str
    received_digest: str
    commitment: str
    salt: str
    cells: int
    bytes_sent: int
    bytes_received: int
    seconds: float
    shared: dict[str, Shared]


class KeptRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A row: whose it is, and why it is kept. `file_row` is where it is in our export, from 1; the
    peer's rows have none, nor do those that an older version kept.
    """

    whose: Literal["ours", "theirs"]
    why: Why
    meter: str
    id: str
    subject: str
    quantity: int
    occurred_at: int
    copy: int
    file_row: int | None = None

    @property
    def row(self) -> Row:
        """As it was opened."""
        return Row(self.meter, self.id, self.subject, self.quantity, self.occurred_at, self.copy)


def kept_rows(
    whose: Literal["ours", "theirs"],
    why: Why,
    rows: Sequence[bytes],
    file_rows: Iterable[int | None] = repeat(None),
) -> list[KeptRow]:
    """Rows as they are kept."""
    made = []
    for data, file_row in zip(rows, file_rows, strict=False):
        row = decode_row(data)
        values = (row.meter, row.id, row.subject, row.quantity, row.occurred_at, row.copy)
        made.append(KeptRow(whose, why, *values, file_row))
    return made


def all_rows(prepared: PreparedSet, opening: Opening, both: Sequence[bytes]) -> list[KeptRow]:
    """What was opened on either side, and rows that both have; of ours with where they are in the
    export.
    """
    opened, kin = opening.opened, opening.kin_opened
    return [
        *kept_rows("ours", "differs", opened, prepared.file_rows(opened)),
        *kept_rows("ours", "kin", kin, prepared.near_file_rows(kin)),
        *kept_rows("theirs", "differs", opening.received),
        *kept_rows("theirs", "kin", opening.kin_received),
        *kept_rows("ours", "both", both, prepared.file_rows(both)),
    ]


def make_folder(home: Path) -> None:
    """The folder of what is kept, made if it is not there."""
    folder = home / FOLDER
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            sync(home)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}") from None


def keep(home: Path, ended: Ended, rows: Iterable[KeptRow]) -> Path:
    """Keep a session's end durably; its folder."""
    make_folder(home)
    path = home / FOLDER / ended.session
    try:
        with whole_folder(path) as made:
            write_new(made / "session.json", json.dumps(msgspec.to_builtins(ended), indent=1))
            lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
            write_new(made / "rows.jsonl", lines.decode())
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    return path


def load(path: Path) -> Ended:
    """A session that was kept."""
    try:
        return msgspec.json.decode((path / "session.json").read_bytes(), type=Ended)
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None


def rows_of(path: Path) -> Iterator[KeptRow]:
    """Its rows."""
    decode = msgspec.json.Decoder(KeptRow).decode
    try:
        with (path / "rows.jsonl").open("rb") as file:
            for line in file:
                yield decode(line)
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None


def sessions(home: Path) -> list[Path]:
    """The folders of all sessions that were kept, the newest first."""
    found = [path for path in (home / FOLDER).glob("[0-9a-f]*") if path.is_dir()]
    return sorted(found, key=lambda path: load(path).ended_at, reverse=True)


def find(home: Path, prefix: str) -> Path:
    """The folder of the session whose name begins so; `InputError` if there is not just one."""
    found = [path for path in sessions(home) if path.name.startswith(prefix.lower())]
    if len(found) == 1 and prefix:
        return found[0]
    what = "several sessions begin" if found else "no session begins"
    raise InputError(f"{what} with {prefix!r}", "See: tally reconcile --list")


def now() -> str:
    """The time, as it is kept."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def beside(
    prepared: PreparedSet, opened: Sequence[bytes], received: Sequence[bytes], maxima: set[str]
) -> tuple[list[bytes], dict[str, Shared]]:
    """What the report needs of the rows that both have: those that opened rows repeat, the highest
    of the meters in `maxima`, and a sample, so that what a few rows have in common is not taken for
    a cause of all; and by meter what the rest amounts to. Both sides choose the same sample.
    """
    rows, likeness = prepared.row_set(), prepared.about.likeness
    own = {likeness.digest(decode_row(data)) for data in opened}
    repeated = (row for data in (*opened, *received) if (row := decode_row(data)).copy)
    wanted = {likeness.digest(msgspec.structs.replace(row, copy=0)) for row in repeated}
    shown = {place for digest in own if (place := rows.place_of(digest)) is not None}
    both = {place for digest in wanted - own if (place := rows.place_of(digest)) is not None}
    for meter, (_, _, highest) in prepared.totals(shown).items():
        if meter in maxima and highest is not None:
            both.add(highest)
    others = np.ones(len(rows), bool)
    others[[*shown, *both]] = False
    differing = len(shown) + len(received)
    both.update(_sample(np.flatnonzero(others), differing))
    rest = prepared.totals(shown | both)
    shared = {meter: Shared(total, count) for meter, (total, count, _) in rest.items()}
    return [prepared.row(place) for place in sorted(both)], shared


def _sample(places: npt.NDArray[np.int64], differing: int) -> list[int]:
    """Some of the places, evenly: several for each row that differs. They are in the order of the
    rows' digests, so this is a random sample.
    """
    count = min(len(places), max(SAMPLE_MIN, SAMPLE_TIMES * differing), SAMPLE_MAX)
    chosen: list[int] = places[np.arange(count) * len(places) // max(count, 1)].tolist()
    return chosen
