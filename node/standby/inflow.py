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

from tallystick.node.standby.applying import Commits, Mirrored
from tallystick.node.standby.recording import size_of
from tallystick.node.store.recorder import Row
from tallystick.protocol.errors import FormatError
from tallystick.protocol.mirror import Begin, Part, Piece

WAITING_BYTES_MAX = 32 * 1024 * 1024  # that arrived and are not on the disk
TOGETHER_BYTES = 8 * 1024 * 1024  # of commits, in one transaction

_Entry = tuple[int, list[Row]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class Spool:
    """Commits, or parts of the whole store, in a file, in the order in which they came."""

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
        self.whole_under_way = False
        self._mirrored = mirrored
        self._folder = folder
        self._begun: Begin | None = None
        self._whole: Spool | None = None
        self._complete = False  # the whole is
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
        fits = message.whole or (message.line, message.number) == (here.line, here.number)
        if self._begun is not None or not fits:
            raise FormatError("the primary goes on from where this standby is not")
        self._begun = message
        if message.whole:
            self.whole_under_way = True
            self._whole = self._spool()
            self._later = self._spool()

    def _spool(self) -> Spool:
        self._number += 1
        return Spool(self._folder / f".mirror-{self._number}")

    def part(self, message: Part) -> None:
        """Rows arrived."""
        if self._begun is None or self._file is not None:
            raise FormatError("rows came out of their turn")
        if not message.number:
            if self._whole is None or self._complete:
                raise FormatError("the whole store came unasked")
            self._whole.add(0, message.rows)
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
        if self._complete and self._whole is not None:
            whole, self._whole = self._whole, None
            self._arrived.set()  # for what came meanwhile
            return partial(self._apply_whole, whole)
        if self._later is not None:
            later, self._later = self._later, None
            if later.empty:
                self.whole_under_way = False
            else:
                self._later = self._spool()
                self._arrived.set()
            return partial(self._apply_spool, later)
        commits, self._commits = self._commits, []
        self._bytes = 0
        return partial(self._apply_commits, commits)

    def _apply_whole(self, whole: Spool) -> None:
        assert self._begun is not None
        try:
            self._mirrored.apply_whole(self._begun.line, self._begun.number, whole.rows())
        finally:
            whole.close()

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
            if self._complete and self._whole is not None:
                self._apply_whole(self._whole)
                self._whole = None
            if self._later is None:
                self._apply_commits(self._commits)
            elif self._whole is None:
                self._apply_spool(self._later)
        finally:
            for spool in (self._whole, self._later):
                if spool is not None:
                    spool.close()
            if self._file is not None:
                self._file.close()


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
