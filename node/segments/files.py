"""One segment: 65,536 records of a log in a row, as a Parquet file.

The column `record` holds the very bytes that are hashed, and all that proves anything is computed
from it. The other columns say the same in words that people's engines can query; `check_columns`
compares them. The footer names the log, the place in it, the leaf hashes at both ends and the root
of the segment's subtree. Those are the writer's claims: whoever reads checks them against what was
signed.

The same records give the same bytes with the same version of pyarrow (it is in the file's
`created_by`) and of the time zone data; what names a segment is its root, not its file's digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from tallystick.node.errors import ArchiveError
from tallystick.node.segments import GROUP, SEGMENT
from tallystick.protocol.errors import FormatError
from tallystick.protocol.merkle import HASH_SIZE, Frontier, chain_leaves
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import (
    ROLES,
    Correction,
    Delta,
    Role,
    Terms,
    batch_bytes,
    decode_batch,
)
from tallystick.protocol.terms import channel_id

FORMAT = "segment/1"

# Of a record that has no such field, the columns from `meter` on are null.
SCHEMA = pyarrow.schema(
    [
        pyarrow.field("index", pyarrow.int64(), nullable=False),
        pyarrow.field("kind", pyarrow.string(), nullable=False),
        pyarrow.field("record", pyarrow.binary(), nullable=False),
        pyarrow.field("meter", pyarrow.string()),
        pyarrow.field("id", pyarrow.string()),
        pyarrow.field("subject", pyarrow.string()),
        pyarrow.field("quantity", pyarrow.int64()),
        pyarrow.field("scale", pyarrow.int8()),
        pyarrow.field("occurred_at", pyarrow.timestamp("us", "UTC")),
        pyarrow.field("recorded_at", pyarrow.timestamp("us", "UTC")),
        pyarrow.field("period", pyarrow.string()),
    ]
)

_NAMED = ("meter", "id", "subject", "occurred_at", "recorded_at", "period")
_KEY = "tallystick."


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment's footer says: of which log, from which index, how many records, the leaf
    hash before the first (the channel id for a log's first record) and of the last, the root of
    the subtree over its leaves.
    """

    channel: bytes
    role: Role
    first: int
    count: int
    previous_leaf: bytes
    last_leaf: bytes
    root: bytes

    def pairs(self) -> dict[str, str]:
        """The footer's key-values, in their order."""
        return {
            f"{_KEY}format": FORMAT,
            f"{_KEY}channel": self.channel.hex(),
            f"{_KEY}role": self.role,
            f"{_KEY}first": str(self.first),
            f"{_KEY}count": str(self.count),
            f"{_KEY}previous_leaf": self.previous_leaf.hex(),
            f"{_KEY}last_leaf": self.last_leaf.hex(),
            f"{_KEY}root": self.root.hex(),
        }


def write_segment(
    out: BinaryIO,
    terms: Terms,
    role: Role,
    first: int,
    previous_leaf: bytes,
    parts: Iterable[bytes],
) -> Header:
    """Write the records whose bytes are `parts`, the first of them at index `first` of the log of
    `role`, and return what the footer says; no more than a row group is in memory at once.
    """
    rows, last, frontier = _Rows(terms), previous_leaf, Frontier.empty()
    rest = iter(parts)
    writer = pyarrow.parquet.ParquetWriter(
        out,
        SCHEMA,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=6,
        use_dictionary=["kind", "meter", "subject", "scale", "period"],
        column_encoding={
            "index": "DELTA_BINARY_PACKED",
            "record": "PLAIN",
            "id": "PLAIN",
            "quantity": "PLAIN",
            "occurred_at": "DELTA_BINARY_PACKED",
            "recorded_at": "DELTA_BINARY_PACKED",
        },
        write_statistics=[name for name in SCHEMA.names if name != "record"],
        write_page_checksum=True,
        store_schema=False,  # every engine reads the same types from Parquet's own
    )
    with writer:
        while group := list(islice(rest, GROUP)):
            leaves = chain_leaves(last, group)
            writer.write_table(rows.table(first + frontier.size, group), row_group_size=GROUP)
            last, frontier = leaves[-1], frontier.extend(leaves)
        header = Header(
            channel_id(terms), role, first, frontier.size, previous_leaf, last, frontier.root()
        )
        writer.add_key_value_metadata(header.pairs())
    return header


class _Rows:
    """Records as rows of a segment."""

    def __init__(self, terms: Terms) -> None:
        self._calendar = Calendar(terms.calendar, terms.time_zone)
        self._scales = {meter.name: meter.scale for meter in terms.meters}

    def table(self, first: int, parts: Sequence[bytes]) -> Any:
        """The table of these records; `FormatError` if one is not in its canonical encoding."""
        records, _ = decode_batch(batch_bytes(list(parts)))
        columns: dict[str, Any] = {
            name: [getattr(record, name, None) for record in records] for name in _NAMED
        }
        period_of = self._calendar.period_of
        columns |= {
            "index": range(first, first + len(parts)),
            "kind": [type(record).__name__.lower() for record in records],
            "record": parts,
            "quantity": [
                record.quantity if isinstance(record, Delta | Correction) else None
                for record in records
            ],
            "scale": [self._scales.get(meter) for meter in columns["meter"]],
            "period": [
                label if at is None else period_of(at).label
                for at, label in zip(columns["occurred_at"], columns["period"], strict=True)
            ],
        }
        return pyarrow.table(
            [pyarrow.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA
        )


class Segment:
    """A segment's file, open for reading; close it, or use it as a context.

    What it gives is well-formed, but not yet proven: see `check_segment`. `ArchiveError` names the
    file that cannot be read or is no segment. Not for two threads at once.
    """

    def __init__(self, source: BinaryIO, name: str) -> None:
        self.name = name
        self._source = source
        try:
            with _damage_named(name):
                # Not mapped: a file that is cut while it is read must not kill the process.
                self._file = pyarrow.parquet.ParquetFile(
                    source, page_checksum_verification=True, pre_buffer=False
                )
                self.header = self._read_header()
        except BaseException:
            source.close()
            raise

    def _read_header(self) -> Header:
        metadata = self._file.metadata
        header = _header({k.decode(): v.decode() for k, v in (metadata.metadata or {}).items()})
        if not self._file.schema_arrow.equals(SCHEMA):
            raise FormatError("its columns are not a segment's")
        sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        full, rest = divmod(header.count, GROUP)
        if not 0 < header.count <= SEGMENT or sizes != [GROUP] * full + [rest] * (rest > 0):
            raise FormatError(f"it says that it has {header.count} records, in groups of {sizes}")
        return header

    @property
    def created_by(self) -> str:
        """The program that wrote the file."""
        return str(self._file.metadata.created_by)

    @property
    def groups(self) -> int:
        """How many row groups there are; all but the last have `GROUP` records."""
        return -(-self.header.count // GROUP)

    def group(self, number: int) -> list[bytes]:
        """The bytes of the records of a row group."""
        with _damage_named(self.name):
            column = self._read(number, ["record"])["record"]
            if column.null_count:
                raise FormatError("a record is missing")
            parts: list[bytes] = column.to_pylist()
            return parts

    def records(self) -> Iterator[list[bytes]]:
        """The bytes of all records, a row group at a time."""
        for number in range(self.groups):
            yield self.group(number)

    def columns(self, number: int) -> Any:
        """The columns of a row group but that of the records' bytes, as a table."""
        with _damage_named(self.name):
            return self._read(number, [name for name in SCHEMA.names if name != "record"])

    def check_columns(self, terms: Terms, number: int, parts: Sequence[bytes]) -> None:
        """`ArchiveError` if the columns for people's engines do not say what the records of a row
        group say, so that a query would tell something else than the log.
        """
        with _damage_named(self.name):
            said = self._read(number, SCHEMA.names)
            for name, wanted in zip(
                SCHEMA.names,
                _Rows(terms).table(self.header.first + number * GROUP, parts).columns,
                strict=True,
            ):
                if not said[name].equals(wanted):
                    raise FormatError(f"its column {name} is not what its records say")

    def _read(self, number: int, columns: list[str]) -> Any:
        table = self._file.read_row_group(number, columns=columns, use_threads=False)
        if len(table) != min(GROUP, self.header.count - number * GROUP):
            raise FormatError(f"its row group {number} has {len(table)} records")
        return table

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)
        self._source.close()

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _header(pairs: Mapping[str, str]) -> Header:
    """The header of a footer's key-values; `FormatError` if they are not a segment's."""
    if pairs.get(f"{_KEY}format") != FORMAT:
        raise FormatError(f"it is no {FORMAT}")
    names = ("channel", "role", "first", "count", "previous_leaf", "last_leaf", "root")
    missing = [name for name in names if f"{_KEY}{name}" not in pairs]
    if missing:
        raise FormatError(f"its footer lacks {', '.join(missing)}")
    channel, role, first, count, *leaves = (pairs[f"{_KEY}{name}"] for name in names)
    if role not in ROLES:
        raise FormatError(f"its role is {role!r}")
    hashes = [bytes.fromhex(text) for text in (channel, *leaves)]
    if {len(one) for one in hashes} != {HASH_SIZE} or int(first) < 0:
        raise FormatError("its footer does not say which records it holds")
    return Header(hashes[0], role, int(first), int(count), *hashes[1:])


def check_segment(segment: Segment, terms: Terms) -> None:
    """`ArchiveError` unless the leaf hashes and the root that the footer claims are those of the
    records, and the other columns say what the records say. The first leaf hash and the root are
    still to be compared with what was signed.
    """
    header = segment.header
    if header.channel != channel_id(terms):
        raise altered(segment.name, "it is of another channel")
    last, frontier = header.previous_leaf, Frontier.empty()
    for number, parts in enumerate(segment.records()):
        leaves = chain_leaves(last, parts)
        last, frontier = leaves[-1], frontier.extend(leaves)
        segment.check_columns(terms, number, parts)
    if (last, frontier.root()) != (header.last_leaf, header.root):
        raise altered(segment.name, "its records are not those that its root is of")


def altered(name: str, said: str) -> ArchiveError:
    """The error for a file that is not what it should be."""
    return ArchiveError(
        f"{name} is altered: {said}",
        "Put it back from a copy; the peer's archive has the same records",
    )


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Turn what reading a damaged file raises into an error that names it."""
    try:
        yield
    except FormatError as error:
        raise altered(name, error.message) from None
    except ArchiveError:
        raise
    except (pyarrow.ArrowException, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise altered(name, f"it cannot be read as Parquet: {_first_line(error)}") from None
    except OSError as error:
        # Arrow says with the same class that a page's checksum is wrong and that a disk failed.
        raise altered(name, f"it cannot be read: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
