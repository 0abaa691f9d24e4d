"""Which files of a folder are there to be imported, and which of them are complete.

Plain files with the name of a format, in the folder itself. Left alone are hidden and empty files,
those that programs name while they write (`.part`, `.tmp`, …), links, and what imports write
themselves. A file is complete when it has not changed for some seconds: by its own times, or while
we looked.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tallystick.node.importing.mapping import Mapping
from tallystick.node.importing.readers import format_of
from tallystick.node.intake.ledger import Stamp
from tallystick.protocol.errors import InputError

UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", "~")
OURS = (".rejects.csv", ".differences.csv")


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be imported."""

    path: Path
    name: str  # for people and the ledger: escapes for what is no text or cannot be printed
    stamp: Stamp
    settled: bool


class Folder:
    """A folder that is looked at again and again."""

    def __init__(
        self,
        path: Path,
        mapping: Mapping,
        settle_seconds: float,
        passed: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`passed` is told, once for each, the name of a file that is left alone, and why."""
        self.path = path
        self._mapping = mapping
        self._settle_seconds = settle_seconds
        self._passed = passed
        self._clock = clock
        self._noted: dict[str, tuple[Stamp, float]] = {}
        self._passed_names: set[str] = set()

    def look(self) -> list[Found]:
        """The files that are there now, by name; `InputError` if the folder cannot be read."""
        try:
            with os.scandir(self.path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from None
        names = {shown(entry.name) for entry in entries}
        self._noted = {name: noted for name, noted in self._noted.items() if name in names}
        self._passed_names &= names
        return [file for entry in entries if (file := self._file(entry)) is not None]

    def _file(self, entry: os.DirEntry[str]) -> Found | None:
        if entry.name.startswith(".") or entry.name.lower().endswith((*UNFINISHED, *OURS)):
            return None
        path, name = self.path / entry.name, shown(entry.name)
        try:
            row = entry.stat(follow_symlinks=False)
        except OSError:
            return None  # it went away
        if stat.S_ISDIR(row.st_mode):
            return None
        if not stat.S_ISREG(row.st_mode):
            self._pass(name, "it is a link" if stat.S_ISLNK(row.st_mode) else "it is no file")
            return None
        try:
            format_of(path, self._mapping)
        except InputError:
            self._pass(name, "its name does not tell a format")
            return None
        if not row.st_size:
            self._pass(name, "it is empty")
            return None
        stamp = (row.st_ino, row.st_size, row.st_mtime_ns)
        changed = max(row.st_mtime, row.st_ctime)
        return Found(path, name, stamp, self._is_settled(name, stamp, changed))

    def _is_settled(self, name: str, stamp: Stamp, changed: float) -> bool:
        if self._clock() - changed >= self._settle_seconds:
            return True
        # A file server's clock may be ahead of ours: then what counts is what we saw.
        now = time.monotonic()
        noted = self._noted.get(name)
        if noted is None or noted[0] != stamp:
            self._noted[name] = (stamp, now)
            return self._settle_seconds == 0
        return now - noted[1] >= self._settle_seconds

    def _pass(self, name: str, why: str) -> None:
        if name not in self._passed_names:
            self._passed_names.add(name)
            self._passed(name, why)


def stamp_of(path: Path) -> Stamp:
    """What a file is now."""
    row = path.lstat()
    return row.st_ino, row.st_size, row.st_mtime_ns


def shown(name: str) -> str:
    """A file's name on one line, whatever bytes it has; different names stay different."""
    return name if name.isprintable() and "\\" not in name else ascii(name)[1:-1]
