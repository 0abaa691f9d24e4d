"""What a standby was sent on one connection and has not applied yet, in memory and in files.

The trio thread adds to it, and takes from it what is applied next; applying is done on a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import msgspec
import trio

from tallystick.node.standby.applying import TOGETHER_BYTES, Commits, Mirrored
from tallystick.node.standby.opening import OpenFile, size_of
from tallystick.node.store.recorder import Row
from tallystick.protocol.errors import FormatError
from tallystick.protocol.mirror import Begin, Files, Part, Piece

WAITING_BYTES_MAX = 32 * 1024 * 1024  # that arrived and are not on the disk

_Entry = tuple[int, list[Row]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class Spool:
    """Commits, or parts of what comes first, in a file, in the order in which they came."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("wb")
        self.empty = True

    def add(self, number: int, rows: list[Row]) -> None:
        """Keep one more."""
        body = _encode((number, rows))
        self._file.write(len(body).to_bytes(8, "big") + body)
        self.empty = False

    def entries(self) -> Iterator[_Entry]:
        """All that were kept."""
        self._file.flush()
        with self._path.open("rb") as file:
            while head := file.read(8):
                yield _decode(file.read(int.from_bytes(head, "big")))

    def rows(self) -> Iterator[Row]:
        """The rows of all of them."""
        for _, rows in self.entries():
            yield from rows

    def close(self) -> None:
        """Keep nothing any more."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Inflow:
    """The inflow of one connection to `mirrored`; `folder` is where its files may be."""

    def __init__(self, mirrored: Mirrored, folder: Path) -> None:
        self.catching_up = False
        self._mirrored = mirrored
        self._folder = folder
        self._begun: Begin | None = None
        self._first: Spool | None = None  # what comes first
        self._complete = False  # that is
        self._later: Spool | None = None  # commits that came meanwhile
        self._number = 0  # of spools
        self._rows: list[Row] = []  # of the commit that is under way
        self._commits: list[_Entry] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._arrived = trio.Event()
        self._applied = trio.Event()

    def begin(self, message: Begin) -> None:
        """The primary says what comes."""
        here = self._mirrored
        fits = message.whole or (message.line == here.line and message.number >= here.number)
        if self._begun is not None or not fits:
            raise FormatError("the primary goes on from where this standby is not")
        self._begun = message
        self.catching_up = True
        self._first = self._spool()
        self._later = self._spool()

    def _spool(self) -> Spool:
        self._number += 1
        return Spool(self._folder / f".mirror-{self._number}")

    def part(self, message: Part) -> None:
        """Rows arrived."""
        if self._begun is None or self._file is not None:
            raise FormatError("rows came out of their turn")
        if not message.number:
            if self._first is None or self._complete:
                raise FormatError("what comes first came twice")
            self._first.add(0, message.rows)
            self._complete = message.last
        else:
            self._rows += message.rows
            if message.last:
                self._commit(message.number)
        if self._complete or self._commits:
            self._arrived.set()

    def _commit(self, number: int) -> None:
        rows, self._rows = self._rows, []
        if self._later is not None:
            self._later.add(number, rows)
        else:
            self._commits.append((number, rows))
            self._bytes += sum(map(size_of, rows))

    def lacking(self, message: Files) -> list[str]:
        """Which of these files are not here as they are there."""
        if self._begun is None:
            raise FormatError("files came out of their turn")
        folder = self._mirrored.folder
        return [name for name, digest in message.files if _digest(folder / name) != digest]

    def piece(self, message: Piece) -> None:
        """A piece of a file arrived; with the last one it is durable under its name."""
        if self._begun is None:
            raise FormatError("a file came out of its turn")
        part = self._mirrored.folder / ".part"
        if self._file is None:
            self._file = part.open("wb")
        self._file.write(message.data)
        if message.last:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            part.rename(self._mirrored.folder / message.name)

    async def room(self) -> None:
        """Wait until more may arrive."""
        while self._bytes > WAITING_BYTES_MAX:
            await self._applied.wait()

    async def apply_next(self) -> None:
        """Wait until there is something to apply, and make it durable."""
        await self._arrived.wait()
        self._arrived = trio.Event()
        work = self._take()
        await trio.to_thread.run_sync(work)
        self._applied.set()
        self._applied = trio.Event()

    def _take(self) -> Callable[[], None]:
        """What is to be done next."""
        if self._complete and self._first is not None:
            first, self._first = self._first, None
            self._arrived.set()  # for what came meanwhile
            return partial(self._apply_first, first)
        if self._later is not None:
            later, self._later = self._later, None
            if later.empty:
                self.catching_up = False
            else:
                self._later = self._spool()
                self._arrived.set()
            return partial(self._apply_spool, later)
        commits, self._commits = self._commits, []
        self._bytes = 0
        return partial(self._apply_commits, commits)

    def _apply_first(self, first: Spool) -> None:
        begun = self._begun
        assert begun is not None
        try:
            if begun.whole:
                self._mirrored.apply_whole(begun.line, begun.number, first.rows())
            else:
                self._mirrored.apply_changes(begun.number, first.rows())
        finally:
            first.close()

    def _apply_spool(self, spool: Spool) -> None:
        try:
            for group in _groups(spool.entries()):
                self._mirrored.apply(group)
        finally:
            spool.close()

    def _apply_commits(self, commits: Commits) -> None:
        if commits:
            self._mirrored.apply(commits)

    def finish(self) -> None:
        """The connection is over: apply what arrived completely, give up the rest."""
        try:
            if self._complete and self._first is not None:
                self._apply_first(self._first)
                self._first = None
            if self._later is None:
                self._apply_commits(self._commits)
            elif self._first is None:
                self._apply_spool(self._later)
        finally:
            for spool in (self._first, self._later):
                if spool is not None:
                    spool.close()
            if self._file is not None:
                self._file.close()


def _digest(path: Path) -> bytes:
    try:
        return OpenFile(path).digest()
    except FileNotFoundError:
        return b""


def _groups(entries: Iterator[_Entry]) -> Iterator[list[_Entry]]:
    group: list[_Entry] = []
    size = 0
    for entry in entries:
        group.append(entry)
        size += sum(map(size_of, entry[1]))
        if size >= TOGETHER_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
