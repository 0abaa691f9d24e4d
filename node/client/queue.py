"""What waits in a batcher: in order, at most so many, until the node has acknowledged it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tallystick.client.answers import Emitted, Refusal
from tallystick.client.deltas import Delta

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
    """The deltas of a batcher. It knows no threads and no tasks: its batcher sees to that."""

    def __init__(
        self, size_max: int, batch_max: int, on_refused: Callable[[Refusal], None] | None
    ) -> None:
        if size_max < 1 or batch_max < 1:
            raise ValueError("a queue and a batch hold at least one delta")
        self._waiting: deque[Delta] = deque()
        self._size_max, self._batch_max = size_max, batch_max
        self._on_refused = on_refused
        self._recorded = self._duplicate = self._refused = 0
        self.refusals: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self.put_total = 0
        self.done_total = 0
        self.trouble: Exception | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether there is no room for another delta."""
        return len(self._waiting) >= self._size_max

    @property
    def batch_ready(self) -> bool:
        """Whether as many wait as are sent at once."""
        return len(self._waiting) >= min(self._batch_max, self._size_max)

    def put(self, delta: Delta) -> None:
        """Add a delta; the batcher has seen that there is room."""
        self._waiting.append(delta)
        self.put_total += 1

    def batch(self) -> list[Delta]:
        """The next deltas to send. They stay until `done`, so that a failure loses none."""
        return [self._waiting[n] for n in range(min(self._batch_max, len(self._waiting)))]

    def done(self, batch: Sequence[Delta], emitted: Emitted) -> Sequence[Refusal]:
        """The node has answered for this batch; what it refused is given back."""
        for _ in batch:
            self._waiting.popleft()
        self._recorded += emitted.recorded
        self._duplicate += emitted.duplicate
        self._refused += len(emitted.refusals)
        self.refusals.extend(emitted.refusals)
        self.trouble = None
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
        self.done_total += len(batch)

    def left(self) -> list[Delta]:
        """What is not acknowledged."""
        return list(self._waiting)

    def stats(self) -> BatcherStats:
        """The counts so far."""
        return BatcherStats(
            len(self._waiting), self._recorded, self._duplicate, self._refused, self.trouble
        )
