"""Where workers read the records of a piece: the store of a home, or an archive of segments.

A reader is sent to workers, so it holds only what names the place. What it gives is not believed:
it is hashed, and what comes out must be what was signed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tallystick.node.errors import ClusterError
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.source import batches
from tallystick.protocol.audit import Chunk, Piece
from tallystick.protocol.errors import FormatError, TallyError
from tallystick.protocol.records import Role, batch_bytes, batch_count, decode_batch

if TYPE_CHECKING:
    from tallystick.node.segments.files import Segment

CHUNK_RECORDS = 8192  # at least so many are looked at at once, if there are
CHUNK_BYTES = 1024 * 1024
_WAY = "Workers need the home's folder at the same path; an archive may be anywhere"


class Reader(Protocol):
    """Reads pieces of one log."""

    def check(self) -> None:
        """`ClusterError` if this process has no way to the records."""

    def segment(self, piece: Piece) -> Segment | None:
        """The segment that a piece is, open; None if it is none."""

    def chunks(self, piece: Piece) -> Iterator[Chunk]:
        """The records of a piece, in order."""


class _OpenStores:
    """Stores open in this process: LMDB allows an environment only once, and what is open holds
    pages, so each is closed when nobody reads it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Store, int]] = {}

    @contextmanager
    def reading(self, path: str) -> Iterator[Txn]:
        with self._lock:
            store, users = self._open.get(path) or (Store(Path(path), read_only=True), 0)
            self._open[path] = store, users + 1
            moment = store.moment()
        try:
            with moment.read() as txn:
                yield txn
        finally:
            moment.close()
            with self._lock:
                users = self._open[path][1] - 1
                if users:
                    self._open[path] = store, users
                else:
                    del self._open[path]
                    store.close()


_stores = _OpenStores()


@dataclass(frozen=True, slots=True)
class ArchiveReader:
    """A log in an archive, a piece of it a segment."""

    location: str
    channel: bytes
    role: Role

    def check(self) -> None:
        """See `Reader`; a file that is missing is a finding, and no file can be told from none."""

    def segment(self, piece: Piece) -> Segment:
        """See `Reader`."""
        from tallystick.node.segments.archive import Archive  # takes long, and homes have none

        return Archive(self.location).segment(self.channel, self.role, piece.first)

    def chunks(self, piece: Piece) -> Iterator[Chunk]:
        """See `Reader`."""
        with self.segment(piece) as segment:
            yield from segment_chunks(segment)


def segment_chunks(segment: Segment) -> Iterator[Chunk]:
    """The records of a segment, a row group at a time."""
    for parts in segment.records():
        yield Chunk([batch_bytes(parts)], [*map(len, parts)])


@dataclass(frozen=True, slots=True)
class StoreReader:
    """A log in the store of a home, which the worker's machine must have at the same path. What is
    before `kept` was dropped from it and is in segments.
    """

    path: str
    log: int
    kept: int = 0
    dropped: ArchiveReader | None = None

    def check(self) -> None:
        """See `Reader`."""
        try:
            with _stores.reading(self.path):
                pass
        except TallyError as error:
            raise ClusterError(f"a worker cannot read the home: {error.message}", _WAY) from None

    def segment(self, piece: Piece) -> Segment | None:
        """See `Reader`."""
        return self.dropped.segment(piece) if self.dropped and piece.first < self.kept else None

    def chunks(self, piece: Piece) -> Iterator[Chunk]:
        """See `Reader`; batches are small where usage came slowly, so several make a chunk."""
        if self.dropped and piece.first < self.kept:
            yield from self.dropped.chunks(piece)
            return
        with _stores.reading(self.path) as txn:
            waiting: list[bytes] = []
            records = size = 0
            for batch in self._batches(txn, piece):
                waiting.append(batch)
                records += batch_count(batch)
                size += len(batch)
                if records >= CHUNK_RECORDS or size >= CHUNK_BYTES:
                    yield Chunk(waiting)
                    waiting, records, size = [], 0, 0
            if waiting:
                yield Chunk(waiting)

    def _batches(self, txn: Txn, piece: Piece) -> Iterator[bytes]:
        expected = None
        for first, batch in batches(txn, self.log, piece.first):
            if first >= piece.end or expected not in (None, first):
                return  # what is missing is missed by whoever counts
            expected = first + batch_count(batch)
            if first >= piece.first:
                yield batch
                continue
            try:
                yield batch_bytes(decode_batch(batch)[1][piece.first - first :])
            except FormatError:
                yield batch  # so that this is told
