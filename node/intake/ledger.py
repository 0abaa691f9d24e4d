"""What a watched folder's files were when they were imported, so that none is read twice.

It is a file of JSON lines in the home, added to as files are done. What a crash takes of its end,
or all of it, costs time and nothing else: a file that is read again records nothing again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from tallystick.node.errors import HomeError, StoreError

Stamp = tuple[int, int, int]  # a file's inode, size and time of change: it has not changed if equal


class Entry(Struct, frozen=True):
    """A file that was imported: its name (with escapes), what it was then, and by which map."""

    name: str
    stamp: Stamp
    content: str  # SHA-256
    map: str  # SHA-256


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Ledger:
    """The imported files of one folder, for one channel."""

    def __init__(self, file: IO[bytes], entries: Iterator[Entry]) -> None:
        self._file = file
        self._by_name: dict[str, Entry] = {}
        self._by_content: dict[tuple[str, str], str] = {}
        for entry in entries:
            self._keep(entry)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Ledger]:
        """The ledger in a file, made if need be, for this process alone."""
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise HomeError(
                    "another tally watch works on this folder", "End it first, or leave it to it"
                ) from None
            file.seek(0)
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.write(b"\n")  # a crash cut the last line off
            yield cls(file, _entries(content))

    def has(self, name: str, stamp: Stamp, mapping: str) -> bool:
        """Whether this file was imported by this map, and has not changed since."""
        entry = self._by_name.get(name)
        return entry is not None and (entry.stamp, entry.map) == (stamp, mapping)

    def same_as(self, content: str, mapping: str) -> str | None:
        """The name of a file with this content that was imported by this map."""
        return self._by_content.get((content, mapping))

    def add(self, entry: Entry) -> None:
        """Note that a file is done."""
        self._keep(entry)
        try:
            self._file.write(_encode(entry) + b"\n")
            self._file.flush()
        except OSError as error:
            raise StoreError(f"{self._file.name} cannot be written: {error.strerror}") from None

    def _keep(self, entry: Entry) -> None:
        self._by_name[entry.name] = entry
        self._by_content.setdefault((entry.content, entry.map), entry.name)


def _entries(content: bytes) -> Iterator[Entry]:
    for line in content.splitlines():
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # what a crash cut off
            yield _decode(line)
