"""What waits in a batcher: in order, at most so many, until the node has acknowledged it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tallystick.client.answers import Emitted, Refusal
from tallystick.client.asking import Retry
from tallystick.client.deltas import Delta
from tallystick.client.errors import ClientError, Full, Undelivered

REFUSALS_KEPT = 100

_log = logging.getLogger("tallystick.client")


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """A batcher's counts so far; `queued` is what is not acknowledged yet."""

    queued: int
    recorded: int
    duplicate: int
    refused: int
    trouble: Exception | None  # why the last attempt failed; None while all goes well


class Queue:
    """The deltas of a batcher, and when to do what with them. It knows no threads and no tasks:
    its batcher waits, locks and wakes.
    """

    def __init__(
        self,
        retry: Retry,
        size_max: int,
        batch_max: int,
        linger_seconds: float,
        on_refused: Callable[[Refusal], None] | None,
    ) -> None:
        if size_max < 1 or batch_max < 1:
            raise ValueError("a queue and a batch hold at least one delta")
        self._waiting: deque[Delta] = deque()
        self._retry = retry
        self._size_max, self._batch_max = size_max, batch_max
        self._on_refused = on_refused
        self._recorded = self._duplicate = self._refused = 0
        self._refusals: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self._put_total = self._done_total = 0
        self._hurry = 0  # up to which delta somebody waits
        self._failures = 0  # of attempts, since one went well
        self._trouble: Exception | None = None
        self.linger_seconds = linger_seconds  # that a batch which is not full waits for company
        self.closed = False  # it takes no more

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def holds_up(self) -> bool:
        """Whether who has a delta must wait: there is no room for another."""
        return len(self._waiting) >= self._size_max and not self.closed

    @property
    def due(self) -> bool:
        """Whether to send now: as many wait as are sent at once, or somebody waits for them."""
        return self._batch_ready or self._hurry > self._done_total

    @property
    def _batch_ready(self) -> bool:
        return len(self._waiting) >= min(self._batch_max, self._size_max)

    def put(self, delta: Delta) -> bool:
        """Add a delta; whether that is news to who sends them."""
        if self.closed:
            raise ClientError("the batcher is closed")
        if self.holds_up:
            raise Full(f"{len(self)} deltas wait already") from self._trouble
        self._waiting.append(delta)
        self._put_total += 1
        return len(self) == 1 or self._batch_ready

    def hurry(self) -> int:
        """Somebody waits for all that was put; the total by which it is done."""
        self._hurry = self._put_total
        return self._hurry

    def is_done(self, wanted: int) -> bool:
        """Whether nobody need wait any longer for the first so many."""
        return self._done_total >= wanted

    def flushed(self, wanted: int) -> BatcherStats:
        """The counts when the first so many are done; `Undelivered` if they are not."""
        if not self.is_done(wanted):
            raise Undelivered(tuple(self._waiting), self._trouble)
        return self.stats()

    def batch(self) -> list[Delta]:
        """The next deltas to send. They stay until `done`, so that a failure loses none."""
        return [self._waiting[n] for n in range(min(self._batch_max, len(self._waiting)))]

    def failed(self, error: Exception) -> float:
        """An attempt failed; the seconds until the next."""
        self._trouble = error
        self._failures += 1
        return self._retry.pause(self._failures)

    def done(self, batch: Sequence[Delta], emitted: Emitted) -> Sequence[Refusal]:
        """The node has answered for this batch; what it refused is given back."""
        for _ in batch:
            self._waiting.popleft()
        self._recorded += emitted.recorded
        self._duplicate += emitted.duplicate
        self._refused += len(emitted.refusals)
        self._refusals.extend(emitted.refusals)
        self._trouble, self._failures = None, 0
        return emitted.refusals

    def tell(self, refusals: Sequence[Refusal]) -> None:
        """Tell whoever wants to know of refusals; outside of any lock, and before `settle`: who
        waits for deltas has heard of those that were refused.
        """
        listener = self._on_refused
        if listener is None:
            return
        for refusal in refusals:
            try:
                listener(refusal)
            except Exception:  # noqa: BLE001 - the caller's own; sending goes on
                _log.exception("on_refused failed for delta %s", refusal.delta.id)

    def settle(self, batch: Sequence[Delta]) -> None:
        """Nobody need wait for this batch any longer."""
        self._done_total += len(batch)

    def stats(self) -> BatcherStats:
        """The counts so far."""
        return BatcherStats(
            len(self._waiting), self._recorded, self._duplicate, self._refused, self._trouble
        )

    def refusals(self) -> Sequence[Refusal]:
        """The last deltas that were refused."""
        return tuple(self._refusals)
