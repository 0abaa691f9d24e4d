"""What a benchmark is, and what it is given: its size, a folder, homes, and where figures go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nodes

from benchmarks.figures import Figures
from benchmarks.homes import Homes
from benchmarks.limits import HASH
from benchmarks.progress import Progress


@dataclass(slots=True)
class Bench:
    """One run of one benchmark."""

    records: int
    folder: Path  # its own, empty, gone afterwards
    homes: Homes
    progress: Progress
    peers: bool = False  # beside other tools, if it can
    figures: Figures = field(default_factory=Figures)

    @contextmanager
    def cpu(self, **parties: nodes.Party) -> Iterator[dict[str, float]]:
        """Processor seconds of nodes, and of this driver, during a piece of work; they are in what
        is yielded afterwards, and are added to the result's `cpu_seconds`.
        """
        before = {name: party.cpu_seconds() for name, party in parties.items()}
        own = time.process_time()
        spent: dict[str, float] = {}
        yield spent
        for name, party in parties.items():
            spent[name] = party.cpu_seconds() - before[name]
        spent["driver"] = time.process_time() - own
        for name, seconds in spent.items():
            self.figures.add(f"cpu_seconds.{name}", round(seconds, 6))

    def in_hashes(self, name: str, cpu_us: float) -> None:
        """Put a cost a record beside the one of hashing it, which nothing can do without."""
        self.figures.put(f"ratios.in_hashes.{name}", cpu_us / 1e6 * self.limit(HASH))

    def limit(self, name: str) -> float:
        """A limit of this machine, measured just before; only those that the benchmark names."""
        value: float = self.figures.document["limits"][name]
        return value


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark by name, with the size that it has unless told otherwise."""

    name: str
    records: int
    measure: Callable[[Bench], None]
    limits: tuple[str, ...] = ()  # of `limits.py`: measured before it, and in its result
