"""The store on LMDB: one environment a home, few verbs, one fsync for all that wait.

`Store.commit(job)` hands a function to the writer thread; jobs that wait together share one
transaction and one fsync, and none is answered before it. A job only puts and deletes, so it
cannot fail but with the disk; then the whole group and all that queued behind it fail, because
later jobs were prepared on top of earlier ones. The map is as large as the file system: the file
grows with what is in it, so there is nothing to resize.

LMDB does not notice a flipped bit, so every value ends in eight bytes of XXH3 over its table, key
and content, and none is handed out whose sum is wrong.
"""

from __future__ import annotations

import copy
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import trio
import xxhash

from tallystick.node.errors import HomeError, NodeStops, StoreError
from tallystick.node.segments.reading import Segments
from tallystick.node.store.ahead import read_ahead
from tallystick.node.store.changed import LINE, note
from tallystick.node.store.keyspace import FORMAT, FORMATS, TABLES
from tallystick.node.store.recorder import Recorder, Row
from tallystick.node.store.writer import Writer
from tallystick.node.telemetry.counts import Commits

JOBS_A_COMMIT_MAX = 256
ALONE_SECONDS = 0.01  # that a job which nobody waits for lets others come
READERS_COMMITS = 64  # so often is looked for readers that died
SUM_SIZE = 8
_TABLE_SEEDS = {table: xxhash.xxh3_64_intdigest(table.encode()) for table in TABLES}
_ADVICE = "Free some space or check the disk; nothing that was acknowledged is lost"


def seal(table: str, key: bytes, value: bytes) -> bytes:
    """A value as it is stored: with its sum behind it."""
    return value + _sum(table, key, value)


def unseal(table: str, key: bytes, stored: bytes) -> bytes:
    """The value that was stored; `StoreError` if the sum is wrong."""
    value = stored[:-SUM_SIZE]
    if _sum(table, key, value) != stored[-SUM_SIZE:]:
        raise StoreError(
            f"the store is damaged: table {table}, key {key.hex()} is not what was written",
            "Stop the node and run: tally doctor",
        )
    return value


def _sum(table: str, key: bytes, value: bytes) -> bytes:
    return xxhash.xxh3_64_digest(value, xxhash.xxh3_64_intdigest(key, _TABLE_SEEDS[table]))


class Txn:
    """The verbs of a transaction. Keys and values are bytes; tables are named in `keyspace`.

    A table that the store was written without reads as empty.
    """

    __slots__ = ("_env", "_tables", "_txn", "rows", "segments", "written")

    def __init__(
        self,
        env: Any,
        txn: Any,
        tables: dict[str, Any],
        segments: Segments,
        rows: list[Row] | None = None,
    ) -> None:
        self._env = env
        self._txn = txn
        self._tables = tables
        self.segments = segments  # where the records are that the store has no more
        self.written = 0  # bytes of keys and values
        self.rows = rows  # what is put and deleted, if somebody is told

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value, or None."""
        db = self._tables[table]
        stored = None if db is None else self._txn.get(key, db=db)
        return None if stored is None else unseal(table, key, stored)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value."""
        self.put_raw(table, key, seal(table, key, value))

    def put_raw(self, table: str, key: bytes, stored: bytes) -> None:
        """Set a value that was read with `stored` or `raw`, with the sum that it has."""
        self.written += len(key) + len(stored)
        self._txn.put(key, stored, db=self._tables[table])
        if self.rows is not None:
            self.rows.append((table, key, stored))

    def delete(self, table: str, key: bytes) -> None:
        """Remove the key if it is there."""
        if self._txn.delete(key, db=self._tables[table]) and self.rows is not None:
            self.rows.append((table, key, None))

    def scan(self, table: str, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Items with start <= key < stop, in order."""
        for key, stored in self.stored(table, start, stop):
            yield key, unseal(table, key, stored)

    @contextmanager
    def _cursor(self, table: str) -> Iterator[Any]:
        db = self._tables[table]
        if db is None:
            yield None
            return
        with self._txn.cursor(db=db) as cursor:
            yield cursor

    def stored(
        self, table: str, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Items with start <= key < stop as they are on the disk, their sums unchecked."""
        with self._cursor(table) as cursor:
            if cursor is None or not (cursor.set_range(start) if start else cursor.first()):
                return
            for key, stored in cursor:
                if stop is not None and key >= stop:
                    return
                yield key, stored

    def prefixes(self, table: str) -> Iterator[int]:
        """The logs or channels that have keys in a table, without looking at each key."""
        start = bytes(4)
        while (found := next(self.scan(table, start, b"\xff" * 5), None)) is not None:
            number = int.from_bytes(found[0][:4], "big")
            yield number
            start = (number + 1).to_bytes(4, "big")

    def keys(self, table: str) -> Iterator[bytes]:
        """Every key of a table, without looking at the values."""
        with self._cursor(table) as cursor:
            if cursor is not None:
                yield from cursor.iternext(keys=True, values=False)

    def raw(self, table: str, key: bytes) -> bytes:
        """A value as it is on the disk, with its sum unchecked; empty if there is none."""
        db = self._tables[table]
        return b"" if db is None else bytes(self._txn.get(key, b"", db=db))

    def entries(self, table: str) -> int:
        """How many items LMDB says that a table has."""
        db = self._tables[table]
        return 0 if db is None else int(self._txn.stat(db)["entries"])

    def table_bytes(self, table: str) -> int:
        """What a table takes in the file."""
        db = self._tables[table]
        if db is None:
            return 0
        found = self._txn.stat(db)
        pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        return int(found["psize"] * pages)

    def ahead(self, table: str, key: bytes) -> None:
        """Have a large value's pages read, which is about to be read from anywhere in the store."""
        with self._env.begin(buffers=True) as txn:
            value = txn.get(key, db=self._tables[table])
            if value is not None:
                read_ahead(value)

    def floor_key(self, table: str, key: bytes) -> bytes | None:
        """The greatest key <= `key`."""
        with self._cursor(table) as cursor:
            if cursor is None:
                return None
            found = cursor.set_range(key)
            if not found:
                found = cursor.last()
            elif cursor.key() != key:
                found = cursor.prev()
            return bytes(cursor.key()) if found else None

    def floor(self, table: str, key: bytes) -> tuple[bytes, bytes] | None:
        """The item with the greatest key <= `key`."""
        at = self.floor_key(table, key)
        value = None if at is None else self.get(table, at)
        return None if at is None or value is None else (at, value)


Job = Callable[[Txn], None]
T = TypeVar("T")


class Store:
    """An open environment. `run` must be running before `commit` is called.

    With `read_only` all that is read is of the moment when it was opened, so that what a query
    reads piece by piece fits together while a node writes.
    """

    noting = False  # which rows each commit changes
    recorder: Recorder | None = None  # told of every commit from when it is set

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._owned = True  # the environment is ours to close
        self.segments = Segments()
        try:
            if not read_only:
                path.mkdir(mode=0o700, exist_ok=True)
            disk = os.statvfs(path)
        except OSError as error:
            raise StoreError(
                f"the store in {path} cannot be opened: {error.strerror}",
                "A node that was never started has none: tally run makes it",
            ) from None
        # LMDB wants a multiple of the page size; a tiny disk still gets room for an empty store.
        size = math.ceil(max(disk.f_blocks * disk.f_frsize, 1 << 26) / 65536) * 65536
        try:
            self._env = lmdb.open(
                str(path),
                map_size=size,
                max_dbs=len(TABLES),
                max_readers=512,
                subdir=True,
                readonly=read_only,
                readahead=False,
                mode=0o600,
                lock=True,
            )
            self._tables = {name: self._open_table(name) for name in TABLES}
            self._env.reader_check()
            self._moment = self._env.begin() if read_only else None
        except lmdb.Error as error:
            raise StoreError(f"the store in {path} cannot be opened: {error}", _ADVICE) from None
        self._commits = 0
        self._writing = threading.Lock()
        self._writer = Writer()
        self.counts = Commits()
        self._begin_queue()
        self._running = False
        self.on_failure: list[Callable[[], None]] = []  # bring memory back to what is on disk
        if not read_only:
            with self.read() as txn:
                self.noting = txn.get("meta", LINE) is not None
        self._check_version(read_only)

    def _begin_queue(self) -> None:
        self._queue: list[tuple[Job, Ticket]] = []
        self._wake = trio.Event()
        self._due = math.inf  # when what is not urgent is committed at the latest
        self._rest = trio.CancelScope()  # the writer's, while nothing is urgent
        self._stopped: StoreError | None = None

    def _open_table(self, name: str) -> Any:
        """A table's handle; None if the store has none and is opened for reading only."""
        try:
            return self._env.open_db(name.encode(), create=not self.read_only)
        except lmdb.NotFoundError:
            return None

    def _check_version(self, read_only: bool) -> None:
        with self.read() as txn:
            found = txn.get("meta", b"format")
        if found is not None and int(found) not in FORMATS:
            raise HomeError(
                f"the store in {self.path} has format {found.decode()},"
                f" this version of tally reads formats {', '.join(map(str, FORMATS))}",
                "Install the version of tally that wrote it, or a newer one",
            )
        if found != FORMAT and not read_only:
            self.commit_now(lambda txn: txn.put("meta", b"format", FORMAT))

    async def prove(self) -> None:
        """Write what is there already, to see whether the disk takes it: `counts.failure` says so.

        It goes past the queue, so nothing that waits fails with it.
        """

        def job(txn: Txn) -> None:
            txn.put("meta", b"format", FORMAT)

        with suppress(StoreError):
            await self.off_thread(self.commit_now, job)

    def map_bytes(self) -> int:
        """How large the file may become: the map, which is as large as the file system."""
        return int(self._env.info()["map_size"])

    @property
    def running(self) -> bool:
        """Whether the task that writes is at work."""
        return self._running and self._stopped is None

    @property
    def jobs_waiting(self) -> int:
        """How many jobs wait for a commit."""
        return len(self._queue)

    def place(self) -> bytes:
        """What tells this store's file from a copy of it."""
        return str((self.path / "data.mdb").stat().st_ino).encode()

    def moment(self) -> Store:
        """This store as it is now, for reading only, on one thread at a time.

        Close it soon: it holds the pages that were in use when it was made.
        """
        try:
            begun = self._env.begin()
        except lmdb.Error as error:
            raise StoreError(f"the store cannot be read: {error}", _ADVICE) from None
        found = copy.copy(self)
        found.read_only, found._moment, found._owned = True, begun, False
        found.on_failure = []
        return found

    def close(self) -> None:
        """Close the environment, or let go of a moment of it."""
        if self._moment is not None:
            self._moment.abort()
        if self._owned:
            self._env.close()

    @contextmanager
    def read(self) -> Iterator[Txn]:
        """A consistent view; keep it short, it holds old pages."""
        if self._moment is not None:
            yield Txn(self._env, self._moment, self._tables, self.segments)
            return
        try:
            with self._env.begin() as txn:
                yield Txn(self._env, txn, self._tables, self.segments)
        except lmdb.Error as error:
            raise StoreError(f"the store cannot be read: {error}", _ADVICE) from None

    @property
    def number(self) -> int:
        """The number of the newest commit, or of the one that is looked at."""
        if self._moment is not None:
            return int(self._moment.id())
        return int(self._env.info()["last_txnid"])

    def commit_now(self, *jobs: Job) -> None:
        """Run the jobs in one transaction and fsync it; `StoreError` if the disk fails."""
        assert self._moment is None, "a moment of a store is for reading only"
        with self._writing:  # so that commits are told of in their order
            self._commit(jobs)

    def _commit(self, jobs: Sequence[Job]) -> None:
        rows: list[Row] | None = [] if self.noting or self.recorder is not None else None
        try:
            with self._env.begin(write=True) as txn:
                wrapped = Txn(self._env, txn, self._tables, self.segments, rows)
                for job in jobs:
                    job(wrapped)
                number = int(txn.id())
                if rows and self.noting:
                    wrapped.rows = None  # of a note there is none
                    note(wrapped, number, rows)
                self.counts.fsyncs()
            self.counts.wrote(len(jobs), wrapped.written)
            self._commits += 1
            if self.recorder is not None and rows:
                self.recorder.took(number, rows)
            if not self._commits % READERS_COMMITS:
                # A query that was killed holds its pages for ever otherwise, and the file grows.
                self._env.reader_check()
        except (lmdb.Error, OSError) as error:
            self.counts.failed_with(str(error))
            raise StoreError(f"the store cannot be written: {error}", _ADVICE) from None

    @property
    def stopped(self) -> bool:
        """Whether nothing is written any more: the node stops."""
        return self._stopped is not None

    async def commit(self, job: Job) -> None:
        """Return once the job's writes are durable; jobs take effect in the order of the calls.

        It is not given up halfway when the caller is: what follows from it in memory must follow.
        """
        with trio.CancelScope(shield=True):
            await self.submit(job).wait()

    def submit(self, job: Job, done: Callable[[], None] | None = None) -> Ticket:
        """Queue the job now; the ticket's `wait` returns once it is durable.

        `done` runs on the trio thread right after the commit, in the order of the calls.
        """
        ticket = self._enqueue(job, done)
        self._wake.set()
        return ticket

    def submit_along(self, job: Job, done: Callable[[], None] | None = None) -> Ticket:
        """The same for what nobody waits for: it goes along with the next commit, or soon alone."""
        ticket = self._enqueue(job, done)
        self._due = min(self._due, trio.current_time() + ALONE_SECONDS)
        self._rest.deadline = self._due
        return ticket

    def _enqueue(self, job: Job, done: Callable[[], None] | None) -> Ticket:
        if self._stopped is not None:
            return Ticket.failed(self._stopped)
        ticket = Ticket(done)
        self._queue.append((job, ticket))
        return ticket

    async def write(self, jobs: Sequence[Job]) -> None:
        """Commit the jobs off the trio thread."""
        await self._writer.run(lambda: self.commit_now(*jobs))

    async def off_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do what would hold up the trio thread, such as merges; commits go on meanwhile."""
        return await trio.to_thread.run_sync(work, *arguments)

    async def run(self) -> None:
        """The one task that writes: takes all that wait, commits off the trio thread, repeats."""
        group: list[tuple[Job, Ticket]] = []
        self._running = True
        try:
            while True:
                with trio.CancelScope(deadline=self._due) as self._rest:
                    await self._wake.wait()
                group = self._queue[:JOBS_A_COMMIT_MAX]
                del self._queue[: len(group)]
                if self._queue:
                    self._wake.set()
                else:
                    self._wake, self._due = trio.Event(), math.inf
                await self._commit_group(group)
                group = []
        finally:
            self._writer.stop()
            # Nobody waits for what will not happen.
            self._stopped = NodeStops("the node stops")
            for _, ticket in group + self._queue:
                ticket.settle(self._stopped)

    async def _commit_group(self, group: list[tuple[Job, Ticket]]) -> None:
        error: StoreError | None = None
        try:
            # A commit that began is waited for: its outcome must be known.
            with trio.CancelScope(shield=True):
                await self.write([job for job, _ in group])
        except StoreError as failure:
            error = failure
            # What queued behind was prepared on top of this group, so it fails with it.
            group += self._queue
            self._queue.clear()
            self._wake, self._due = trio.Event(), math.inf
            for reload in self.on_failure:
                reload()
        else:
            if self.recorder is not None and not await self.recorder.shared():
                # It is durable, and nobody may be told so: the node stops.
                error = self._stopped = NodeStops("the node stops")
                group += self._queue
                self._queue.clear()
        for _, ticket in group:
            ticket.settle(error)


class Ticket:
    """A queued job's outcome."""

    __slots__ = ("_always", "_done", "_error", "_then")

    def __init__(self, done: Callable[[], None] | None) -> None:
        self._then = done
        self._always: Callable[[], None] | None = None
        self._done = trio.Event()
        self._error: StoreError | None = None

    @classmethod
    def failed(cls, error: StoreError) -> Ticket:
        """The ticket of a job that could not even be prepared."""
        ticket = cls(None)
        ticket.settle(error)
        return ticket

    def then_always(self, release: Callable[[], None]) -> None:
        """Run `release` when the commit is over, well or not."""
        self._always = release

    def settle(self, error: StoreError | None) -> None:
        """The commit is over: well, or with an error."""
        self._error = error
        if error is None and self._then:
            self._then()
        if self._always:
            self._always()
        self._then = self._always = None  # whoever keeps the ticket keeps nothing else by it
        self._done.set()

    async def wait(self) -> None:
        """Return when durable; `StoreError` if the commit failed."""
        await self._done.wait()
        if self._error:
            raise type(self._error)(self._error.message, self._error.advice)
