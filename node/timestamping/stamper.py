"""What of our checkpoints has no timestamp yet, and the one task that asks for them.

The newest is asked for first, one at a time and not too many a minute. What fails is asked for
again, after twice the time up to an hour, and holds nothing up: a checkpoint counts without.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import trio

from tallystick.node.books import Books
from tallystick.node.errors import StoreError
from tallystick.node.feed.events import iso
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import CheckpointRow, timestamp_key
from tallystick.node.timestamping.kept import put_timestamp

if TYPE_CHECKING:  # most nodes ask no authority
    from tallystick.node.timestamping.asking import Asker, Outcome

RETRY_MAX_SECONDS = 3600.0
SKEW_SECONDS = 300  # from here on an authority's clock, or ours, is worth a warning

_log = logging.getLogger("tallystick.timestamps")

Waiting = tuple[bytes, bytes]  # a channel's id, a checkpoint's digest


class Stamper:
    """Has the checkpoints of a running node stamped, if its configuration names an authority."""

    def __init__(self, books: Books, home: Path) -> None:
        self._books = books
        self._config = books.config.timestamps
        self._dice = SystemRandom()
        self._asker: Asker | None = None
        if self._config.url:
            from tallystick.node.timestamping.asking import Asker, load_trusted

            self._asker = Asker(self._config, load_trusted(self._config, home))
            books.news.on_closed.append(self.closed)
        self._waiting: deque[Waiting] = deque()  # the next one last
        self._wake = trio.Event()
        self.kept = 0
        self.failed = 0
        self.problem = ""  # why the last attempt failed, if it did

    @property
    def waiting(self) -> int:
        """How many checkpoints have no timestamp yet."""
        return len(self._waiting)

    def document(self) -> dict[str, Any] | None:
        """How it stands; None without an authority."""
        if self._asker is None:
            return None
        return {"url": self._config.url, "waiting": self.waiting, "problem": self.problem}

    def closed(self, channel: bytes) -> None:
        """A period of a channel was closed: have it stamped soon."""
        last = self._books.channels[channel][1].last
        if last is not None and (channel, last.digest) not in self._waiting:
            self._waiting.append((channel, last.digest))
            self._wake.set()

    async def run(self) -> None:
        """Ask for timestamps, for as long as the node runs."""
        if self._asker is None:
            return
        self._waiting.extend(self._unstamped())
        attempts = 0
        try:
            while True:
                while self._waiting:
                    one = self._waiting.pop()
                    outcome = await self._try(self._asker, one)
                    if outcome is None:
                        attempts = 0
                        if self._waiting:
                            await trio.sleep(60 / self._config.per_minute)
                    else:
                        attempts += 1
                        self._waiting.appendleft(one)
                        await trio.sleep(self._pause(attempts, outcome))
                self._wake = trio.Event()
                await self._wake.wait()
        finally:
            await self._asker.aclose()

    def _unstamped(self) -> list[Waiting]:
        """The checkpoints without a timestamp, by the ends of their periods."""
        found: list[tuple[int, bytes, bytes]] = []
        with self._books.store.read() as txn:
            there = set(txn.keys("timestamps"))
        for key, (channel, closer) in self._books.channels.items():
            found += [
                (row.end_us, key, row.digest)
                for row in closer.rows
                if timestamp_key(channel.row.number, row.digest) not in there
            ]
        return [(key, digest) for _, key, digest in sorted(found)]

    def _pause(self, attempts: int, outcome: Outcome) -> float:
        doubled = self._config.first_retry_seconds * 2.0 ** min(attempts - 1, 40)
        own = min(doubled, RETRY_MAX_SECONDS) * self._dice.uniform(0.5, 1.0)
        return max(own, outcome.retry_after_seconds)

    async def _try(self, asker: Asker, waiting: Waiting) -> Outcome | None:
        """Ask once for one; how that failed, or None if it is kept."""
        key, digest = waiting
        channel, closer = self._books.channels[key]
        row = next((row for row in closer.rows if row.digest == digest), None)
        if row is None:
            return None  # a checkpoint never goes, but then there is nothing to stamp
        outcome = await asker.ask(row.note)
        if outcome.token is not None:
            try:
                keep = _keeping(channel.row.number, digest, outcome.response)
                await self._books.store.commit(keep)
            except StoreError as error:
                outcome = replace(outcome, token=None, said=error.message)
        if outcome.token is None:
            self.failed += 1
            if outcome.said != self.problem:
                said = {"channel": key.hex()[:8], "period": row.period, "reason": outcome.said}
                _log.warning("a checkpoint could not be stamped; asked for again later", extra=said)
            self.problem = outcome.said
            return outcome
        self.kept += 1
        self.problem = ""
        self._tell(key, row, outcome)
        return None

    def _tell(self, key: bytes, row: CheckpointRow, outcome: Outcome) -> None:
        token = outcome.token
        assert token is not None
        skew = token.time_us / 1e6 - self._books.clock_us() / 1e6
        said: dict[str, object] = {"channel": key.hex()[:8], "period": row.period}
        if abs(skew) > SKEW_SECONDS:
            said |= {"seconds": round(skew)}
            _log.warning("a checkpoint was stamped by a clock that is not ours", extra=said)
        else:
            _log.info("a checkpoint was stamped", extra=said)
        data = {
            "period": row.period,
            "digest": row.digest.hex(),
            "time": iso(token.time_us),
            "authority": token.certificate.name,
        }
        self._books.news.happened("checkpoint.timestamped", key, data)


def _keeping(channel: int, digest: bytes, response: bytes) -> Callable[[Txn], None]:
    def job(txn: Txn) -> None:
        put_timestamp(txn, channel, digest, response)

    return job
