"""Columns of text from CSV, JSON Lines and Parquet files, many rows at a time.

A block of a CSV file in which nothing is peculiar (every quote opens or closes a field, no line
break is inside one, all rows have the header's width, the text is UTF-8) is cut into columns by the
columnar engine. Any other block is read row by row as `readers` does, from its first line to the
end of its last row. So both give the same texts, the same row numbers and the same reasons.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow
import pyarrow.csv

from tallystick.node.importing.mapping import Mapping
from tallystick.node.importing.readers import (
    FIELD_BYTES_MAX,
    LINE_MAX,
    BadRow,
    Rows,
    delimiter_of,
    format_of,
    places_of,
    read_rows,
    sort_rows,
    unzipped,
)
from tallystick.protocol.errors import InputError

BLOCK_BYTES = 8 * 1024 * 1024
BATCH_ROWS = 65_536

_MARK = b"\xef\xbb\xbf"  # that some put before UTF-8
_NEWLINE, _QUOTE, _RETURN = b"\n", b'"', b"\r"


@dataclass(slots=True)
class Texts:
    """Some rows: their numbers, the wanted columns as arrays of text, and what cannot be read."""

    numbers: Any
    columns: list[Any]
    bad: list[BadRow] = field(default_factory=list)
    bytes_read: int = 0


def read_texts_of(path: Path, mapping: Mapping) -> Iterator[Texts]:
    """The file's rows, with the columns of `mapping.columns()` in that order."""
    if format_of(path, mapping) != "csv":
        for rows in read_rows(path, mapping, BATCH_ROWS):
            yield texts_of(rows, len(mapping.columns()))
        return
    with unzipped(path) as (content, raw):
        yield from _Csv(path, mapping, content, raw).texts()


def texts_of(rows: Rows, width: int) -> Texts:
    """The same rows as columns."""
    columns: Sequence[Sequence[str]] = list(zip(*rows.values, strict=True)) or [()] * width
    return Texts(
        np.array(rows.numbers, dtype=np.int64),
        [pyarrow.array(column, pyarrow.string()) for column in columns],
        rows.bad,
        rows.bytes_read,
    )


class _Lines:
    """The lines of a block and, if its last row goes on, of what follows."""

    def __init__(self, block: bytes, more: Callable[[], bytes], path: Path) -> None:
        self.used = 0  # bytes of the lines that were given
        self._piece, self._more, self._path = block, more, path
        self._given = 0  # of the piece

    @property
    def left(self) -> bytes:
        """What is at hand and was not given."""
        return self._piece[self._given :]

    def __iter__(self) -> Iterator[str]:
        while self._piece:
            # Bytes that are not UTF-8 become lone surrogates here, and are refused row by row.
            text = io.TextIOWrapper(io.BytesIO(self._piece), "utf-8", "surrogateescape", newline="")
            while line := text.readline(LINE_MAX):
                if len(line) == LINE_MAX:
                    raise InputError(f"{self._path} has a line of more than {LINE_MAX} characters")
                size = len(line.encode("utf-8", "surrogateescape"))
                self.used += size
                self._given += size
                yield line
            self._piece, self._given = self._more(), 0


class _Csv:
    def __init__(self, path: Path, mapping: Mapping, content: IO[bytes], raw: IO[bytes]) -> None:
        self._path, self._mapping, self._content, self._raw = path, mapping, content, raw
        self._delimiter = delimiter_of(path, mapping)
        self._rest = b""  # what was read and is not used yet
        self._ended = False
        self._number = 0
        csv.field_size_limit(FIELD_BYTES_MAX)

    def texts(self) -> Iterator[Texts]:
        """All rows behind the header."""
        self._fill(len(_MARK))
        self._rest = self._rest.removeprefix(_MARK)
        self._header()
        while block := self._block():
            texts = self._cut(block) if self._is_plain(block) else None
            if texts is None:
                yield from self._read(block)
            else:
                yield texts

    def _fill(self, size: int) -> None:
        """Have that many bytes at hand, or all that are left."""
        pieces = [self._rest]
        have = len(self._rest)
        while have < size and not self._ended:
            piece = self._content.read(size - have)
            self._ended = not piece
            pieces.append(piece)
            have += len(piece)
        self._rest = b"".join(pieces)

    def _line(self) -> bytes:
        """The next line with its end; empty when there is none."""
        size = BLOCK_BYTES
        while (end := self._rest.find(_NEWLINE) + 1) == 0 and not self._ended:
            if len(self._rest) > 4 * LINE_MAX:
                raise InputError(f"{self._path} has a line of more than {LINE_MAX} characters")
            self._fill(size := size * 2)
        line = self._rest[: end or len(self._rest)]
        self._rest = self._rest[len(line) :]
        return line

    def _block(self) -> bytes:
        """Some whole lines, or the last one; empty when there are none."""
        self._fill(BLOCK_BYTES)
        end = self._rest.rfind(_NEWLINE) + 1
        if not end:
            return self._line()
        block = self._rest[: end if not self._ended else len(self._rest)]
        self._rest = self._rest[len(block) :]
        return block

    def _header(self) -> None:
        lines = _Lines(self._line(), self._line, self._path)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        try:
            header: list[str] = next(reader, [])
        except csv.Error as error:
            raise InputError(f"{self._path}: the header cannot be read: {error}") from None
        try:
            "".join(header).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{self._path}: the header is not UTF-8", "Save the file as UTF-8"
            ) from None
        self._rest = lines.left + self._rest  # a line may end in a lone return
        self._width = len(header)
        self._places = places_of(self._path, self._mapping, header)

    def _is_plain(self, block: bytes) -> bool:
        """Whether nothing in the block is peculiar but, perhaps, a row's width."""
        delimiter = self._delimiter.encode()
        if len(delimiter) != 1 or delimiter in b'\r\n" ' or b"\0" in block:
            return False
        if block.count(_RETURN) != block.count(b"\r\n"):
            return False
        try:
            block.decode()
        except UnicodeDecodeError:
            return False
        content = np.frombuffer(block, np.uint8)
        breaks = np.flatnonzero(content == _NEWLINE[0])
        if np.diff(breaks, prepend=-1, append=len(block)).max() >= FIELD_BYTES_MAX:
            return False
        return _QUOTE not in block or _are_whole(content, breaks, delimiter[0])

    def _cut(self, block: bytes) -> Texts | None:
        """The block's columns; None if a row has not the header's width."""
        names = [str(place) for place in range(self._width)]
        wanted = [str(place) for place in self._places]
        try:
            table = pyarrow.csv.read_csv(
                pyarrow.BufferReader(block),
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False, block_size=len(block) + 1, column_names=names
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self._delimiter, double_quote=False, newlines_in_values=False
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(wanted, pyarrow.string()),
                    strings_can_be_null=False,
                    include_columns=wanted,
                ),
            )
        except pyarrow.ArrowInvalid:
            return None
        rows = table.num_rows
        numbers = np.arange(self._number + 1, self._number + rows + 1)
        self._number += rows
        columns = [pyarrow.concat_arrays(column.chunks) for column in table.columns]
        return Texts(numbers, columns, [], self._raw.tell())

    def _read(self, block: bytes) -> Iterator[Texts]:
        """The block's rows, one by one; one that begins in it is read to its end."""
        lines = _Lines(block, self._line, self._path)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)

        def rows_of_block() -> Iterator[list[str]]:
            while lines.used < len(block) and (row := next(reader, None)) is not None:
                yield row

        while True:
            rows = Rows()
            taken = sort_rows(rows_of_block(), rows, self._number, self._width, self._places)
            if taken is None:
                self._rest = lines.left + self._rest  # the last row may have ended in a lone return
                return
            self._number = taken
            rows.bytes_read = self._raw.tell()
            yield texts_of(rows, len(self._places))


def _are_whole(content: Any, breaks: Any, delimiter: int) -> bool:
    """Whether every quote opens or closes a field that holds no other and no line break."""
    quotes = np.flatnonzero(content == _QUOTE[0])
    if len(quotes) % 2:
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    around = np.concatenate([[_NEWLINE[0]], content, [_NEWLINE[0]]])
    before, after = around[opening], around[closing + 2]
    ends = (delimiter, _NEWLINE[0], _RETURN[0])
    return bool(
        np.isin(before, ends[:2]).all()
        and np.isin(after, ends).all()
        and (np.searchsorted(breaks, opening) == np.searchsorted(breaks, closing)).all()
    )
