"""Segments as files: the same bytes each time, every record back, and no altered byte believed."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence

import builders
import duckdb
import pytest

from tallystick.node.errors import ArchiveError
from tallystick.node.segments.files import (
    GROUP,
    SCHEMA,
    Header,
    Segment,
    check_segment,
    write_segment,
)
from tallystick.protocol.errors import FormatError
from tallystick.protocol.merkle import chain_leaves, root_of
from tallystick.protocol.records import (
    Correction,
    Declaration,
    Delta,
    Dispute,
    Record,
    encode_record,
)
from tallystick.protocol.terms import channel_id

TERMS = builders.make_terms(builders.identity("acme.example"), builders.identity("beta.example"))
OCTOBER = builders.OCTOBER_US


def delta(number: int) -> Delta:
    """A delta of GPU hours, each at a time of its own."""
    at = OCTOBER + number * 1000
    return Delta(f"evt-{number}", "gpu-hours", f"project-{number % 3}", number, at, at + 7, None)


def records(count: int) -> list[Record]:
    """The terms, a correction, a dispute and else deltas."""
    found: list[Record] = [TERMS, *(delta(n) for n in range(1, count))]
    at = OCTOBER + count * 1000
    found[5:7] = [
        Correction("evt-1", "gpu-hours", None, "counted twice", at),
        Dispute("2026-10", "tokens", "s", 7, "other", "why", (), at),
    ]
    found[9] = Declaration("2026-10", b"c" * 32, at)
    return found


def parts_of(count: int) -> list[bytes]:
    """The bytes of such records."""
    return [encode_record(record) for record in records(count)]


def written(parts: Sequence[bytes], first: int = 0) -> tuple[Header, bytes]:
    """A segment of these records."""
    out = io.BytesIO()
    header = write_segment(out, TERMS, "provider", first, channel_id(TERMS), parts)
    return header, out.getvalue()


def test_every_record_comes_back_and_the_footer_names_the_subtree() -> None:
    parts = parts_of(2 * GROUP + 5)
    header, data = written(parts)
    leaves = chain_leaves(channel_id(TERMS), parts)
    assert header == Header(
        channel_id(TERMS), "provider", 0, len(parts), channel_id(TERMS), leaves[-1], root_of(leaves)
    )
    with Segment(io.BytesIO(data), "there") as segment:
        assert segment.header == header
        assert segment.groups == 3
        assert segment.group(1) == parts[GROUP : 2 * GROUP]
        assert [part for group in segment.records() for part in group] == parts
        check_segment(segment, TERMS)


def test_another_process_writes_the_same_bytes() -> None:
    program = (
        "import hashlib, sys; sys.path[:0] = sys.argv[1:];"
        "import test_files as t; print(hashlib.sha256(t.written(t.parts_of(300))[1]).hexdigest())"
    )
    folder = __file__.rpartition("/")[0]
    command = [sys.executable, "-c", program, folder, builders.__file__.rpartition("/")[0]]
    said = {
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed} | {"PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_an_engine_reads_what_the_records_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("engine") / "segment.parquet"
    path.write_bytes(written(parts_of(300))[1])
    with duckdb.connect() as engine:
        rows = engine.execute(
            "SELECT index, kind, meter, id, subject, quantity, scale, epoch_us(occurred_at),"
            " epoch_us(recorded_at), period FROM read_parquet(?) ORDER BY index",
            [str(path)],
        ).fetchall()
    at = OCTOBER + 300_000
    assert rows[0] == (0, "terms", *[None] * 8)
    first = OCTOBER + 1000
    assert rows[1] == (
        1, "delta", "gpu-hours", "evt-1", "project-1", 1, 2, first, first + 7, "2026-10",
    )  # fmt: skip
    assert rows[5] == (5, "correction", "gpu-hours", "evt-1", None, None, 2, None, at, None)
    assert rows[6] == (6, "dispute", "tokens", None, "s", None, 0, None, at, "2026-10")
    assert rows[9] == (9, "declaration", None, None, None, None, None, None, at, "2026-10")


def test_no_flipped_byte_is_believed() -> None:
    parts = parts_of(300)
    header, data = written(parts)
    refused = 0
    for place in range(0, len(data), 5):
        bad = bytearray(data)
        bad[place] ^= 0x55
        try:
            with Segment(io.BytesIO(bytes(bad)), "there.parquet") as segment:
                check_segment(segment, TERMS)
                # Only what no reader of records uses may differ, as statistics.
                assert segment.header == header
                assert [part for group in segment.records() for part in group] == parts
        except ArchiveError as error:
            assert error.message.startswith("there.parquet is altered: ")
            refused += 1
    assert refused > len(data) / 10


@pytest.mark.parametrize("kept", [0, 3, 12, 1000, -1])
def test_a_cut_file_is_refused(kept: int) -> None:
    data = written(parts_of(300))[1]
    with pytest.raises(ArchiveError, match=r"^cut\.parquet is altered: "):
        Segment(io.BytesIO(data[:kept]), "cut.parquet")


def test_columns_that_say_something_else_are_named() -> None:
    """An altered quantity beside an unaltered record would deceive a query."""
    import pyarrow
    import pyarrow.parquet

    data = written(parts_of(300))[1]
    file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    table = file.read()
    quantities = table["quantity"].to_pylist()
    quantities[40] = 1_000_000
    place = SCHEMA.names.index("quantity")
    lying = table.set_column(place, "quantity", pyarrow.array(quantities, pyarrow.int64()))
    out = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(out, SCHEMA, store_schema=False) as writer:
        writer.write_table(lying.cast(SCHEMA))
        writer.add_key_value_metadata(file.metadata.metadata)
    with (
        Segment(io.BytesIO(out.getvalue()), "lying.parquet") as segment,
        pytest.raises(ArchiveError, match="its column quantity is not what its records say"),
    ):
        check_segment(segment, TERMS)


def test_bytes_that_are_no_records_are_not_written() -> None:
    with pytest.raises(FormatError, match="not a batch of records"):
        written([b"\x93\x02nonsense"])
