"""Deltas to emit, and emitting them as an import does: batches in flight until all is co-signed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec
import nodes
import trio

from tallystick.node.home import open_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rpc import RpcClient

BATCH = 4096
IN_FLIGHT = 6
START_US = 1_700_000_000_000_000
STEP_US = 100
# All deltas are of one hour, however many: a balance has as many lines at any size.
ROUND = 25_000_000
WAIT_SECONDS = 600.0
_encode = msgspec.msgpack.Encoder().encode


def draft(n: int) -> Draft:
    """The delta of a number. Records have about 180 bytes, over fifty subjects."""
    return Draft(
        f"request-{n:012}-{'x' * 60}",
        "context-tokens",
        f"project-{n % 50:03}-{'y' * 48}",
        n % 5000,
        START_US + n % ROUND * STEP_US,
    )


def drafts(numbers: Iterable[int]) -> bytes:
    """The deltas of some numbers, as a request has them."""
    return _encode([draft(n) for n in numbers])


def batches(start: int, records: int) -> Iterator[bytes]:
    """The deltas from a number on, batch by batch."""
    for first in range(start, start + records, BATCH):
        yield drafts(range(first, min(first + BATCH, start + records)))


@dataclass(slots=True)
class Sent:
    """What emitting came to: the log's size after it, and seconds until what was asked for."""

    size: int = 0
    duplicates: int = 0
    durable_seconds: float = 0.0
    seconds: float = 0.0


async def _send(
    party: nodes.Party, bodies: Iterable[bytes], wait: bool, sent: Callable[[], None]
) -> Sent:
    done = Sent()
    async with RpcClient.connect(open_home(party.home)) as client:
        places = trio.Semaphore(IN_FLIGHT)

        async def send(body: bytes) -> None:
            answer = await client.call("emit", channel=None, drafts=body)
            done.size = max(done.size, answer["size"])
            done.duplicates += answer["duplicates"]
            places.release()
            sent()

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for body in bodies:
                await places.acquire()
                nursery.start_soon(send, body)
        done.durable_seconds = time.perf_counter() - began
        if wait:
            await client.call("wait", channel=None, size=done.size, seconds=WAIT_SECONDS)
        done.seconds = time.perf_counter() - began
    return done


def emit(
    party: nodes.Party,
    bodies: Iterable[bytes],
    *,
    wait: bool = True,
    sent: Callable[[], None] = lambda: None,
) -> Sent:
    """Emit batches, several in flight; return when all is co-signed, or durable without `wait`."""
    return trio.run(_send, party, bodies, wait, sent)


def iso(instant_us: int) -> str:
    """An instant as an export has it."""
    second, rest = divmod(instant_us, 1_000_000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second)) + f".{rest:06}"
