"""What became of deliveries, kept in the store: those that arrived, the dead, and those that are to
be sent again because somebody said so. The bodies are kept with them, byte for byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from tallystick.node.errors import EndpointError
from tallystick.node.feed.events import iso
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import DeliveryRow, cursor_key, cursor_of, encode_row

DELIVERED, DEAD, REPLAYING = b"o", b"d", b"r"
STATES = {"delivered": DELIVERED, "dead": DEAD, "replaying": REPLAYING}
_NAMES = {state: name for name, state in STATES.items()}

_decode = msgspec.msgpack.Decoder(DeliveryRow).decode
Job = Callable[[Txn], None]


def delivery_key(state: bytes, number: int) -> bytes:
    """Key of a delivery."""
    return state + cursor_key(number)


def read_deliveries(txn: Txn, state: bytes) -> Iterator[tuple[int, DeliveryRow]]:
    """The deliveries in a state, by number."""
    for key, value in txn.scan("deliveries", state, state + b"\xff" * 9):
        yield cursor_of(key), _decode(value)


def count_deliveries(txn: Txn, state: bytes) -> int:
    """How many deliveries are in a state."""
    return sum(1 for _ in txn.scan("deliveries", state, state + b"\xff" * 9))


def list_deliveries(store: Store, states: list[str], limit: int) -> list[dict[str, Any]]:
    """The newest deliveries in these states, as people and programs read them."""
    found: list[tuple[int, bytes, DeliveryRow]] = []
    with store.read() as txn:
        for state in (STATES[name] for name in states):
            upper = delivery_key(state, 2**64 - 1)
            for _ in range(limit):
                item = txn.floor("deliveries", upper)
                if item is None or not item[0].startswith(state) or cursor_of(item[0]) == 0:
                    break
                found.append((cursor_of(item[0]), state, _decode(item[1])))
                upper = delivery_key(state, cursor_of(item[0]) - 1)
    found.sort(key=lambda one: one[0], reverse=True)
    return [delivery_document(number, state, row) for number, state, row in found[:limit]]


def delivery_document(number: int, state: bytes, row: DeliveryRow) -> dict[str, Any]:
    """A delivery as people and programs read it."""
    return {
        "delivery": number,
        "state": _NAMES[state],
        "id": row.event_id,
        "event": row.event,
        "endpoint": row.endpoint,
        "channel": row.channel.hex() or None,
        "cursor": row.cursor,
        "attempts": row.attempts,
        "first_at": iso(row.since_us),
        "ended_at": iso(row.ended_us),
        "said": row.said,
    }


class Deliveries:
    """The deliveries of a running node; `keep` of those that arrived, and of the dead."""

    def __init__(self, store: Store, keep: int) -> None:
        self._store = store
        self._keep = keep
        self._kept: dict[bytes, deque[int]] = {}
        self._next = 1
        with store.read() as txn:
            for state in STATES.values():
                numbers = deque(number for number, _ in read_deliveries(txn, state))
                self._kept[state] = numbers
                self._next = max(self._next, max(numbers, default=0) + 1)

    def ended(self, state: bytes, row: DeliveryRow) -> Job:
        """What keeps a delivery that arrived or is dead, and drops the oldest beyond the limit."""
        number, self._next = self._next, self._next + 1
        kept = self._kept[state]
        kept.append(number)
        dropped = [kept.popleft() for _ in range(len(kept) - self._keep)]
        value = encode_row(row)

        def job(txn: Txn) -> None:
            txn.put("deliveries", delivery_key(state, number), value)
            for old in dropped:
                txn.delete("deliveries", delivery_key(state, old))

        return job

    def replaying(self) -> list[tuple[int, DeliveryRow]]:
        """Those that wait to be sent again."""
        if not self._kept[REPLAYING]:
            return []
        with self._store.read() as txn:
            return list(read_deliveries(txn, REPLAYING))

    async def replay(self, name: str | None, endpoints: set[str]) -> int:
        """Have deliveries sent again: those of an event (or of one delivery, by its number), or all
        that are dead; how many. Their endpoints must still be there.
        """
        with self._store.read() as txn:
            states = (DEAD,) if name is None else (DEAD, DELIVERED)
            found = [
                (state, number, row)
                for state in states
                for number, row in read_deliveries(txn, state)
                if name is None or name in (str(number), row.event_id)
            ]
        if name is not None and not found:
            raise EndpointError(f"no delivery is called {name!r}", "See: tally webhooks deliveries")
        chosen = [one for one in found if one[2].endpoint in endpoints]
        if found and not chosen:
            raise EndpointError(
                "the endpoint of that is not there any more", "See: tally webhooks list"
            )
        first, self._next = self._next, self._next + len(chosen)
        rows = [msgspec.structs.replace(row, attempts=0) for _, _, row in chosen]

        def job(txn: Txn) -> None:
            for (state, number, _), again, row in zip(
                chosen, range(first, first + len(rows)), rows, strict=True
            ):
                txn.delete("deliveries", delivery_key(state, number))
                txn.put("deliveries", delivery_key(REPLAYING, again), encode_row(row))

        await self._store.commit(job)
        gone = {number for _, number, _ in chosen}
        for state in states:
            self._kept[state] = deque(n for n in self._kept[state] if n not in gone)
        self._kept[REPLAYING].extend(range(first, first + len(rows)))
        return len(chosen)

    async def tried(self, number: int, row: DeliveryRow, state: bytes) -> None:
        """Keep how an attempt of a replay ended; it goes on waiting if `state` says so."""
        key = delivery_key(REPLAYING, number)
        if state == REPLAYING:
            value = encode_row(row)
            await self._store.commit(lambda txn: txn.put("deliveries", key, value))
            return
        keep = self.ended(state, row)

        def job(txn: Txn) -> None:
            txn.delete("deliveries", key)
            keep(txn)

        await self._store.commit(job)
        with suppress(ValueError):  # its endpoint was removed meanwhile
            self._kept[REPLAYING].remove(number)
