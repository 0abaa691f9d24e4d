"""Sending what was read of a file to the running node, a few batches in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import trio

from tallystick.node.importing.drafts import DraftBatch, Reject
from tallystick.node.rpc import RpcClient

IN_FLIGHT_MAX = 4

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Counts:
    """Deltas by what became of them; `rejected` counts rows and single deltas refused."""

    read: int = 0
    recorded: int = 0
    duplicate: int = 0
    rejected: int = 0
    size: int = 0  # of our log, with the last of them


class Sender:
    """Sends batches to a channel; `reject` is told what was refused, and `progress` how far it is,
    in bytes of the file.
    """

    def __init__(
        self,
        client: RpcClient,
        channel: str,
        reject: Callable[[Reject], None],
        progress: Callable[[int], None] = lambda bytes_read: None,
    ) -> None:
        self.counts = Counts()
        self._client = client
        self._channel = channel
        self._reject = reject
        self._progress = progress
        self._waiting: deque[trio.Event] = deque()

    async def send(self, batches: Iterator[DraftBatch]) -> None:
        """Return when all of it is durable or refused."""
        async with trio.open_nursery() as nursery:
            # Reading is a thread's work, so that what is in flight is answered meanwhile.
            while (batch := await trio.to_thread.run_sync(next, batches, None)) is not None:
                while len(self._waiting) >= IN_FLIGHT_MAX:
                    await self._waiting.popleft().wait()
                done = trio.Event()
                self._waiting.append(done)
                nursery.start_soon(self._send, batch, done)
                self._progress(batch.bytes_read)

    async def _send(self, batch: DraftBatch, done: trio.Event) -> None:
        counts = self.counts
        refused = list(batch.rejects)
        if batch.drafts:
            answer = await self._client.call(
                "emit", channel=self._channel, drafts=_encode(batch.drafts)
            )
            for place, kind, message in answer["problems"]:
                draft = batch.drafts[place]
                value = f"{draft.meter}/{draft.id}"
                refused.append(Reject(batch.draft_rows[place], kind, value, message))
            counts.recorded += len(batch.drafts) - answer["duplicates"] - len(answer["problems"])
            counts.duplicate += answer["duplicates"]
            counts.size = max(counts.size, answer["size"])
        counts.read += batch.rows_read
        counts.rejected += len(refused)
        for reject in sorted(refused, key=lambda reject: reject.row):
            self._reject(reject)
        done.set()
