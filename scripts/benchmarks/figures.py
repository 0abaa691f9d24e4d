"""What a benchmark found: figures by name, and the spread of those that were repeated."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from typing import Any

DIGITS = 4  # that mean something


def tidy(value: float) -> float | int:
    """A number with as many digits as mean something."""
    if isinstance(value, int) or value == 0:
        return value
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if abs(rounded) >= 10 ** (DIGITS - 1) else rounded


def percentile(ordered: list[float], share: float) -> float | None:
    """The value that so large a share does not exceed; None if there are too few to say."""
    if len(ordered) * (1 - share) < 1:
        return None
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Figures:
    """Figures as one JSON object. A name with dots, as in `emit.seconds`, is one inside another."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self.spread: dict[str, dict[str, float | int]] = {}

    def put(self, name: str, value: object) -> None:
        """Set a figure, or whatever else belongs to the result."""
        *parents, last = name.split(".")
        at = self.document
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = tidy(value) if isinstance(value, int | float) else value

    def repeated(self, name: str, samples: Iterable[float]) -> float:
        """Set a figure to the median of its repeats, and keep their spread."""
        values = list(samples)
        median = statistics.median(values)
        self.put(name, median)
        self.spread[name] = {
            "median": tidy(median),
            "min": tidy(min(values)),
            "max": tidy(max(values)),
            "repeats": len(values),
        }
        return median

    def add(self, name: str, value: float) -> None:
        """Add to a figure that counts up."""
        self.put(name, self.get(name, 0) + value)

    def get(self, name: str, default: Any = None) -> Any:
        """A figure by its name."""
        at: Any = self.document
        for part in name.split("."):
            if not isinstance(at, dict) or part not in at:
                return default
            at = at[part]
        return at


def flat(document: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested objects with its dotted name."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
