"""The upkeep of a log: writing what follows from its records, so that a start need not read them.

Balances and new index entries are flushed when enough came together, in one transaction with how
far they reach; runs of the index are merged beside that. All of it can be rebuilt from the records.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack

import trio

from tallystick.node.errands import WHEN_CALLED
from tallystick.node.errors import StoreError
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.idindex import RECENT_MAX, write_run
from tallystick.node.store.keyspace import (
    DerivedRow,
    RunRow,
    encode_row,
    line_key,
    log_key,
    pack_tally,
)

RETRY_SECONDS = 5
LOGS_A_FLUSH = 64
DIRTY_MAX = 16_384  # lines changed in memory before they are written

_log = logging.getLogger("tallystick.upkeep")


Part = tuple[
    Callable[[Txn], None], Callable[[], None]
]  # a job, and what follows once it is durable


async def flush(logs: Sequence[ChannelLog], change: Callable[[], Part] | None = None) -> None:
    """Write what follows from these logs' records, so that a start need not read them again.

    `change` may alter balances beforehand, while no other flush is under way; what it returns goes
    into the same transaction.
    """
    async with AsyncExitStack() as stack:
        for log in sorted(logs, key=lambda log: log.number):  # or two would wait for each other
            await stack.enter_async_context(log.flushing)
        changed = [change()] if change is not None else []
        parts = [*(_parts(log) for log in logs), *changed]

        def job(txn: Txn) -> None:
            for write, _ in parts:
                write(txn)

        def done() -> None:
            for _, after in parts:
                after()

        # The locks are held until it is durable, also if whoever asked goes away.
        with trio.CancelScope(shield=True):
            await logs[0].store.submit(job, done).wait()


async def flush_all(logs: Iterable[ChannelLog]) -> None:
    """The same for those that have anything to write, many in one transaction."""
    unwritten = [log for log in logs if log.covered < log.durable_size or log.book.dirty]
    for start in range(0, len(unwritten), LOGS_A_FLUSH):
        await flush(unwritten[start : start + LOGS_A_FLUSH])


def _parts(log: ChannelLog) -> Part:
    """A job that writes balances and new index entries, and what to do once it is durable."""
    below = log.durable_size
    prints, indexes = log.index.freeze(below)
    lines = {key: pack_tally(tally) for key, tally in log.book.dirty.items()}
    rows = log.index.rows()
    row = RunRow(log.index.run_name(log.covered, below), len(prints))
    if len(prints):
        rows.append(row)

    def job(txn: Txn) -> None:
        if len(prints):
            write_run(log.index_folder / row.file, prints, indexes)
        for key, value in lines.items():
            txn.put("lines", line_key(log.number, key), value)
        txn.put("derived", log_key(log.number), encode_row(DerivedRow(below, rows)))

    def done() -> None:
        log.covered = below
        if len(prints):
            log.index.adopt(row, below)
        for key, value in lines.items():
            if pack_tally(log.book.dirty[key]) == value:
                del log.book.dirty[key]

    return job, done


def due(log: ChannelLog) -> bool:
    """Whether enough came together for a flush."""
    much = log.index.recent >= RECENT_MAX or len(log.book.dirty) >= DIRTY_MAX
    return much or log.flush_soon


async def tend(log: ChannelLog) -> float:
    """Flush if enough has come together; when to look again."""
    if due(log):
        log.flush_soon = False
        try:
            await flush([log])
        except StoreError as error:
            log.flush_soon = True
            _log.error("a flush failed; trying again", extra={"reason": error.message})
            return RETRY_SECONDS
    return 0 if due(log) else WHEN_CALLED


async def tend_index(log: ChannelLog) -> float:
    """Merge the index's runs, beside the flushes, while there are any to merge."""
    while group := log.index.mergeable():
        index = log.index
        try:
            with index.merging():
                merged = await log.store.off_thread(index.merge, group)
            async with log.flushing:
                if index is not log.index:
                    continue  # the store failed meanwhile, and the index was opened again
                rows = index.rows_merged(group, merged)
                value = encode_row(DerivedRow(log.covered, rows))
                await log.store.commit(_put("derived", log_key(log.number), value))
                index.replace(group, merged)
        except (StoreError, OSError) as error:
            _log.error("the id index could not be merged; trying again", extra={"reason": error})
            return RETRY_SECONDS
    return WHEN_CALLED


def _put(table: str, key: bytes, value: bytes) -> Callable[[Txn], None]:
    """A job that sets one value."""
    return lambda txn: txn.put(table, key, value)
