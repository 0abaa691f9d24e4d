"""What a node keeps of its newest commits until its standby was sent them: rows as they are stored,
and the files of the id index that they name, held open, for merges take files away.

Commits come from the threads that wrote them, and are taken by the trio thread. Nothing is kept
while nobody follows: `opening` brings whoever comes up to date.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tallystick.node.standby.marks import is_mirrored
from tallystick.node.standby.opening import OpenFile, decode_derived, parts, size_of
from tallystick.node.store.disk import SUM_SIZE, Store
from tallystick.node.store.recorder import Row
from tallystick.protocol.mirror import Message

KEPT_BYTES = 64 * 1024 * 1024  # of commits that were not sent yet


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


class Recording:
    """The commits of a store that are to be sent, as many as fit in `kept_bytes`. `index_folder` is
    where the files of the id index are.
    """

    def __init__(self, store: Store, index_folder: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self.newest = self._before = store.number  # what is kept follows `_before`
        self._following = False
        self._folder = index_folder
        self._kept_bytes = kept_bytes
        self._commits: deque[Commit] = deque()
        self._bytes = 0
        self._lock = Lock()
        self._named: dict[bytes, set[str]] = {}  # by the log's key: files that its row names
        with store.read() as txn:
            for key, value in txn.scan("derived", b"", b"\xff" * 5):
                self._named[key] = {row.file for row in decode_derived(value).runs}

    def begin(self) -> None:
        """Keep what is committed from now on."""
        with self._lock:
            self._following = True
            self._drop_all()

    def end(self) -> None:
        """Keep nothing any more."""
        with self._lock:
            self._following = False
            self._drop_all()

    def took(self, number: int, rows: list[Row]) -> None:
        """A commit is durable; see `Recorder`."""
        kept = [row for row in rows if is_mirrored(row[0], row[1])]
        names = self._new_names(kept)
        with self._lock:
            follows, self.newest = number == self.newest + 1, number
            if not self._following:
                self._before = number
                return
            commit = Commit(number, kept, size=sum(map(size_of, kept)))
            try:
                commit.files = [OpenFile(self._folder / name) for name in names]
            except OSError:
                follows = False
            self._commits.append(commit)
            self._bytes += commit.size
            if not follows:
                self._drop_all()  # whoever follows is brought up to date anew
            while self._bytes > self._kept_bytes and len(self._commits) > 1:
                self._drop()

    def _new_names(self, rows: list[Row]) -> list[str]:
        found: set[str] = set()
        for table, key, stored in rows:
            if table == "derived":
                runs = decode_derived(stored[:-SUM_SIZE]).runs if stored is not None else []
                before, now = self._named.get(key, set()), {row.file for row in runs}
                self._named[key] = now
                found |= now - before
        return sorted(found)

    def _drop(self) -> None:
        commit = self._commits.popleft()
        self._bytes -= commit.size
        self._before = commit.number

    def _drop_all(self) -> None:
        self._commits.clear()
        self._bytes, self._before = 0, self.newest

    def sent(self, number: int) -> None:
        """The commits up to `number` need not be kept any more."""
        with self._lock:
            while self._commits and self._commits[0].number <= number:
                self._drop()

    def after(self, number: int) -> list[Commit] | None:
        """The commits after `number`, oldest first; None if they are not all kept any more."""
        with self._lock:
            if number < self._before:
                return None
            return [commit for commit in self._commits if commit.number > number]
