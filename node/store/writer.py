"""One thread for what is done over and over, one at a time: a store's commits.

trio's own threads are for anything at all, which costs each time some 50 µs more than this: as
much as half of a small commit that the disk takes at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

import trio

_Work = tuple[Callable[[], None], trio.lowlevel.Task, list[Exception]]


class Writer:
    """Runs work on its thread, which begins with the first work and ends with `stop`."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[], None]) -> None:
        """Return, or raise, when the thread has done the work; it is waited for in any case."""
        if self._thread is None:
            token = trio.lowlevel.current_trio_token()
            self._thread = threading.Thread(
                target=self._serve, args=(token,), name="writer", daemon=True
            )
            self._thread.start()
        failed: list[Exception] = []
        self._waiting.put((work, trio.lowlevel.current_task(), failed))
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if failed:
            raise failed[0]

    def _serve(self, token: trio.lowlevel.TrioToken) -> None:
        while (found := self._waiting.get()) is not None:
            work, task, failed = found
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
                failed.append(error)
            with suppress(trio.RunFinishedError):  # by a failure of trio's own
                token.run_sync_soon(trio.lowlevel.reschedule, task)
            del found, work, task, failed  # or they stay until there is more

    def stop(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread = None
            self._waiting.put(None)
