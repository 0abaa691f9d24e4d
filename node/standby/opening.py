"""What a standby is sent when it connects: rows as they are at a moment, all or those that changed
since the commit up to which it has everything, and the files of the id index that they name.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import xxhash

from tallystick.node.standby.marks import is_mirrored
from tallystick.node.store.changed import Keys, changed_since
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import TABLES, DerivedRow
from tallystick.node.store.recorder import Row
from tallystick.protocol.mirror import FILES_MAX, PIECE_BYTES, Files, Part, Piece

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

    def digest(self) -> bytes:
        """The XXH3 of its content."""
        found = xxhash.xxh3_128()
        for piece in self.pieces():
            found.update(piece.data)
        return found.digest()


def parts(number: int, rows: Iterable[Row]) -> Generator[Part]:
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


class Opening:
    """What comes first, to a standby that has everything up to commit `since` (None: nothing that
    helps). `whole` says that it is all that there is. A file that is missing is an error, or with
    `without` it is not sent: whoever opens such a store makes that index anew.
    """

    def __init__(
        self, store: Store, index_folder: Path, since: int | None, *, without: bool = False
    ) -> None:
        self._store = store.moment()
        self.number = self._store.number
        self._files: dict[str, OpenFile] = {}
        self._keys: Keys | None = None
        try:
            with self._store.read() as txn:
                if since is not None:
                    self._keys = changed_since(txn, since, self.number)
                for key, value in txn.scan("derived", b"", b"\xff" * 5):
                    if self._keys is None or key in self._keys.get("derived", ()):
                        for row in decode_derived(value).runs:
                            with suppress(*((FileNotFoundError,) if without else ())):
                                self._files[row.file] = OpenFile(index_folder / row.file)
        except BaseException:
            self.close()
            raise

    @property
    def whole(self) -> bool:
        """Whether it is all that there is."""
        return self._keys is None

    def files(self) -> Iterator[Files]:
        """Its files by name, some at a time; they go before anything else."""
        names = sorted(self._files)
        for at in range(0, len(names), FILES_MAX):
            group = names[at : at + FILES_MAX]
            yield Files([(name, self._files[name].digest()) for name in group])

    def pieces(self, name: str) -> Iterator[Piece]:
        """One of its files."""
        return self._files[name].pieces()

    def parts(self) -> Generator[Part]:
        """Its rows, table by table; all of them in the order of keys."""
        return parts(0, self._rows())

    def _rows(self) -> Iterator[Row]:
        with self._store.read() as txn:
            if self._keys is not None:
                yield from _named(txn, self._keys)
                return
            for table in TABLES:
                for key, stored in txn.stored(table):
                    if is_mirrored(table, key):
                        yield table, key, stored

    def close(self) -> None:
        """Let the moment go."""
        self._store.close()


def _named(txn: Txn, keys: Keys) -> Iterator[Row]:
    for table, some in keys.items():
        for key in sorted(some):
            if is_mirrored(table, key):
                yield table, key, txn.raw(table, key) or None
