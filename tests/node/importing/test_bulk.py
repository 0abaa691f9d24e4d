"""Columns say what the row by row reader says, of any file: the same deltas, the same refusals."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import builders
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tallystick.node.importing import blocks
from tallystick.node.importing.bulk import read_columns
from tallystick.node.importing.drafts import read_drafts
from tallystick.node.importing.mapping import MappedMeter, Mapping, Source
from tallystick.protocol.errors import InputError

METERS = {
    "tokens": builders.meter("tokens"),
    "hours": builders.meter("hours", scale=3),
}
HEADER = ["when", "id", "who", "n", "h"]
MAPPING = Mapping(
    "when",
    "Europe/Berlin",
    None,
    Source(column="id"),
    Source(column="who"),
    (MappedMeter("tokens", Source(column="n")), MappedMeter("hours", Source(column="h"))),
    None,
    ",",
)


def _by_rows(path: Path, mapping: Mapping) -> object:
    try:
        batches = list(read_drafts(path, mapping, METERS))
    except InputError as error:
        return type(error), error.message
    drafts = [
        (row, d.id or None, d.meter, d.subject, d.quantity, d.occurred_at, o or None, s or None)
        for batch in batches
        for d, row, o, s in zip(
            batch.drafts,
            batch.draft_rows,
            batch.outcomes or [""] * len(batch.drafts),
            batch.sessions or [""] * len(batch.drafts),
            strict=True,
        )
    ]
    rejects = [(r.row, r.column, r.value, r.reason) for b in batches for r in b.rejects]
    return sorted(drafts, key=repr), sorted(rejects), sum(b.rows_read for b in batches)


def _in_columns(path: Path, mapping: Mapping) -> object:
    try:
        batches = list(read_columns(path, mapping, METERS))
    except InputError as error:
        return type(error), error.message
    drafts = [tuple(row.values()) for batch in batches for row in batch.drafts.to_pylist()]
    rejects = [(r.row, r.column, r.value, r.reason) for b in batches for r in b.rejects]
    return sorted(drafts, key=repr), sorted(rejects), sum(b.rows_read for b in batches)


def _agree(path: Path, mapping: Mapping = MAPPING) -> None:
    assert _in_columns(path, mapping) == _by_rows(path, mapping)


TIMES = st.one_of(
    st.datetimes(datetime(1969, 1, 1), datetime(2400, 1, 1)).map(str),
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 30)).map(lambda t: t.isoformat()),
    st.datetimes(datetime(2026, 10, 24, 20), datetime(2026, 10, 25, 5)).map(
        lambda t: t.isoformat(timespec="seconds")
    ),
    st.builds(
        lambda t, fraction, end: f"{t:%Y-%m-%dT%H:%M:%S}.{fraction}{end}",
        st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
        st.from_regex(r"\A[0-9]{1,10}\Z"),
        st.sampled_from(["", "Z", "z", " UTC", "+02:00", "-0330", "+05:45", "-23:59", "+99:99"]),
    ),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}\Z"),
    st.sampled_from(
        ["", "2026-02-30 00:00:00", "2026-10-25", "2026-10-25 14:30", "9999-01-01 00:00:00",
         "2026-10-25 24:00:00", "1970-01-01T00:00:00Z", "2026-10-25T14:30:00,5", "١٩٩٩-01-01"]
    ),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-1000, 10**6, places=3, allow_nan=False).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.from_regex(r"\A[-+]?[0-9]{0,19}\.?[0-9]{0,4}\Z"),
    st.sampled_from(["", "-", ".", "-.", "1.", ".5", "+5", "1e3", "nan", "1,000", "007", "- 5"]),
)
NAMES = st.one_of(
    st.sampled_from(["a", "b", "project-7", "x" * 128, "x" * 129, "", "ü", "a\tb", 'q"', "a\nb"]),
    st.text(max_size=6),
)
ROWS = st.lists(st.tuples(TIMES, NAMES, NAMES, NUMBERS, NUMBERS).map(list), max_size=12)


def _written(path: Path, rows: list[list[str]], quoting: int = csv.QUOTE_MINIMAL) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=quoting, lineterminator="\n").writerows([HEADER, *rows])  # type: ignore[arg-type]
    path.write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))


@settings(max_examples=150)
@given(rows=ROWS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
@example(rows=[["2026-10-25 02:30:00", "a", "b", "5", "1.5"]], quoting=csv.QUOTE_MINIMAL)
def test_rows_of_a_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], quoting: int
) -> None:
    path = tmp_path_factory.mktemp("bulk") / "rows.csv"
    _written(path, rows, quoting)
    _agree(path)


_ROW = b"2026-10-25 14:30:00,a,b,5,1.5\n"
PIECES = st.lists(
    st.sampled_from(
        [_ROW, b"2026-10-25 14:30:00,c,d,6,2\r\n", b"\n", b"\r\n",
         b"\r", b'"', b",", b" ", b"a", b"\xff", b"\xc3\xbc", b"\0", b'""', b'"x"', b"1,2\n",
         b'2026-10-25 14:30:00,"a","b",5,"1.5"\n', b'2026-10-25 14:30:00,"a\nb",b,5,1\n',
         b'2026-10-25 14:30:00,"a""b",b,5,1\n', b'2026-10-25 14:30:00,a"b,"c"d,5,1\n']
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=300)
@example(  # a row that goes on in the next block, and ends there before the line does
    pieces=[b'"', _ROW, b'"', b"\r", _ROW], block=1, mark=False
)
@given(pieces=PIECES, block=st.sampled_from([1, 40, 100, 10_000]), mark=st.booleans())
def test_any_bytes_of_a_csv_in_blocks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], block: int, mark: bool
) -> None:
    path = tmp_path_factory.mktemp("bulk") / "any.csv"
    start = b"\xef\xbb\xbf" if mark else b""
    path.write_bytes(start + ",".join(HEADER).encode() + b"\n" + b"".join(pieces))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", block)
        _agree(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"when\n", b'"when","id"\r\n', b'when,"i\nd",who\n', b"when,when,id,who,n,h\n",
     b"\xff,id\n", b'a"\n', b"when,id,who,n,h", b"when,id,who,n,h\r2026-10-25 14:30:00,a,b,1,2\r"],
)  # fmt: skip
def test_any_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "header.csv"
    path.write_bytes(content)
    _agree(path)


@settings(max_examples=40)
@given(
    numbers=st.lists(st.one_of(NUMBERS, st.integers(0, 10**19).map(str)), max_size=8),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_epoch_numbers_templates_and_constants(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[str], unit: str
) -> None:
    path = tmp_path_factory.mktemp("bulk") / "epoch.csv"
    _written(path, [[number, "i", "{n}", "3", "1"] for number in numbers])
    mapping = Mapping(
        "when",
        "UTC",
        unit,
        Source(template="{who}-{row}-{n}"),
        Source(value="all"),
        (MappedMeter("tokens", Source(value="1")), MappedMeter("hours", Source(column="h"))),
        None,
        ",",
    )
    _agree(path, mapping)


@settings(max_examples=30)
@given(
    said=st.lists(
        st.tuples(
            st.sampled_from(["OK", "", " 200 ", "timeout", "500", "retried", "Ü"]),
            st.sampled_from(["1", " 2 ", "", "x", "0", "99999999999", "²"]),
            NUMBERS,
        ),
        max_size=8,
    ),
    mapped=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_outcomes_attempts_and_sessions(
    tmp_path_factory: pytest.TempPathFactory,
    said: list[tuple[str, str, str]],
    mapped: tuple[bool, bool, bool],
) -> None:
    path = tmp_path_factory.mktemp("bulk") / "ways.csv"
    _written(path, [["2026-10-25 14:30:00", way, tried, n, "1"] for way, tried, n in said])
    names = ("id", "who", "h")
    sources = [Source(column=c) if on else None for c, on in zip(names, mapped, strict=True)]
    mapping = Mapping(
        "when", "UTC", None, None, Source(value="all"),
        (MappedMeter("tokens", Source(column="n")),), None, ",", *sources,
    )  # fmt: skip
    _agree(path, mapping)


def test_other_formats_and_zipped_files(tmp_path: Path) -> None:
    rows = [[f"2026-10-25 14:30:{n:02}", f"id-{n}", "b", str(n), "1.5"] for n in range(60)]
    rows[7][3] = "many"
    _written(tmp_path / "a.csv", rows)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    lines = [dict(zip(HEADER, row, strict=True)) for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(map(str, lines)).replace("'", '"') + "\n[]\n")
    start = datetime(2026, 10, 25, tzinfo=UTC)
    table = pyarrow.table(
        {
            "when": pyarrow.array(
                [start + timedelta(minutes=7 * n) for n in range(200)],
                pyarrow.timestamp("ns", "UTC"),
            ),
            "id": [f"id-{n}" if n % 50 else None for n in range(200)],
            "who": pyarrow.array(["a", "b"] * 100).dictionary_encode(),
            "n": pyarrow.array(range(200), pyarrow.int32()),
            "h": [0.5] * 200,
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    for name in ("a.csv", "a.csv.gz", "a.jsonl", "a.parquet"):
        _agree(tmp_path / name)
        found = _in_columns(tmp_path / name, MAPPING)
        assert isinstance(found, tuple)
        assert len(found[0]) > 100
