"""Importing the files of a folder as they come, each once, for as long as there are any.

Files stay where they are; the ledger knows which are done. A file that changes later is read again
as a whole: its ids make what was recorded stay as it was, and only what is new is added. While the
node cannot be reached, or its disk is full, nothing is skipped: the file waits.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Lookup
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Literal

import trio
from msgspec import Struct
from watchfiles import awatch

from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import DraftBatch, Reject, read_drafts
from tallystick.node.importing.mapping import Mapping
from tallystick.node.importing.rejects import RejectsFile
from tallystick.node.importing.sending import Counts, Sender
from tallystick.node.intake.folder import Folder, Found, shown, stamp_of
from tallystick.node.intake.ledger import Entry, Ledger
from tallystick.node.rpc import RpcClient
from tallystick.protocol.errors import InputError, TallyError, lone_error
from tallystick.protocol.records import Meter

LOOK_SECONDS = 30.0  # between two looks if nothing seems to happen: not every file system tells
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # while the node cannot take a file
FAILED_SECONDS = 300.0  # until a file that could not be read is tried again, as it is

_log = logging.getLogger("tallystick.watch")

Connect = Callable[[], AbstractAsyncContextManager[RpcClient]]


class FileResult(Struct, frozen=True):
    """What became of a file. `same` is one whose content was imported before."""

    file: str
    state: Literal["imported", "same", "failed", "changed"]
    read: int = 0
    recorded: int = 0
    duplicate: int = 0
    rejected: int = 0
    rejects_file: str | None = None
    problem: str | None = None


class _Unreadable(InputError):
    """A file, and not the node, is what stands in the way."""


class Watcher:
    """Watches a folder. `report` is told each file's result."""

    def __init__(
        self,
        folder: Path,
        mapping: Mapping,
        mapping_digest: str,
        meters: Lookup[str, Meter],
        channel: str,
        connect: Connect,
        ledger: Ledger,
        settle_seconds: float,
        report: Callable[[FileResult], None] = lambda result: None,
    ) -> None:
        self._folder = Folder(folder, mapping, settle_seconds, self._pass)
        self._mapping, self._digest, self._meters = mapping, mapping_digest, meters
        self._channel = channel
        self._connect = connect
        self._ledger = ledger
        self._settle_seconds = settle_seconds
        self._report = report
        self._failed: dict[str, tuple[tuple[int, int, int], float]] = {}
        self._waits = ""  # for what, as it was said

    def _pass(self, name: str, why: str) -> None:
        _log.info("%s is left alone: %s", name, why)

    async def run(self) -> None:
        """Import what is there and what comes, until cancelled."""
        changed = trio.Event()

        async def listen() -> None:
            nonlocal changed
            while True:
                rest = LOOK_SECONDS
                try:
                    async for _ in awatch(
                        self._folder.path, recursive=False, debounce=400, rust_timeout=1000
                    ):
                        changed.set()
                except* OSError:
                    pass  # no such folder now, or no more watches
                except* RuntimeError:
                    rest = RETRY_SECONDS[0]  # it cannot say which file, as a name is no UTF-8
                    changed.set()
                await trio.sleep(rest)
                changed.set()  # what came meanwhile was not heard

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            while True:
                changed = trio.Event()
                unsettled = await self._look()
                wait = max(self._settle_seconds, 0.1) if unsettled else LOOK_SECONDS
                with trio.move_on_after(wait):
                    await changed.wait()

    async def once(self) -> None:
        """Import what is there and complete, or becomes so in a moment."""
        if await self._look(once=True):
            await trio.sleep(self._settle_seconds)
            for name in await self._look(once=True):
                _log.warning("%s still changes; it is left for the next time", name)

    async def _look(self, *, once: bool = False) -> list[str]:
        """Import the complete files; the names of those that are not complete yet."""
        try:
            found = await trio.to_thread.run_sync(self._folder.look)
        except InputError as error:
            if once:
                raise
            self._say_waiting(str(error))
            return []
        todo = [file for file in found if self._is_new(file)]
        await self._take_all([file for file in todo if file.settled], once)
        return [file.name for file in todo if not file.settled]

    def _is_new(self, file: Found) -> bool:
        if self._ledger.has(file.name, file.stamp, self._digest):
            return False
        stamp, at = self._failed.get(file.name, (None, 0.0))
        return stamp != file.stamp or time.monotonic() - at > FAILED_SECONDS

    async def _take_all(self, files: list[Found], once: bool) -> None:
        left = iter(files)
        file = next(left, None)
        tries = 0
        while file is not None:
            trouble: TallyError | None = None
            try:
                async with self._connect() as client:
                    while file is not None and trouble is None:
                        try:
                            await self._take(client, file)
                        except TallyError as error:
                            trouble = error
                        else:
                            self._waits, tries = "", 0
                            file = next(left, None)
            except TallyError as error:
                trouble = error
            if trouble is None:
                return
            if once:
                raise trouble
            self._say_waiting(str(trouble))
            await trio.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
            tries += 1

    def _say_waiting(self, why: str) -> None:
        if self._waits != why:
            self._waits = why
            _log.warning("waiting: %s", why)

    async def _take(self, client: RpcClient, file: Found) -> None:
        """Import a file; an error is the node's, and the file is for later."""
        try:
            result, content = await self._import(client, file)
        except _Unreadable as error:
            if not file.path.exists():
                return  # it was taken away meanwhile
            if self._failed.get(file.name, (None, 0))[0] != file.stamp:
                _log.error("%s is not read: %s", file.name, error)
            self._failed[file.name] = (file.stamp, time.monotonic())
            self._report(FileResult(file.name, "failed", problem=str(error)))
            return
        if result.state == "changed":
            _log.info("%s changed while it was read; it is read again", file.name)
        else:
            self._ledger.add(Entry(file.name, file.stamp, content, self._digest))
        self._report(result)

    async def _import(self, client: RpcClient, file: Found) -> tuple[FileResult, str]:
        content = await trio.to_thread.run_sync(_content_digest, file.path)
        same = self._ledger.same_as(content, self._digest)
        if same is not None and _is_still(file):
            if same != file.name:
                _log.info("%s has the content of %s, which is imported", file.name, same)
            return FileResult(file.name, "same"), content
        with _Rejects(file.path) as rejects:
            counts = await self._send(client, file, rejects)
        if not _is_still(file):
            return FileResult(file.name, "changed"), content
        written = shown(rejects.path.name) if rejects.count else None
        _log.info(
            "%s: %d rows read, %d deltas recorded, %d already there, %d rejected%s",
            file.name,
            counts.read,
            counts.recorded,
            counts.duplicate,
            counts.rejected,
            f": see {written}" if written else "",
        )
        state = (counts.read, counts.recorded, counts.duplicate, counts.rejected)
        return FileResult(file.name, "imported", *state, rejects_file=written), content

    async def _send(self, client: RpcClient, file: Found, rejects: _Rejects) -> Counts:
        sender = Sender(client, self._channel, rejects.write)
        try:
            await sender.send(_reading(read_drafts(file.path, self._mapping, self._meters)))
        except BaseExceptionGroup as group:
            raise lone_error(group) from None
        rejects.remove_old()
        return sender.counts


class _Rejects(RejectsFile):
    """The rejects file of a watched file; what keeps it from being written is the folder's."""

    def write(self, reject: Reject) -> None:
        """Add a line."""
        try:
            super().write(reject)
        except StoreError as error:
            raise _Unreadable(error.message, "What is refused could not be kept") from None

    def remove_old(self) -> None:
        """After a read without rejects, take away the file of an earlier one."""
        if not self.count:
            with suppress(OSError):
                self.path.unlink()


def _reading(batches: Iterator[DraftBatch]) -> Iterator[DraftBatch]:
    """The batches; errors are told from those of the node."""
    try:
        yield from batches
    except TallyError as error:
        raise _Unreadable(error.message, error.advice) from None
    except OSError as error:
        raise _Unreadable(str(error.strerror or error)) from None


def _content_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _Unreadable(f"it cannot be opened: {error.strerror}") from None


def _is_still(file: Found) -> bool:
    """Whether a file is what it was when it was found."""
    try:
        return stamp_of(file.path) == file.stamp
    except OSError:
        return False
