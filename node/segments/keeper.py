"""Who seals: the running node after each checkpoint and when asked, or a command on the store.

One channel at a time is sealed, on a thread of its own. What stands in the way is said in the log
once for each change of it, and tried again later; nothing else waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.errors import StoreError
from tallystick.node.logs import ChannelLog
from tallystick.node.segments import SEGMENT
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import encode_row, log_key
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.segments.sealing import Done, Work

RETRY_SECONDS = 300

_log = logging.getLogger("tallystick.archive")


def dropping(log: ChannelLog, keys: Sequence[bytes], size: int) -> Callable[[Txn], None]:
    """The job that deletes batches of a log, of `size` bytes together; the log's memory follows
    with `dropped`.
    """
    log.held_bytes -= size
    row = encode_row(log.row())

    def job(txn: Txn) -> None:
        for key in keys:
            txn.delete("batches", key)
        txn.put("logs", log_key(log.number), row)

    return job


class StoreDesk:
    """Changes a store that no node uses."""

    def __init__(self, store: Store, logs: Sequence[ChannelLog]) -> None:
        self._store = store
        self._logs = {log.number: log for log in logs}

    def commit(self, job: Callable[[Txn], None]) -> None:
        """Run a job."""
        self._store.commit_now(job)

    def drop(self, log: int, keys: Sequence[bytes], size: int, below: int) -> None:
        """Delete batches."""
        self._store.commit_now(dropping(self._logs[log], keys, size))
        self._logs[log].dropped = below


class _NodeDesk:
    """Changes the store of the running node, from a thread."""

    def __init__(self, store: Store, logs: Sequence[ChannelLog]) -> None:
        self._store = store
        self._logs = {log.number: log for log in logs}

    def commit(self, job: Callable[[Txn], None]) -> None:
        """Run a job."""
        trio.from_thread.run(self._store.commit, job)

    def drop(self, log: int, keys: Sequence[bytes], size: int, below: int) -> None:
        """Delete batches."""
        trio.from_thread.run(self._drop, self._logs[log], keys, size, below)

    async def _drop(self, log: ChannelLog, keys: Sequence[bytes], size: int, below: int) -> None:
        def done() -> None:
            log.dropped = below

        with trio.CancelScope(shield=True):
            await self._store.submit(dropping(log, keys, size), done).wait()


def work_for(channel: Channel, closer: Closer, keep: int | None) -> Work:
    """What is to be sealed of a channel now."""
    from tallystick.node.segments.sealing import work_of

    logs = [
        (log.number, log.role, [one.index for one in log.keyring.announced])
        for log in (channel.own, channel.peer)
    ]
    return work_of(channel.terms, logs, list(closer.rows), keep)


def seal_stopped(books: Books, channels: Sequence[bytes], *, drop: bool) -> list[dict[str, Any]]:
    """Seal channels of a home whose node does not run; what was done of each."""
    from tallystick.node.segments.archive import Archive
    from tallystick.node.segments.sealing import seal

    archive = Archive(needed(books))
    drop = drop or books.config.archive.drop
    documents = []
    for key in channels:
        channel, closer = books.channels[key]
        work = work_for(channel, closer, _keep(books, drop))
        desk = StoreDesk(books.store, [channel.own, channel.peer])
        done = seal(books.store, archive, work, desk)
        documents.append(document(books.store, channel, done))
    return documents


def needed(books: Books) -> str:
    """Where the archive is; `InputError` if the configuration does not say."""
    if not books.archive:
        raise InputError(
            "this home has no archive: config.toml does not say where",
            "Set location in [archive] of config.toml, and start the node again",
        )
    return books.archive


def _keep(books: Books, drop: bool) -> int | None:
    return books.config.archive.keep_periods if drop else None


def document(store: Store, channel: Channel, done: Done) -> dict[str, Any]:
    """What was done of a channel, in words and numbers, and how its logs stand."""
    from tallystick.node.store.source import kept_from, sealed_below

    logs = []
    with store.read() as txn:
        for log in (channel.own, channel.peer):
            log.sealed = sealed_below(txn, log.number)
            logs.append(
                {
                    "party": log.party.name,
                    "role": log.role,
                    "records": log.durable_size,
                    "sealed": log.sealed,
                    "in_store_from": kept_from(txn, log.number),
                    "dropped_now": done.dropped.get(log.number, 0),
                }
            )
    return {
        "channel": channel.id.hex(),
        "peer": channel.peer_keys.name,
        "logs": logs,
        "written": done.written,
        "checkpoints_written": done.checkpoints,
        "faults": [{"message": one.message, "advice": one.advice} for one in done.faults],
    }


class Keeper:
    """Seals the channels of a running node."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._waiting: set[bytes] = set()
        self._wake = trio.Event()
        self._one = trio.Lock()
        self._said: dict[bytes, str] = {}
        books.news.on_closed.append(self.closed)

    def closed(self, channel: bytes) -> None:
        """A period of a channel was closed: seal it soon."""
        if self._books.archive:
            self._waiting.add(channel)
            self._wake.set()

    async def run(self) -> None:
        """Seal what is closed, for as long as the node runs."""
        if not self._books.archive:
            return
        self._waiting.update(self._books.channels)
        while True:
            while self._waiting:
                await self._try(self._waiting.pop())
            self._wake = trio.Event()
            with trio.move_on_after(RETRY_SECONDS if self._said else float("inf")):
                await self._wake.wait()
            self._waiting.update(self._said)

    async def _try(self, channel: bytes) -> None:
        last = self._books.channels[channel][1].last
        if last is None or max(last.sizes) < SEGMENT:
            return
        try:
            found = await self.seal(channel, drop=self._books.config.archive.drop)
            said = "; ".join(fault["message"] for fault in found["faults"])
        except (StoreError, OSError) as error:
            said = str(error)
        short = channel.hex()[:8]
        if said and said != self._said.get(channel):
            _log.error("not all could be sealed", extra={"channel": short, "reason": said})
        if said:
            self._said[channel] = said
        else:
            self._said.pop(channel, None)

    async def seal(self, channel: bytes, *, drop: bool) -> dict[str, Any]:
        """Seal a channel now; what was done."""
        from tallystick.node.segments.archive import Archive
        from tallystick.node.segments.sealing import seal

        books = self._books
        location = needed(books)
        opened, closer = books.channels[channel]
        work = work_for(opened, closer, _keep(books, drop))
        desk = _NodeDesk(books.store, [opened.own, opened.peer])
        async with self._one:
            done = await trio.to_thread.run_sync(
                lambda: seal(books.store, Archive(location), work, desk)
            )
        found = document(books.store, opened, done)
        if done.written or done.dropped:
            said: dict[str, object] = {"channel": channel.hex()[:8], "segments": len(done.written)}
            _log.info("sealed", extra=said | {"dropped": sum(done.dropped.values())})
        return found
