"""A provider's node with keys, for tests of those who emit to it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import nodes

_numbers = itertools.count()

METER = "context-tokens"
CHANNEL = "beta.example"


class Emitter:
    """A node, keys of it, and what was recorded under a prefix."""

    def __init__(self, party: nodes.Party) -> None:
        self.party = party
        self.url: str = party.json("status")["http"]
        self.emit_key, self.read_key = (
            party.json("keys", "add", f"{scope}-{next(_numbers)}", "--scope", scope)["key"]
            for scope in ("emit", "read")
        )

    def prefix(self) -> str:
        """What no other test's ids begin with."""
        return f"p{next(_numbers)}-"

    def recorded(self, prefix: str) -> list[int]:
        """The numbers of the deltas with this prefix in our log, sorted; twice is twice."""
        records = self.party.json("log", "--from", "0", "--count", "10000000")["records"]
        ids = [row.get("id", "") for row in records]
        return sorted(int(id_[len(prefix) :]) for id_ in ids if id_.startswith(prefix))

    def restart(self) -> None:
        """Kill the node as a power cut would, and start it again."""
        self.party.kill()
        self.party.start()

    @contextmanager
    def down(self, seconds: float) -> Iterator[None]:
        """The node is killed now and started again after a while, whatever else happens."""
        self.party.kill()
        timer = threading.Timer(seconds, self.party.start)
        timer.start()
        try:
            yield
        finally:
            timer.join()


@contextmanager
def emitter(folder: Path) -> Iterator[tuple[Emitter, Emitter]]:
    """The provider's and the consumer's node."""
    with nodes.channel(folder) as (acme, beta):
        yield Emitter(acme), Emitter(beta)


def on_both(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on asyncio and on trio, each in a thread, as the test runner has a loop of its own."""
    for backend in ("asyncio", "trio"):
        trouble: list[BaseException] = []

        def run(backend: str = backend, trouble: list[BaseException] = trouble) -> None:
            try:
                anyio.run(work, backend=backend)
            except BaseException as error:  # noqa: BLE001 - it is raised again outside
                trouble.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if trouble:
            raise trouble[0]
