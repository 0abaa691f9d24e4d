"""What a node keeps of its newest commits, so that a standby can be sent them: rows as they are
stored, and the files of the id index that they name, held open, for merges take files away.

Commits come from the threads that wrote them, and are taken by the trio thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import msgspec

from tallystick.node.standby.marks import OF_THE_HOME
from tallystick.node.store.disk import SUM_SIZE, Store
from tallystick.node.store.keyspace import TABLES, DerivedRow
from tallystick.node.store.recorder import Row
from tallystick.protocol.mirror import PIECE_BYTES, Message, Part, Piece

KEPT_BYTES = 64 * 1024 * 1024  # of commits, for a standby that is behind
_ROW_BYTES = 64  # of a row beside its key and value, roughly

decode_derived = msgspec.msgpack.Decoder(DerivedRow).decode


class OpenFile:
    """A file that stays readable when its name is gone, as long as somebody holds this."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._handle = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def pieces(self) -> Iterator[Piece]:
        """The file in pieces."""
        size, at = os.fstat(self._handle).st_size, 0
        while True:
            data = os.pread(self._handle, PIECE_BYTES, at)
            at += len(data)
            yield Piece(self.name, data, at >= size or not data)
            if at >= size or not data:
                return


@dataclass(slots=True)
class Commit:
    """One commit: its rows, and the files that they name for the first time."""

    number: int
    rows: list[Row]
    files: list[OpenFile] = field(default_factory=list)
    size: int = 0

    def messages(self) -> Iterator[Message]:
        """What a standby is sent of it."""
        for file in self.files:
            yield from file.pieces()
        yield from parts(self.number, self.rows)


def parts(number: int, rows: Iterable[Row]) -> Iterator[Part]:
    """Rows as parts of a bounded size; the last one says so."""
    held: list[Row] = []
    size = 0
    for row in rows:
        if held and size >= PIECE_BYTES:
            yield Part(number, held, last=False)
            held, size = [], 0
        held.append(row)
        size += size_of(row)
    yield Part(number, held, last=True)


def size_of(row: Row) -> int:
    """What a row takes on the way and in memory, roughly."""
    return _ROW_BYTES + len(row[1]) + len(row[2] or b"")


class Recording:
    """The newest commits of a store, as many as fit in `kept_bytes`. `index_folder` is where the
    files of the id index are.
    """

    def __init__(self, store: Store, index_folder: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self.newest = self._before = store.number  # what is kept follows `_before`
        self._folder = index_folder
        self._kept_bytes = kept_bytes
        self._commits: deque[Commit] = deque()
        self._bytes = 0
        self._lock = Lock()
        self._named: dict[bytes, set[str]] = {}  # by the log's key: files that its row names
        with store.read() as txn:
            for key, value in txn.scan("derived", b"", b"\xff" * 5):
                self._named[key] = {row.file for row in decode_derived(value).runs}

    def took(self, number: int, rows: list[Row]) -> None:
        """A commit is durable; see `Recorder`."""
        kept = [row for row in rows if row[0] != "meta" or row[1] not in OF_THE_HOME]
        commit = Commit(number, kept, size=sum(map(size_of, kept)))
        whole = True
        try:
            for table, key, stored in kept:
                if table == "derived":
                    commit.files += self._new_files(key, stored)
        except OSError:
            whole = False  # whoever follows is sent the whole store
        with self._lock:
            if number != self.newest + 1 or not whole:
                self._forget()
                self._before = number
            else:
                self._commits.append(commit)
                self._bytes += commit.size
            self.newest = number
            while self._bytes > self._kept_bytes and len(self._commits) > 1:
                self._drop(self._commits.popleft())

    def _new_files(self, key: bytes, stored: bytes | None) -> list[OpenFile]:
        runs = decode_derived(stored[:-SUM_SIZE]).runs if stored is not None else []
        before, now = self._named.get(key, set()), {row.file for row in runs}
        self._named[key] = now
        return [OpenFile(self._folder / name) for name in sorted(now - before)]

    def _drop(self, commit: Commit) -> None:
        self._bytes -= commit.size
        self._before = commit.number

    def _forget(self) -> None:
        while self._commits:
            self._drop(self._commits.popleft())

    def follows(self, number: int) -> bool:
        """Whether everything after commit `number` is kept."""
        with self._lock:
            return self._before <= number <= self.newest

    def after(self, number: int) -> list[Commit] | None:
        """The commits after `number`, oldest first; None if they are not all kept any more."""
        with self._lock:
            if not self._before <= number <= self.newest:
                return None
            skipped = number - self._before
            return [commit for place, commit in enumerate(self._commits) if place >= skipped]


class Whole:
    """The whole of a store at a moment, with the files that it names. If one is missing it is an
    error, or with `without` it is not sent: whoever opens such a store makes that index anew.
    """

    def __init__(self, store: Store, index_folder: Path, *, without: bool = False) -> None:
        self._store = store.moment()
        self.number = self._store.number
        self._files: list[OpenFile] = []
        try:
            with self._store.read() as txn:
                for _, value in txn.scan("derived", b"", b"\xff" * 5):
                    for row in decode_derived(value).runs:
                        with suppress(*((FileNotFoundError,) if without else ())):
                            self._files.append(OpenFile(index_folder / row.file))
        except BaseException:
            self.close()
            raise

    def pieces(self) -> Iterator[Piece]:
        """Its files, which go before anything else."""
        for file in self._files:
            yield from file.pieces()

    def parts(self) -> Iterator[Part]:
        """Its rows, table by table, in the order of keys."""
        return parts(0, self._rows())

    def _rows(self) -> Iterator[Row]:
        with self._store.read() as txn:
            for table in TABLES:
                for key, stored in txn.stored(table):
                    if table != "meta" or key not in OF_THE_HOME:
                        yield table, key, stored

    def close(self) -> None:
        """Let the moment go."""
        self._store.close()
