"""Archives: what is put in comes out, elsewhere than on a disk too, and errors name the file."""

from __future__ import annotations

import io
import secrets
from pathlib import Path

import builders
import pytest

from tallystick.node.errors import ArchiveError
from tallystick.node.segments.archive import Archive, ArchivedCheckpoint, segment_path
from tallystick.node.segments.files import SEGMENT, write_segment
from tallystick.protocol.records import Delta, encode_record
from tallystick.protocol.terms import channel_id

TERMS = builders.make_terms(builders.identity("acme.example"), builders.identity("beta.example"))
CHANNEL = channel_id(TERMS)
CHECKPOINT = ArchivedCheckpoint(
    3, "2026-10", b"note\n", [b"\x93\x01\x02\x03", b"\xa1x"], ((b"a" * 32, b"b" * 32), ()), b"v"
)


@pytest.fixture(params=["path", "file", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """An empty archive of each kind."""
    name = secrets.token_hex(4)
    places = {
        "path": f"{tmp_path}/deep/{name}",
        "file": f"file://{tmp_path}/{name}",
        "memory": f"memory://{name}",
    }
    return Archive(places[request.param])


@pytest.fixture(scope="module")
def whole_segment() -> bytes:
    """A segment of 65,536 records."""
    at = builders.OCTOBER_US
    parts = [encode_record(TERMS)] + [
        encode_record(Delta(f"evt-{n}", "tokens", "s", n, at, at + n, None))
        for n in range(1, SEGMENT)
    ]
    out = io.BytesIO()
    write_segment(out, TERMS, "provider", 0, CHANNEL, parts)
    return out.getvalue()


def test_an_empty_archive_has_nothing(archive: Archive) -> None:
    assert archive.channels() == []
    assert archive.segments(CHANNEL, "provider") == []
    assert archive.checkpoints(CHANNEL) == []


def test_what_is_put_in_comes_out(archive: Archive, whole_segment: bytes) -> None:
    for _ in range(2):  # the same again changes nothing
        archive.put_terms(TERMS)
        archive.put_checkpoint(CHANNEL, CHECKPOINT)
        with archive.writing(segment_path(CHANNEL, "provider", 0)) as file:
            file.write(whole_segment)
    assert archive.channels() == [CHANNEL]
    assert archive.terms(CHANNEL) == TERMS
    assert archive.checkpoints(CHANNEL) == [CHECKPOINT]
    assert archive.segments(CHANNEL, "provider") == [0]
    assert archive.segments(CHANNEL, "consumer") == []
    with archive.segment(CHANNEL, "provider", 0) as segment:
        assert segment.header.count == SEGMENT
        assert segment.name == archive.path(segment_path(CHANNEL, "provider", 0))


def test_a_segment_at_anothers_place_is_refused(archive: Archive, whole_segment: bytes) -> None:
    with archive.writing(segment_path(CHANNEL, "consumer", SEGMENT)) as file:
        file.write(whole_segment)
    with pytest.raises(ArchiveError, match="it is not the segment that belongs there"):
        archive.segment(CHANNEL, "consumer", SEGMENT)


def test_what_is_missing_or_altered_is_named(archive: Archive) -> None:
    with pytest.raises(ArchiveError, match=r"000000000000\.parquet is missing"):
        archive.segment(CHANNEL, "provider", 0)
    archive.put_checkpoint(CHANNEL, CHECKPOINT)
    for ending, data in (("lines", b"\xc1"), ("edges", b"\x92\x91\xc4\x01a\x90")):
        name = f"{CHANNEL.hex()}/checkpoints/000003-2026-10.{ending}"
        with archive.writing(name) as file:
            file.write(data)
        with pytest.raises(ArchiveError, match=rf"000003-2026-10\.{ending} is altered"):
            archive.checkpoints(CHANNEL)
        archive.put_checkpoint(CHANNEL, CHECKPOINT)
    with archive.writing(f"{CHANNEL.hex()}/terms.record") as file:
        file.write(encode_record(builders.make_terms(*map(builders.identity, ("c", "d")))))
    with pytest.raises(ArchiveError, match=r"terms\.record is altered"):
        archive.terms(CHANNEL)


def test_a_place_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot be used"):
        Archive("nonsense://somewhere")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ArchiveError, match="file"):
        Archive(f"{tmp_path}/file").put_terms(TERMS)


def test_what_fails_half_way_leaves_nothing(archive: Archive) -> None:
    with pytest.raises(ArchiveError, match="half way"), archive.writing("some/file") as file:
        file.write(b"half")
        raise OSError("half way")
    with pytest.raises(ArchiveError, match="some/file is missing"):
        archive.read("some/file")
