"""The bundle's container: one form, the same at both parties, and nothing else is read."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from itertools import chain

import pytest
from builders import Channel, busy_channel

from tallystick.protocol import archive
from tallystick.protocol.archive import MemberName, read_archive, write_archive
from tallystick.protocol.bundle import (
    BATCH_RECORDS,
    COMPACT,
    FULL,
    VERDICT,
    open_bundle,
    readme_text,
    rebatch,
    write_bundle,
)
from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import Delta, batch_bytes, decode_batch, encode_record

CHANNEL = busy_channel()
OCTOBER = CHANNEL.closed[0]
SMALL = CHANNEL.bundle(OCTOBER)
WHOLE = CHANNEL.bundle(OCTOBER, full=True)


def parts_of(batches: list[bytes]) -> list[bytes]:
    return list(chain.from_iterable(decode_batch(batch)[1] for batch in batches))


@pytest.mark.parametrize(
    ("data", "names"), [(SMALL, (*COMPACT, VERDICT)), (WHOLE, (*COMPACT, VERDICT, *FULL))]
)
def test_any_zip_program_reads_it(data: bytes, names: tuple[str, ...]) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert tuple(opened.namelist()) == names
        assert opened.read("checkpoint.txt") == OCTOBER.note
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_full_bundle_has_the_records_up_to_the_heads() -> None:
    bundle = open_bundle(io.BytesIO(WHOLE))
    assert bundle.logs is not None
    for log, memory, head in zip(bundle.logs, CHANNEL.logs, OCTOBER.checkpoint.heads, strict=True):
        assert log.count == head.size < memory.state.size
        expected = [encode_record(record) for record in memory.records[: head.size]]
        assert parts_of(list(log.batches())) == expected
        assert parts_of(list(log.batches())) == expected, "it can be read twice"


def test_a_compact_bundle_has_no_records() -> None:
    bundle = open_bundle(io.BytesIO(SMALL))
    assert bundle.logs is None
    assert tuple(bundle.members) == (*COMPACT, VERDICT)
    assert bundle.members["README.txt"] == readme_text((VERDICT,))


def test_how_the_records_were_batched_does_not_show() -> None:
    out = io.BytesIO()
    at_once = [[batch_bytes(parts_of(log.batches))] for log in CHANNEL.logs]
    write_bundle(out, OCTOBER.contents, *at_once)
    assert out.getvalue() == WHOLE


def test_batches_have_a_fixed_count_of_records() -> None:
    count = 2 * BATCH_RECORDS + 5
    parts = [encode_record(Delta(f"i{i}", "tokens", "s", i, 0, 0, None)) for i in range(count + 10)]
    batches = [batch_bytes(parts[i : i + 1000]) for i in range(0, len(parts), 1000)]
    done = list(rebatch(batches, count))
    assert [len(decode_batch(batch)[1]) for batch in done] == [BATCH_RECORDS, BATCH_RECORDS, 5]
    assert parts_of(done) == parts[:count]
    assert list(rebatch(batches, 0)) == []
    assert len(list(rebatch(batches, BATCH_RECORDS))) == 1


def test_many_batches_are_read_one_by_one() -> None:
    parts = [
        encode_record(Delta(f"i{i}", "tokens", "s" * 120, i, 0, 0, None))
        for i in range(3 * BATCH_RECORDS + 1)
    ]
    data = b"".join(rebatch([batch_bytes(parts)], len(parts)))
    bundle = open_bundle(io.BytesIO(with_records(data)))
    assert bundle.logs is not None
    assert bundle.logs[0].count == len(parts)
    assert b"".join(bundle.logs[0].batches()) == data


def with_records(provider: bytes) -> bytes:
    """A full bundle with these bytes as the provider's records."""
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    members[FULL[0]] = provider
    return packed(members)


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    write_archive(out, [(MemberName(name, name in FULL), [data]) for name, data in members.items()])
    return out.getvalue()


ONE = batch_bytes([encode_record(CHANNEL.terms)])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (b"\x91" + ONE[5:], "not in batches"),
        (ONE + ONE, "not in batches"),
        (b"\xdd\0\0\0\0", "not in batches"),
        (b"\xdd\xff\xff\xff\xff", "ends within a batch"),
        (ONE[:-1], "ends within a batch"),
        (ONE + b"\xc1", "not MessagePack"),
        (b"\xdd\0\0\0\1" + b"\x91" * 100_000, "not MessagePack|ends within"),
        (b"\xdd\0\0\x10\x01" + b"\xc0" * 4097, "not in batches"),
    ],
)
def test_records_in_other_batches_are_refused(records: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        open_bundle(io.BytesIO(with_records(records)))


def test_records_of_one_log_only_make_no_bundle() -> None:
    with pytest.raises(FormatError, match="both logs"):
        write_bundle(io.BytesIO(), OCTOBER.contents, CHANNEL.provider_log.batches)


def test_a_log_that_ends_too_soon_makes_no_bundle() -> None:
    batches = CHANNEL.provider_log.batches[:3]
    with pytest.raises(FormatError, match="ends after 3 records"):
        write_bundle(io.BytesIO(), OCTOBER.contents, batches, CHANNEL.consumer_log.batches)


def test_contents_of_another_kind_make_no_bundle() -> None:
    delta = encode_record(CHANNEL.provider_log.records[1])
    wrong = replace(OCTOBER.contents, terms=delta)
    with pytest.raises(FormatError, match="not a terms record"):
        write_bundle(io.BytesIO(), wrong)


def rezipped(compression: int = zipfile.ZIP_STORED, comment: bytes = b"", **extra: bytes) -> bytes:
    """A compact bundle's members as another program would pack them."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(SMALL)) as opened,
        zipfile.ZipFile(out, "w", compression) as made,
    ):
        made.comment = comment
        for name in opened.namelist():
            made.writestr(zipfile.ZipInfo(name), opened.read(name), compression)
        for name, data in extra.items():
            made.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\5\6" + bytes(18),
        rezipped(),
        rezipped(zipfile.ZIP_DEFLATED),
        rezipped(comment=b"hello"),
        rezipped(extra=b"another member"),
        b"\0" + SMALL,
        SMALL + b"\0",
        SMALL + SMALL,
        SMALL[:-1],
        SMALL[: len(SMALL) // 2],
        SMALL.replace(b"README.txt", b"../ADME.tx"),
        packed(dict.fromkeys(reversed(COMPACT), b"")),
        packed(dict.fromkeys(COMPACT[:-1], b"")),
        packed(dict.fromkeys((*COMPACT, FULL[0]), b"")),
    ],
)
def test_any_other_archive_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        open_bundle(io.BytesIO(data))


def test_a_member_over_the_bound_is_refused_before_it_is_read() -> None:
    out = io.BytesIO()
    write_archive(out, [(MemberName("a"), [b"12345"])])
    assert read_archive(out, (MemberName("a"),), (), 5)[0].size == 5
    with pytest.raises(FormatError, match="at most 4"):
        read_archive(out, (MemberName("a"),), (), 4)


def test_a_large_member_need_not_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and the 64-bit form are what a small file can show of them."""
    monkeypatch.setattr(archive, "CHUNK_BYTES", 3)
    out = io.BytesIO()
    write_archive(out, [(MemberName("a"), [b"x"]), (MemberName("b", True), [b"1234", b"5678"])])
    members = read_archive(out, (MemberName("a"),), ((MemberName("b", True),),), 9)
    assert [(m.name, m.size) for m in members] == [("a", 1), ("b", 8)]
    with zipfile.ZipFile(out) as opened:
        assert opened.read("b") == b"12345678"


def test_an_empty_statement_can_be_bundled() -> None:
    channel = Channel()
    closed = channel.close()
    assert open_bundle(io.BytesIO(channel.bundle(closed, full=True))).logs is not None
