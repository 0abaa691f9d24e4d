"""Rows of CSV, JSON Lines and Parquet files, streamed in batches, each value as exact text.

A row that cannot be read is given as a `BadRow` with its reason and never stops the rest; what is
wrong with the file as a whole is an error. Rows count from 1, the header aside.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, AnyStr

import msgspec

from tallystick.node.importing.mapping import Mapping
from tallystick.protocol.errors import InputError, MappingError

FIELD_BYTES_MAX = 1024 * 1024
LINE_MAX = 16 * 1024 * 1024

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read."""

    row: int
    reason: str


@dataclass(slots=True)
class Rows:
    """A batch: row numbers, and the wanted columns' texts row by row; how far the file is read."""

    numbers: list[int] = field(default_factory=list)
    values: list[Sequence[str]] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    bytes_read: int = 0


def read_rows(path: Path, mapping: Mapping, batch_rows: int) -> Iterator[Rows]:
    """The file's rows, with the columns of `mapping.columns()` in that order."""
    form = format_of(path, mapping)
    if form == "parquet":
        yield from _read_parquet(path, mapping, batch_rows)
        return
    with unzipped(path) as (text, raw):
        if form == "csv":
            delimiter = delimiter_of(path, mapping)
            yield from _read_csv(path, mapping, text, raw, delimiter, batch_rows)
        else:
            yield from _read_json_lines(path, mapping, text, raw, batch_rows)


def _inner(path: Path) -> Path:
    return Path(path.stem) if path.suffix == ".gz" else path


def format_of(path: Path, mapping: Mapping) -> str:
    """The file's format, by the mapping or its name."""
    form = mapping.format or _SUFFIXES.get(_inner(path).suffix.lower())
    if form is None:
        raise InputError(
            f"{path}: the name does not tell the format", 'Put format = "csv" into the mapping'
        )
    return form


def delimiter_of(path: Path, mapping: Mapping) -> str:
    """What is between the fields of a CSV file."""
    return "\t" if _inner(path).suffix.lower() == ".tsv" else mapping.delimiter


@contextmanager
def unzipped(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A file's content and the file itself, which tells how far it is read."""
    try:
        with path.open("rb") as raw:
            content: IO[bytes] = (
                gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]
            )
            with closing(content):
                yield content, raw
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {said}") from None


def _missing(path: Path, column: str, columns: Sequence[str]) -> MappingError:
    return MappingError(
        f"{path} has no column {column!r}", f"Its columns: {', '.join(columns) or 'none'}"
    )


def _read_csv(
    path: Path,
    mapping: Mapping,
    unzipped: IO[bytes],
    raw: IO[bytes],
    delimiter: str,
    batch_rows: int,
) -> Iterator[Rows]:
    csv.field_size_limit(FIELD_BYTES_MAX)
    # Bytes that are not UTF-8 become lone surrogates here, and are refused row by row below.
    text = io.TextIOWrapper(unzipped, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        reader = csv.reader(_lines(path, text), delimiter=delimiter, strict=True)
        yield from _csv_rows(path, mapping, reader, raw, batch_rows)
    finally:
        text.detach()  # the caller closes the file


def _lines(path: Path, text: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of a file. A gzip of a few bytes may hold one that no memory has room for."""
    while line := text.readline(LINE_MAX):
        if len(line) == LINE_MAX:
            raise InputError(f"{path} has a line of more than {LINE_MAX} characters")
        yield line


def _csv_rows(
    path: Path, mapping: Mapping, reader: Any, raw: IO[bytes], batch_rows: int
) -> Iterator[Rows]:
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise InputError(f"{path}: the header cannot be read: {error}") from None
    try:
        "".join(header).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: the header is not UTF-8", "Save the file as UTF-8") from None
    places = places_of(path, mapping, header)
    width = len(header)
    number = 0
    while True:
        rows = Rows()
        taken = sort_rows(islice(reader, batch_rows), rows, number, width, places)
        if taken is None:
            return
        number = taken
        rows.bytes_read = raw.tell()
        yield rows


def places_of(path: Path, mapping: Mapping, header: list[str]) -> list[int]:
    """Where the wanted columns are in each row."""
    wanted = mapping.columns()
    for column in wanted:
        if column not in header:
            raise _missing(path, column, header)
        if header.count(column) > 1:
            raise MappingError(f"{path} has the column {column!r} twice", "Rename one of them")
    return [header.index(column) for column in wanted]


def sort_rows(
    reader: Iterator[list[str]], rows: Rows, number: int, width: int, places: list[int]
) -> int | None:
    """Take rows of CSV up to the first that cannot be read; the last one's number then.

    `number` is that of the row before. None if there are no more lines.
    """
    ended = True
    try:
        for row in reader:
            ended = False  # a batch of empty lines is not the end
            number += 1
            if len(row) == width:
                rows.numbers.append(number)
                rows.values.append([row[place] for place in places])
            elif row:
                said = f"the row has {len(row)} fields, the header has {width}"
                rows.bad.append(BadRow(number, said))
            else:
                number -= 1  # an empty line is no row
    except csv.Error as error:
        ended = False
        number += 1
        rows.bad.append(BadRow(number, f"the row cannot be read: {error}"))
    if not ended:
        _refuse_bad_text(rows)
    return None if ended else number


def _refuse_bad_text(rows: Rows) -> None:
    """Take out rows with bytes that are not UTF-8; one look at all of them finds that none is."""
    try:
        "".join(["".join(values) for values in rows.values]).encode()
    except UnicodeEncodeError:
        numbers, values = rows.numbers, rows.values
        rows.numbers, rows.values = [], []
        for number, row in zip(numbers, values, strict=True):
            try:
                "".join(row).encode()
            except UnicodeEncodeError:
                rows.bad.append(BadRow(number, "the row is not UTF-8"))
            else:
                rows.numbers.append(number)
                rows.values.append(row)


def _read_json_lines(
    path: Path, mapping: Mapping, unzipped: IO[bytes], raw: IO[bytes], batch_rows: int
) -> Iterator[Rows]:
    wanted = mapping.columns()
    # Numbers stay the text they are: a float would not be exact.
    decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
    number = 0
    lines = _lines(path, unzipped)
    while True:
        rows = Rows()
        ended = True
        for line in islice(lines, batch_rows):
            ended = False  # a batch of empty lines is not the end
            if number == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            number += 1
            try:
                document = decode(line)
                values = [_json_text(document[column]) for column in wanted]
            except KeyError as error:
                rows.bad.append(BadRow(number, f"there is no {error.args[0]!r} in the row"))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                rows.bad.append(BadRow(number, f"the row is not a JSON object: {error}"))
            else:
                rows.numbers.append(number)
                rows.values.append(values)
        rows.bytes_read = raw.tell()
        if ended:
            return
        yield rows


def _json_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return msgspec.json.encode(value).decode()


def _read_parquet(path: Path, mapping: Mapping, batch_rows: int) -> Iterator[Rows]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = mapping.columns()
            for column in wanted:
                if column not in names:
                    raise _missing(path, column, names)
            number = 0
            size = path.stat().st_size
            total = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=batch_rows, columns=wanted):
                rows = _parquet_rows(number + 1, {name: batch.column(name) for name in wanted})
                number += batch.num_rows
                rows.bytes_read = size * number // total
                yield rows
    # Columns' names are text too; Arrow says OSError as well of bytes that it cannot make out.
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a Parquet file that can be read: {error}") from None


def _parquet_rows(first: int, columns: dict[str, Any]) -> Rows:
    """The rows of a batch's columns by name; `first` is the first row's number."""
    bad: dict[int, str] = {}
    texts: list[list[str]] = []
    for name, array in columns.items():
        try:
            texts.append([_parquet_text(value) for value in _column(array)])
        except (ValueError, OverflowError):  # text that is not UTF-8, dates beyond Python's
            texts.append([])
            for at in range(len(array)):
                try:
                    texts[-1] += map(_parquet_text, _column(array.slice(at, 1)))
                except (ValueError, OverflowError) as error:
                    texts[-1].append("")
                    bad.setdefault(at, f"{name} cannot be read: {error}")
    rows = Rows(bad=[BadRow(first + at, reason) for at, reason in sorted(bad.items())])
    for at, values in enumerate(zip(*texts, strict=True)):
        if at not in bad:
            rows.numbers.append(first + at)
            rows.values.append(values)
    return rows


def _column(array: Any) -> list[Any]:
    """A column's values; times as integers, because Python's have no nanoseconds."""
    import pyarrow

    kind = array.type
    if pyarrow.types.is_timestamp(kind):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        ticks = array.cast(pyarrow.int64()).to_pylist()
        zone = "Z" if kind.tz else ""
        return [None if tick is None else _iso(tick, per_second, zone) for tick in ticks]
    values: list[Any] = array.to_pylist()
    return values


def _iso(tick: int, per_second: int, zone: str) -> str:
    second, rest = divmod(tick, per_second)
    whole = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest * 10**9 // per_second:09}{zone}"


def _parquet_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return str(value)
