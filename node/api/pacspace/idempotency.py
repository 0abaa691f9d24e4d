"""What was answered to a request with an `Idempotency-Key`: kept on the disk, and given again.

A second request waits for the first. Only successes are kept: what was refused had no effect and
may be sent again, put right. Should the answer be lost (the disk, a crash), what was recorded is
found again by its id, which follows from the key where the client gives none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256

import msgspec
import trio
from starlette.responses import Response

from tallystick.node.api.keys import ApiKey
from tallystick.node.api.pacspace.wire import JSON, Refusal, bad
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import AnswerRow, encode_row

KEEP_US = 3 * 86_400 * 1_000_000
ANSWERS_MAX = 100_000
KEY_MAX = 255

_decode = msgspec.msgpack.Decoder(AnswerRow).decode


def key_hash(caller: ApiKey, key: str) -> bytes:
    """What a caller's idempotency key is known by; callers have keys of their own."""
    if not 1 <= len(key) <= KEY_MAX:
        raise bad(f"Idempotency-Key must have 1 to {KEY_MAX} characters")
    return sha256(f"{caller.id}\0{key}".encode()).digest()


class Answers:
    """The answers of one node."""

    def __init__(self, store: Store, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._clock_us = clock_us
        self._rows: dict[bytes, bytes] | None = None  # keys of rows by hash, the oldest first
        self._running: dict[bytes, trio.Event] = {}

    async def once(
        self, key: bytes, request: bytes, run: Callable[[], Awaitable[Response]]
    ) -> Response:
        """What `run` answers, or what it answered before to the same request."""
        while (running := self._running.get(key)) is not None:
            await running.wait()
        kept = self._find(key)
        if kept is not None:
            if kept.request != request:
                raise Refusal(
                    409,
                    "this Idempotency-Key was used for another request",
                    "IDEMPOTENCY_CONFLICT",
                )
            return Response(kept.body, kept.status, media_type=JSON)
        done = self._running[key] = trio.Event()
        try:
            response = await run()
            if 200 <= response.status_code < 300:
                row = AnswerRow(request, response.status_code, bytes(response.body))
                await self._keep(key, row)
            return response
        finally:
            del self._running[key]
            done.set()

    def _known(self) -> dict[bytes, bytes]:
        if self._rows is None:
            with self._store.read() as txn:
                self._rows = {row[8:]: row for row in txn.keys("answers")}
        return self._rows

    def _find(self, key: bytes) -> AnswerRow | None:
        row = self._known().get(key)
        if row is None or self._old(row):
            return None
        with self._store.read() as txn:
            value = txn.get("answers", row)
        return None if value is None else _decode(value)

    def _old(self, row: bytes) -> bool:
        return int.from_bytes(row[:8], "big") < self._clock_us() - KEEP_US

    async def _keep(self, key: bytes, answer: AnswerRow) -> None:
        rows = self._known()
        before = rows.pop(key, None)
        gone = [] if before is None else [before]
        while rows and (len(rows) >= ANSWERS_MAX or self._old(next(iter(rows.values())))):
            gone.append(rows.pop(next(iter(rows))))
        row = self._clock_us().to_bytes(8, "big") + key
        value = encode_row(answer)

        def job(txn: Txn) -> None:
            for old in gone:
                txn.delete("answers", old)
            txn.put("answers", row, value)

        rows[key] = row
        await self._store.commit(job)
