"""An archive: segments and checkpoints in a folder of any file system that fsspec knows.

    <channel, hex>/terms.record                                   the terms record's bytes
    <channel, hex>/<role>/<first index, 12 digits>.parquet        segments (see `files`)
    <channel, hex>/checkpoints/<sequence, 6 digits>-<label>.note  the note that both signed
                                                   ….lines        the statement's lines
                                                   ….edges        what leads to the heads' roots
                                                   ….verdict      the verdict, if there is one
                                                   ….keys         rotations, if no segment has them

A label stands here without colons. `.lines` is a MessagePack array of the lines' canonical
encodings. `.edges` is one of two arrays, the provider's and the consumer's: the hashes of the
complete subtrees, the largest first, over the records between the last whole segment below the
head's size and that size. With the segments' roots before them they are the head's frontier, so
that what a checkpoint signs can be computed although its last records are in no segment yet.
`.keys` holds the rotations among those last records, as a bundle's `keys.msgpack` does.

A file is written whole or not at all, and durably, before anybody is told that it is there.
`ArchiveError` names the file that is missing or altered. Nothing here waits for trio: on a store
that is far away each call takes its time, so call from a thread.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem

from tallystick.node.errors import ArchiveError, StoreError
from tallystick.node.files import sync, whole_file
from tallystick.node.segments import SEGMENT
from tallystick.node.segments.files import Segment, altered
from tallystick.protocol.errors import FormatError
from tallystick.protocol.merkle import HASH_SIZE
from tallystick.protocol.records import Role, Terms, batch_bytes, decode_record, encode_record
from tallystick.protocol.terms import channel_id

_CHANNEL = re.compile(r"[0-9a-f]{64}")
_SEGMENT = re.compile(r"([0-9]{12})\.parquet")
_NOTE = re.compile(r"([0-9]{6})-([A-Za-z0-9+-]{1,40})\.note")

Edges = tuple[tuple[bytes, ...], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class ArchivedCheckpoint:
    """A closed period as an archive holds it; see above. `verdict` and `keys` may be empty."""

    sequence: int
    label: str  # without colons
    note: bytes
    lines: list[bytes]
    edges: Edges
    verdict: bytes
    keys: bytes = b""

    @property
    def name(self) -> str:
        """How its files begin."""
        return f"{self.sequence:06}-{self.label}"


def segment_path(channel: bytes, role: Role, first: int) -> str:
    """Where a segment is in an archive."""
    return f"{channel.hex()}/{role}/{first:012}.parquet"


class Archive:
    """The archive at a location: a path or an fsspec URL."""

    def __init__(self, location: str) -> None:
        self.location = location
        try:
            self._fs, self._root = fsspec.core.url_to_fs(location)
        except (ImportError, ValueError) as error:
            raise ArchiveError(
                f"the archive {location!r} cannot be used: {error}",
                "Give a folder or an fsspec URL, and install the package that its store needs",
            ) from None
        self._local = isinstance(self._fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """A file's whole name, for people and for engines."""
        return f"{self.location.rstrip('/')}/{name}"

    # What is there

    def channels(self) -> list[bytes]:
        """The channels that have a folder."""
        return [bytes.fromhex(name) for name in self._names("") if _CHANNEL.fullmatch(name)]

    def terms(self, channel: bytes) -> Terms:
        """A channel's terms, which are those that its id is the digest of."""
        name = f"{channel.hex()}/terms.record"
        try:
            terms = decode_record(self.read(name))
        except FormatError as error:
            raise altered(self.path(name), error.message) from None
        if not isinstance(terms, Terms) or channel_id(terms) != channel:
            raise altered(self.path(name), "these are not the terms of its channel")
        return terms

    def segments(self, channel: bytes, role: Role) -> list[int]:
        """The first indexes of the segments of a log, in order."""
        names = self._names(f"{channel.hex()}/{role}")
        return [int(found[1]) for name in names if (found := _SEGMENT.fullmatch(name))]

    def segment(self, channel: bytes, role: Role, first: int) -> Segment:
        """A segment, open. Its header says what its place says; it is yet to be proven."""
        name = segment_path(channel, role, first)
        segment = Segment(self._open(name), self.path(name))
        header = segment.header
        if (header.channel, header.role, header.first, header.count) != (
            channel,
            role,
            first,
            SEGMENT,
        ):
            segment.close()
            raise altered(segment.name, "it is not the segment that belongs there")
        return segment

    def checkpoints(self, channel: bytes) -> list[ArchivedCheckpoint]:
        """The checkpoints of a channel, in order."""
        folder = f"{channel.hex()}/checkpoints"
        names = self._names(folder)
        found = []
        for one in filter(None, map(_NOTE.fullmatch, names)):
            begin = f"{one[1]}-{one[2]}"
            name = f"{folder}/{begin}"
            found.append(
                ArchivedCheckpoint(
                    int(one[1]),
                    one[2],
                    self.read(f"{name}.note"),
                    self._decoded(f"{name}.lines", list[msgspec.Raw], _items),
                    self._decoded(f"{name}.edges", Edges, _edges),
                    self.read(f"{name}.verdict") if f"{begin}.verdict" in names else b"",
                    self.read(f"{name}.keys") if f"{begin}.keys" in names else b"",
                )
            )
        return found

    def checkpoint_names(self, channel: bytes) -> set[str]:
        """How the files of the checkpoints begin that are there."""
        names = self._names(f"{channel.hex()}/checkpoints")
        return {name.removesuffix(".note") for name in names if _NOTE.fullmatch(name)}

    def read(self, name: str) -> bytes:
        """All of a small file."""
        with self._failures(name):
            data: bytes = self._fs.cat_file(self._at(name))
            return data

    # Putting in

    def put_terms(self, terms: Terms) -> None:
        """Write a channel's terms, if they are not there."""
        self._put_new(f"{channel_id(terms).hex()}/terms.record", encode_record(terms))

    def put_checkpoint(self, channel: bytes, checkpoint: ArchivedCheckpoint) -> None:
        """Write a checkpoint, if it is not there; its note last, because that is looked for."""
        begin = f"{channel.hex()}/checkpoints/{checkpoint.name}"
        if checkpoint.verdict:
            self._put_new(f"{begin}.verdict", checkpoint.verdict)
        if checkpoint.keys:
            self._put_new(f"{begin}.keys", checkpoint.keys)
        self._put_new(f"{begin}.lines", batch_bytes(checkpoint.lines))
        self._put_new(f"{begin}.edges", msgspec.msgpack.encode(checkpoint.edges))
        self._put_new(f"{begin}.note", checkpoint.note)

    def _put_new(self, name: str, data: bytes) -> None:
        """Write a small file durably unless it is there with this content."""
        with self._failures(name):
            there = self._fs.exists(self._at(name)) and self._fs.cat_file(self._at(name)) == data
        if not there:
            with self.writing(name) as file:
                file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write, which takes the place of `name` durably if nothing goes wrong."""
        try:
            if self._local:
                place = Path(self._at(name))
                self._make_folder(place.parent)
                with whole_file(place) as part, part.open("wb") as file:
                    yield file
                return
            with tempfile.NamedTemporaryFile() as beside:
                yield beside  # type: ignore[misc]  # a wrapper that has all that a file has
                beside.flush()
                with self._failures(name):
                    self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
                    self._fs.put_file(beside.name, self._at(name))
        except ArchiveError:
            raise
        except (StoreError, OSError) as error:
            said = error.message if isinstance(error, StoreError) else str(error)
            raise ArchiveError(
                f"{self.path(name)} is not written: {said}",
                "Is the disk full, or the folder another's?",
            ) from None

    def _make_folder(self, folder: Path) -> None:
        """Make a folder durably; the archive's own for its owner, who may open it to others."""
        if folder.is_dir():
            return
        if folder != Path(self._root):
            self._make_folder(folder.parent)
        try:
            if folder == Path(self._root):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            else:
                folder.mkdir(exist_ok=True)
            sync(folder.parent)
        except OSError as error:
            raise ArchiveError(f"{folder} cannot be made: {error.strerror}") from None

    # The file system

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def _names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if it is not there."""
        with self._failures(folder):
            try:
                self._fs.invalidate_cache(self._at(folder))
                found = self._fs.ls(self._at(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def _open(self, name: str) -> BinaryIO:
        with self._failures(name):
            file: BinaryIO = self._fs.open(self._at(name), "rb")
            return file

    def _decoded(self, name: str, kind: Any, checked: Callable[[Any], Any]) -> Any:
        try:
            return checked(msgspec.msgpack.decode(self.read(name), type=kind))
        except (msgspec.MsgspecError, UnicodeDecodeError, FormatError) as error:
            raise altered(self.path(name), f"it does not hold what it should: {error}") from None

    @contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        """Turn what a file system raises into an error that names the file."""
        path = self.path(name)
        try:
            yield
        except ArchiveError:
            raise
        except FileNotFoundError:
            raise ArchiveError(
                f"{path} is missing", "Put it back from a copy, or see [archive] in config.toml"
            ) from None
        except Exception as error:  # packages of stores raise what they like
            said = str(error).partition("\n")[0][:200] or type(error).__name__
            raise ArchiveError(f"{path} cannot be reached: {said}") from error


def _items(raw: Sequence[msgspec.Raw]) -> list[bytes]:
    return [bytes(item) for item in raw]


def _edges(edges: Edges) -> Edges:
    if any(len(one) != HASH_SIZE for side in edges for one in side):
        raise FormatError("an edge is no hash")
    return edges
