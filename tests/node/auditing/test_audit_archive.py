"""tally audit of archives: what is there holds, and what was changed in a file is named."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec
import pyarrow
import pyarrow.parquet
import pytest
from archiving import fill, long_channel, parts_of, write_archive
from auditing import failing
from builders import OCTOBER_US, Channel

from tallystick.node.auditing.checks import run_audit
from tallystick.node.auditing.pools import InProcess
from tallystick.node.auditing.sources import of_archive, select_channel
from tallystick.node.segments import SEGMENT
from tallystick.node.segments.archive import Archive, segment_path
from tallystick.node.segments.files import write_segment
from tallystick.protocol.bundle import decode_keys, encode_keys
from tallystick.protocol.checks import Check
from tallystick.protocol.errors import InputError, UnknownName
from tallystick.protocol.merkle import chain_leaves
from tallystick.protocol.records import Delta, decode_record, encode_record

_MAIN = "from tallystick.node.cli import main; main()"


@pytest.fixture(scope="module")
def channel() -> Channel:
    """Three segments' worth of records, two closed months."""
    return long_channel()


@pytest.fixture(scope="module")
def sound(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive; copy it to change it."""
    folder = tmp_path_factory.mktemp("archive") / "a"
    write_archive(str(folder), channel, channel.closed)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the archive."""
    shutil.copytree(sound, tmp_path / "a")
    return tmp_path / "a"


def audit(folder: Path, channel: Channel) -> list[Check]:
    """The checks of an archive, in this process."""
    archive = Archive(str(folder))
    return list(
        run_audit(lambda: of_archive(archive, channel.id), lambda _: InProcess(), lambda *_: None)
    )


def test_a_sound_archive_holds_in_two_processes_as_in_one(sound: Path, channel: Channel) -> None:
    checks = audit(sound, channel)
    assert failing(checks) == {}
    said = {check.name: check.detail for check in checks}
    assert said["records"] == "131,072 and 65,536 records, in 3 pieces that join"
    assert said["files"] == "columns and footers of 3 segments say what the records say"
    assert said["derivation"].endswith("not of 2026-11, whose last records are not here")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _MAIN,
            "audit",
            "--archive",
            f"file://{sound}",
            "--json",
            "--workers=2",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = {check["name"]: check["detail"] for check in json.loads(done.stdout)["checks"]}
    assert {**found, "source": ""} == {**said, "source": ""}


def test_an_archive_in_memory_is_audited_too(channel: Channel) -> None:
    archive = write_archive(f"memory://{secrets.token_hex(4)}", channel, channel.closed[:1])
    opened = of_archive(archive, channel.id)
    checks = list(run_audit(lambda: opened, lambda _: InProcess(), lambda *_: None))
    assert failing(checks) == {}


def segment(folder: Path, channel: Channel, role: str = "provider", first: int = 0) -> Path:
    """The file of a segment."""
    return folder / segment_path(channel.id, role, first)  # type: ignore[arg-type]


def rewrite(path: Path, change: Callable[[pyarrow.Table], pyarrow.Table]) -> None:
    """Change a segment's table, its footer kept."""
    with pyarrow.parquet.ParquetFile(path) as file:
        table, metadata = file.read(), file.metadata.metadata
    table = change(table)
    out = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(out, table.schema, store_schema=False) as writer:
        writer.write_table(table, row_group_size=8192)
        writer.add_key_value_metadata(dict(metadata))
    path.write_bytes(out.getvalue())


@pytest.mark.parametrize(
    ("column", "place"),
    [("quantity", 9000), ("subject", 20), ("period", 65_000), ("kind", 70), ("scale", 8192)],
)
def test_a_column_that_says_something_else_is_named(
    folder: Path, channel: Channel, column: str, place: int
) -> None:
    path = segment(folder, channel)

    def change(table: pyarrow.Table) -> pyarrow.Table:
        values = table[column].to_pylist()
        values[place] = values[place] + (1 if isinstance(values[place], int) else "x")
        at = table.schema.get_field_index(column)
        return table.set_column(
            at, table.schema.field(at), pyarrow.array(values, table.schema.field(at).type)
        )

    rewrite(path, change)
    said = failing(audit(folder, channel))
    assert list(said) == ["files"]
    assert f"its column {column} is not what its records say" in said["files"]
    assert str(path) in said["files"]


def test_a_changed_record_is_not_what_was_signed(folder: Path, channel: Channel) -> None:
    """Whoever can write the archive makes a whole new segment of it, claims and all."""
    parts = parts_of(channel.provider_log)
    leaves = [channel.id, *chain_leaves(channel.id, parts)]
    some = parts[SEGMENT : 2 * SEGMENT]
    place = 4321
    record = decode_record(some[place])
    assert isinstance(record, Delta)
    some[place] = encode_record(msgspec.structs.replace(record, quantity=record.quantity + 1))
    path = segment(folder, channel, first=SEGMENT)
    with path.open("wb") as out:
        write_segment(out, channel.terms, "provider", SEGMENT, leaves[SEGMENT], some)
    said = failing(audit(folder, channel))
    assert list(said) == ["heads"]
    assert said["heads"].startswith("the provider's records give ")


def test_a_segment_of_other_records_before_another_does_not_join(
    folder: Path, channel: Channel
) -> None:
    parts = parts_of(channel.provider_log)[:SEGMENT]
    parts[5], parts[6] = parts[6], parts[5]
    path = segment(folder, channel)
    with path.open("wb") as out:
        write_segment(out, channel.terms, "provider", 0, channel.id, parts)
    said = failing(audit(folder, channel))
    assert list(said) == ["records"]
    assert said["records"].startswith(
        f"in the provider's log, record {SEGMENT}: the leaf hash before it is said to be "
    )


def test_records_that_are_none_are_named_by_their_index(folder: Path, channel: Channel) -> None:
    path = segment(folder, channel)

    def change(table: pyarrow.Table) -> pyarrow.Table:
        values = table["record"].to_pylist()
        values[12_345] = b"\x91" + values[12_345][1:]
        return table.set_column(2, table.schema.field(2), pyarrow.array(values, pyarrow.binary()))

    rewrite(path, change)
    said = failing(audit(folder, channel))["records"]
    assert said.startswith("in the provider's log, record 12345: not a record")


def test_a_missing_segment_is_named(folder: Path, channel: Channel) -> None:
    path = segment(folder, channel, first=SEGMENT)
    path.unlink()
    said = failing(audit(folder, channel))["records"]
    assert said.startswith(f"in the provider's log, record {SEGMENT}: {path} is missing")


def test_files_at_odd_places_are_named_and_cost_nothing(folder: Path, channel: Channel) -> None:
    far = segment(folder, channel, first=SEGMENT * 10_000_000)
    shutil.copy(segment(folder, channel), far)
    said = failing(audit(folder, channel))["records"]
    assert said.startswith(f"in the provider's log, record {2 * SEGMENT}: ")
    assert "000000131072.parquet is missing" in said
    odd = segment(folder, channel, first=7)
    far.rename(odd)
    assert failing(audit(folder, channel))["source"] == f"{odd} is at no segment's place"


def test_a_damaged_file_is_named(folder: Path, channel: Channel) -> None:
    path = segment(folder, channel)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    said = failing(audit(folder, channel))
    assert str(path) in next(iter(said.values()))
    path.write_bytes(data[: len(data) // 2])
    assert str(path) in failing(audit(folder, channel))["records"]


def test_edges_must_lead_to_what_was_signed(folder: Path, channel: Channel) -> None:
    path = next(folder.glob("*/checkpoints/000001-*.edges"))
    edges = msgspec.msgpack.decode(path.read_bytes())
    first = [bytes(32), *edges[0][1:]]
    path.write_bytes(msgspec.msgpack.encode([first, edges[1]]))
    assert "the checkpoint of 2026-11 says" in failing(audit(folder, channel))["heads"]
    path.write_bytes(msgspec.msgpack.encode([edges[0][1:], edges[1]]))
    said = failing(audit(folder, channel))["heads"]
    assert said.startswith("the edges of the checkpoint of 2026-11 do not fit")


def test_segments_that_no_checkpoint_counts_prove_nothing(folder: Path, channel: Channel) -> None:
    for file in folder.glob("*/checkpoints/000001-*"):
        file.unlink()
    said = failing(audit(folder, channel))
    assert said["heads"] == (
        "no checkpoint counts 65,233 records of the provider and 64,635 records of the consumer:"
        " nobody is known to have signed them"
    )
    shutil.rmtree(next(folder.glob("*/checkpoints")))
    assert "131,072 records of the provider" in failing(audit(folder, channel))["heads"]


def test_a_checkpoint_that_is_gone_or_garbage_is_named(folder: Path, channel: Channel) -> None:
    note = next(folder.glob("*/checkpoints/000000-*.note"))
    kept = note.read_bytes()
    note.write_bytes(b"nonsense")
    assert failing(audit(folder, channel))["source"]
    note.unlink()
    said = failing(audit(folder, channel))["source"]
    assert "the archive has the checkpoint 000001-2026-11, but 0 before it" in said
    note.write_bytes(kept)
    next(folder.glob("*/checkpoints/000000-*.lines")).write_bytes(b"\xdd\0\0\0\0")
    said = failing(audit(folder, channel))["closed"]
    assert said.startswith("2026-10: the 0 lines that are kept do not have the statement's root")


def test_a_channel_is_chosen_by_its_id_or_a_partys_name(folder: Path, channel: Channel) -> None:
    archive = Archive(str(folder))
    for selector in (None, channel.id.hex()[:6], "beta.example"):
        assert select_channel(archive, selector) == channel.id
    with pytest.raises(UnknownName, match="no channel matches 'gamma'"):
        select_channel(archive, "gamma")
    (folder / ("0" * 64)).mkdir()
    with pytest.raises(InputError, match="several channels are in"):
        select_channel(archive, None)


# What docs/audit.md shows


def recipes() -> Iterator[str]:
    """The SQL of the page."""
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    for block in page.split("```sql\n")[1:]:
        yield block.partition("```")[0]


def test_the_pages_queries_run_on_duckdb(sound: Path, channel: Channel) -> None:
    connection = duckdb.connect()
    found = [connection.sql(query.replace("ARCHIVE", str(sound))).fetchall() for query in recipes()]
    assert len(found) >= 3
    assert all(found)
    derived = {
        (line.period, line.meter, line.subject): line
        for line in channel.closed[0].lines
        if line.late_for is None
    }
    balance = {row[:3]: str(row[3]) for row in found[0] if row[0] == "2026-10"}
    tokens = {key: line for key, line in derived.items() if key[1] == "tokens"}
    assert tokens
    for key, line in tokens.items():
        assert balance[key] == line.provider


def test_keys_that_changed_behind_the_last_segment_are_beside_the_checkpoint(
    tmp_path: Path,
) -> None:
    channel = Channel()
    fill(channel.logs[0], SEGMENT + 10, OCTOBER_US)
    channel.rotate("provider", "log")
    channel.rotate("consumer", "log")
    channel.rotate("consumer", "cosigner")
    channel.close(OCTOBER_US, ["provider", "consumer"])
    write_archive(str(tmp_path / "a"), channel, channel.closed)
    assert failing(audit(tmp_path / "a", channel)) == {}
    [keys] = (tmp_path / "a" / channel.id.hex() / "checkpoints").glob("*.keys")
    provider, consumer = decode_keys(keys.read_bytes())
    assert [len(provider), len(consumer)] == [3, 3]

    # One that its holder did not sign, one that is none, none at all.
    index, record = provider[0]
    forged = msgspec.structs.replace(decode_record(record), key=bytes(range(32)))
    for data, said in (
        (encode_keys(([(index, encode_record(forged))], [])), "signature"),
        (encode_keys(([(index, encode_record(channel.terms))], [])), "of another kind"),
        (b"garbage", "cannot be read"),
        (None, "signature"),
    ):
        keys.unlink() if data is None else keys.write_bytes(data)
        found = failing(audit(tmp_path / "a", channel))
        assert said in found["closed"], found
