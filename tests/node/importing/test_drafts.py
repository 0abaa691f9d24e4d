"""Exports read exactly: every row becomes whole drafts, or is refused with its reason."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import builders
import pyarrow
import pytest
from pyarrow import parquet

from tallystick.node.importing import readers
from tallystick.node.importing.drafts import DRAFTS_MAX, Draft, DraftBatch, Reject, read_drafts
from tallystick.node.importing.mapping import load_mapping
from tallystick.node.importing.rejects import RejectsFile
from tallystick.protocol.errors import InputError, MappingError

TRACE = Path(__file__).parents[3] / "scripts" / "data" / "azure_llm_2023_conv.csv"
METERS = {
    m.name: m
    for m in (
        builders.meter("tokens", minimum=0, maximum=10**9),
        builders.meter("hours", scale=2, minimum=0, maximum=10**6),
    )
}
MAP = """\
time = { column = "when", zone = "Europe/Berlin" }
id = { column = "id" }
subject = { column = "who" }
[[meter]]
meter = "tokens"
quantity = { column = "n" }
[[meter]]
meter = "hours"
quantity = { column = "h" }
"""
HEADER = "when,id,who,n,h\n"
GOOD = "2026-01-01T00:00:00Z,a,x,5,1.25\n"
GOOD_DRAFTS = [
    Draft("a", "tokens", "x", 5, 1_767_225_600_000_000),
    Draft("a", "hours", "x", 125, 1_767_225_600_000_000),
]


def _read(
    folder: Path, content: bytes, name: str = "e.csv", mapping: str = MAP, rows: int = 4096
) -> tuple[list[Draft], list[Reject], int]:
    (folder / name).write_bytes(content)
    (folder / "map.toml").write_text(mapping)
    loaded = load_mapping(folder / "map.toml")
    batches: list[DraftBatch] = list(read_drafts(folder / name, loaded, METERS, rows))
    return (
        [draft for batch in batches for draft in batch.drafts],
        [reject for batch in batches for reject in batch.rejects],
        sum(batch.rows_read for batch in batches),
    )


def test_the_real_trace_is_read_to_the_last_token() -> None:
    meters = {name: builders.meter(name) for name in ("context-tokens", "generated-tokens")}
    mapping = load_mapping(Path(__file__).parent / "trace.toml")
    totals = dict.fromkeys(meters, 0)
    count = 0
    for batch in read_drafts(TRACE, mapping, meters):
        assert not batch.rejects
        count += len(batch.drafts)
        for draft in batch.drafts:
            totals[draft.meter] += draft.quantity
    with TRACE.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert count == 2 * len(rows) == 38_732
    assert totals["context-tokens"] == sum(int(row["ContextTokens"]) for row in rows)
    assert totals["generated-tokens"] == sum(int(row["GeneratedTokens"]) for row in rows)


@pytest.mark.parametrize(
    "content",
    [
        HEADER + GOOD,
        "\ufeff" + HEADER + GOOD,
        (HEADER + GOOD).replace("\n", "\r\n"),
        HEADER + GOOD.rstrip(),
        HEADER + "\n" + GOOD + "\n",
        'when,id,who,n,h,note\n2026-01-01T00:00:00Z,"a","x","5","1.25","two\nlines, quoted"\n',
        "h,n,who,id,when\n1.25,5,x,a,2026-01-01 01:00:00\n",
    ],
    ids=["plain", "bom", "crlf", "no last newline", "empty lines", "quotes", "local time"],
)
def test_the_same_row_in_many_dresses(tmp_path: Path, content: str) -> None:
    assert _read(tmp_path, content.encode()) == (GOOD_DRAFTS, [], 1)


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        ("2026-01-01T00:00:00Z,b,x,\"1,000\",1", "n", "thousands separator"),
        ("2026-01-01T00:00:00Z,b,x,,1", "n", "empty"),
        ("2026-01-01T00:00:00Z,b,x,NaN,1", "n", "not a number"),
        ("2026-01-01T00:00:00Z,b,x,1,1.255", "h", "decimal places"),
        ("2026-01-01T00:00:00Z,b,x,-1,1", "n", "outside 0 to"),
        ("2026-01-01T00:00:00Z,b,x,99999999999999999999,1", "n", "64 bits"),
        ("2026-03-29T02:30:00,b,x,1,1", "when", "the clock skips it"),
        ("yesterday,b,x,1,1", "when", "ISO 8601"),
        ("2026-02-30T00:00:00Z,b,x,1,1", "when", "not a time"),
        (",b,x,1,1", "when", "empty"),
        ("2026-01-01T00:00:00Z,,x,1,1", "id", "0 bytes"),
        ("2026-01-01T00:00:00Z,b,a\tb,1,1", "who", "control character"),
        (f"2026-01-01T00:00:00Z,{'é' * 65},x,1,1", "id", "130 bytes"),
        ("2026-01-01T00:00:00Z,b,x,1", "", "4 fields"),
        ("2026-01-01T00:00:00Z,b,x,1,1,1", "", "6 fields"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_whole_and_stops_nothing(
    tmp_path: Path, row: str, column: str, said: str
) -> None:
    drafts, rejects, read = _read(tmp_path, f"{HEADER}{row}\n{GOOD}".encode())
    assert drafts == GOOD_DRAFTS
    assert read == 2
    assert [(reject.row, reject.column) for reject in rejects] == [(1, column)]
    assert said in rejects[0].reason


def test_bytes_that_are_not_utf8_refuse_their_row_only(tmp_path: Path) -> None:
    content = HEADER.encode() + b"2026-01-01T00:00:00Z,b,M\xfcller,1,1\n" + GOOD.encode()
    drafts, rejects, _ = _read(tmp_path, content)
    assert drafts == GOOD_DRAFTS
    assert "not UTF-8" in rejects[0].reason


def test_a_missing_column_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(MappingError) as raised:
        _read(tmp_path, b"when,id,who,count,h\n")
    assert "no column 'n'" in raised.value.message
    assert "count" in raised.value.advice


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="twice"):
        _read(tmp_path, b"when,id,who,n,n,h\n")


def test_gzip_and_a_cut_gzip(tmp_path: Path) -> None:
    packed = gzip.compress((HEADER + GOOD).encode())
    assert _read(tmp_path, packed, "e.csv.gz") == (GOOD_DRAFTS, [], 1)
    with pytest.raises(InputError, match="cannot be read"):
        _read(tmp_path, packed[:-9], "e.csv.gz")


def test_rows_count_on_across_batches(tmp_path: Path) -> None:
    mapping = MAP.replace('{ column = "id" }', '{ template = "{who}-{row}" }')
    content = HEADER + GOOD * 7
    drafts, _, _ = _read(tmp_path, content.encode(), mapping=mapping, rows=3)
    assert [draft.id for draft in drafts[::2]] == [f"x-{n}" for n in range(1, 8)]


def test_json_lines_keep_numbers_exact(tmp_path: Path) -> None:
    rows = [
        '{"when": "2026-01-01T00:00:00Z", "id": "a", "who": "x", "n": 5, "h": 1.25}',
        '{"when": "2026-01-01T00:00:00Z", "id": "b", "who": "x", "n": 5}',
        "not json",
        '{"when": "2026-01-01T00:00:00Z", "id": "c", "who": "x", "n": 0.1, "h": 1}',
        '{"when": "2026-01-01T00:00:00Z", "id": "d", "who": "x", "n": 1e3, "h": "2.50"}',
    ]
    drafts, rejects, read = _read(tmp_path, "\n".join(rows).encode(), "e.jsonl")
    assert drafts[:2] == GOOD_DRAFTS
    assert [(d.quantity) for d in drafts[2:]] == [1000, 250]
    assert [reject.row for reject in rejects] == [2, 3, 4]
    assert read == 5


def _parquet(folder: Path, **columns: Sequence[object]) -> bytes:
    parquet.write_table(pyarrow.table(columns), folder / "made")
    return (folder / "made").read_bytes()


def test_parquet_types(tmp_path: Path) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    content = _parquet(
        tmp_path,
        when=pyarrow.array([when, when], pyarrow.timestamp("ns", "UTC")),
        id=["a", "b"],
        who=["x", "x"],
        n=pyarrow.array([5, None], pyarrow.int32()),
        h=pyarrow.array([Decimal("1.25"), Decimal("1.25")], pyarrow.decimal128(9, 2)),
    )
    drafts, rejects, read = _read(tmp_path, content, "e.parquet")
    assert drafts == GOOD_DRAFTS
    assert [(reject.row, reject.column) for reject in rejects] == [(2, "n")]
    assert read == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv", HEADER + "\n" * 10 + GOOD),
        ("e.jsonl", "\n" * 10 + '{"when":"2026-01-01T00:00Z","id":"a","who":"x","n":5,"h":1.25}'),
    ],
)
def test_empty_lines_do_not_end_a_file(tmp_path: Path, name: str, content: str) -> None:
    drafts, rejects, read = _read(tmp_path, content.encode(), name, rows=4)
    assert (drafts, rejects, read) == (GOOD_DRAFTS, [], 1)


@pytest.mark.parametrize("name", ["e.csv.gz", "e.jsonl.gz"])
def test_a_line_that_no_memory_holds_ends_an_import(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LINE_MAX", 1000)
    with pytest.raises(InputError, match="a line of more than 1000 characters"):
        _read(tmp_path, gzip.compress((HEADER + " " * 2000).encode()), name)


def test_a_parquet_value_that_python_cannot_hold_refuses_its_row_alone(tmp_path: Path) -> None:
    raw = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary())
    content = _parquet(
        tmp_path,
        when=pyarrow.array([20_454, 20_454, 2**31 - 1], pyarrow.date32()),
        id=pyarrow.StringArray.from_buffers(3, *raw.buffers()[1:]),
        who=["x"] * 3,
        n=[5] * 3,
        h=["1.25"] * 3,
    )
    drafts, rejects, read = _read(tmp_path, content, "e.parquet")
    assert [draft.id for draft in drafts] == ["a", "a"]
    assert [(reject.row, reject.reason.split(":")[0]) for reject in rejects] == [
        (2, "id cannot be read"),
        (3, "when cannot be read"),
    ]
    assert read == 3


def test_garbage_is_not_parquet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a Parquet file"):
        _read(tmp_path, b"PAR1 garbage", "e.parquet")


def test_epoch_times(tmp_path: Path) -> None:
    mapping = MAP.replace('zone = "Europe/Berlin"', 'unit = "ms"')
    drafts, rejects, _ = _read(
        tmp_path, f"{HEADER}1767225600000,a,x,5,1.25\nsoon,b,x,1,1\n".encode(), mapping=mapping
    )
    assert drafts == GOOD_DRAFTS
    assert "epoch" in rejects[0].reason


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(MAP)
    mapping = load_mapping(tmp_path / "map.toml")
    with pytest.raises(InputError, match="No such file"):
        list(read_drafts(tmp_path / "none.csv", mapping, METERS))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("column = \"when\"", "colum = \"when\""), "Did you mean column"),
        (("zone = \"Europe/Berlin\"", "zone = \"Mars\""), "no time zone"),
        (("meter = \"tokens\"", "meter = \"token\""), "do not have"),
        (("[[meter]]", "[[metre]]"), "metre"),
        (("id = { column = \"id\" }", "id = \"id\""), "id is not a table"),
        (("{ column = \"n\" }", "{ column = \"n\", value = \"1\" }"), "exactly one"),
    ],
)  # fmt: skip
def test_mistakes_in_the_mapping(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(MappingError) as raised:
        _read(tmp_path, (HEADER + GOOD).encode(), mapping=MAP.replace(*change))
    assert said in str(raised.value)


def test_a_clean_import_leaves_no_rejects_file(tmp_path: Path) -> None:
    with RejectsFile(tmp_path / "e.csv") as rejects:
        pass
    assert not rejects.path.exists()
    with RejectsFile(tmp_path / "e.csv") as rejects:
        rejects.write(Reject(3, "n", '1,"2', "a reason"))
    with rejects.path.open(newline="") as opened:
        assert list(csv.reader(opened))[1] == ["3", "n", '1,"2', "a reason"]


def test_a_batch_is_no_more_than_a_node_takes(tmp_path: Path) -> None:
    count = 40
    meters = {f"m{n}": builders.meter(f"m{n}") for n in range(count)}
    mapped = "".join(
        f'[[meter]]\nmeter = "m{n}"\nquantity = {{ column = "n" }}\n' for n in range(count)
    )
    (tmp_path / "map.toml").write_text(MAP.partition("[[meter]]")[0] + mapped)
    rows = "".join(f"2026-01-01T00:00:00Z,id-{n},x,5,1\n" for n in range(500))
    (tmp_path / "e.csv").write_text(HEADER + rows)
    batches = list(read_drafts(tmp_path / "e.csv", load_mapping(tmp_path / "map.toml"), meters))
    assert sum(len(batch.drafts) for batch in batches) == 500 * count
    assert max(len(batch.drafts) for batch in batches) <= DRAFTS_MAX
