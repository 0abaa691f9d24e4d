"""The pictures of docs/gossip.md, from the figures that were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gossiping.chart import Axis, Line, Point, chart
from gossiping.measure import quantile

SIZES = (100, 300, 1_000, 3_000, 10_000)
SHARES = (0, 1, 10, 30)

_SECONDS = Axis("seconds", 0.1, 300, (0.1, 1, 10, 60, 300), lambda tick: f"{tick:g}", log=True)
_PERCENT = Axis("share that is known", 0, 1, (0, 0.25, 0.5, 0.75, 1), lambda tick: f"{tick:.0%}")


def draw_all(figures: dict[str, Any], out: Path) -> None:
    """Every picture whose worlds were measured."""
    sizes = [figures[f"size-{size}"] for size in SIZES if f"size-{size}" in figures]
    if len(sizes) < 2:
        return
    drawings = {
        "known": _known(sizes),
        "growth": _growth(sizes),
        "traffic": _traffic(sizes),
        "memory": _memory(sizes, figures["bytes_an_item"]),
        "dishonest": _dishonest(figures),
        "partition": _partition(figures),
    }
    for name, drawing in drawings.items():
        if drawing:
            (out / f"{name}.svg").write_text(drawing)


def _over_time(times: list[float], total: int, low: float, high: float) -> list[Point]:
    """The share that is known by each time, from one end of the axis to the other."""
    points = [(low, 0.0)]
    points += [(max(time, low), at / total) for at, time in enumerate(times, 1) if time <= high]
    return [*points, (high, points[-1][1])]


def _known(sizes: list[dict[str, Any]]) -> str:
    lines = [
        Line(
            f"{found['nodes']:,} nodes",
            _over_time(found["neighbour_seconds"], found["forks"], _SECONDS.low, _SECONDS.high),
            steps=True,
            dots=False,
        )
        for found in sizes
        if found["nodes"] in (100, 1_000, 10_000)
    ]
    return chart(
        "Until an honest neighbour knows of two histories",
        "Shares of equivocations that an honest neighbour of the equivocator knows of, over time",
        _SECONDS,
        _PERCENT,
        lines,
    )


def _nodes(sizes: list[dict[str, Any]]) -> Axis:
    ticks = [found["nodes"] for found in sizes]
    return Axis("nodes", ticks[0], ticks[-1], ticks, lambda tick: f"{tick:,.0f}", log=True)


def _growth(sizes: list[dict[str, Any]]) -> str:
    def line(name: str, key: str, count: str, share: float) -> Line:
        points = [
            (found["nodes"], value)
            for found in sizes
            if (value := quantile(found[key], found[count], share)) is not None
        ]
        return Line(name, points)

    return chart(
        "How the time grows with the network",
        "Seconds until an honest neighbour and the counterparty know, by number of nodes",
        _nodes(sizes),
        _SECONDS,
        [
            line("a neighbour, median", "neighbour_seconds", "forks", 0.5),
            line("a neighbour, p99", "neighbour_seconds", "forks", 0.99),
            line("counterparty, median", "peer_seconds", "peers", 0.5),
            line("counterparty, p99", "peer_seconds", "peers", 0.99),
        ],
    )


def _spread_lines(sizes: list[dict[str, Any]], key: str, factor: float) -> list[Line]:
    names = (("median", "median"), ("mean", "mean"), ("p99", "99th percentile"), ("max", "largest"))
    return [
        Line(name, [(found["nodes"], found[key][which] * factor) for found in sizes])
        for which, name in names
    ]


def _traffic(sizes: list[dict[str, Any]]) -> str:
    return chart(
        "What a node receives",
        "Megabytes an hour that a node receives, by number of nodes",
        _nodes(sizes),
        Axis("MB an hour", 0.1, 1000, (0.1, 1, 10, 100, 1000), lambda tick: f"{tick:g}", log=True),
        _spread_lines(sizes, "bytes_an_hour", 1e-6),
    )


def _memory(sizes: list[dict[str, Any]], each: float) -> str:
    return chart(
        "What a node keeps in memory",
        "Megabytes of items that a node holds, by number of nodes",
        _nodes(sizes),
        Axis("MB", 0.1, 100, (0.1, 1, 10, 100), lambda tick: f"{tick:g}", log=True),
        _spread_lines(sizes, "items_held", each * 1e-6),
    )


def _dishonest(figures: dict[str, Any]) -> str:
    lines = []
    for kind in ("silent", "lying"):
        worlds = [figures.get(f"{kind}-{share}" if share else "size-1000") for share in SHARES]
        if None in worlds:
            return ""
        for seconds, words in ((10, "10 s"), (300, "5 min")):
            points = [
                (at, sum(time <= seconds for time in found["neighbour_seconds"]) / found["forks"])
                for at, found in enumerate(worlds)
                if found is not None
            ]
            lines.append(Line(f"{kind}, within {words}", points))
    return chart(
        "What silent and lying nodes do to it (1,000 nodes)",
        "Shares of equivocations that are known, by the share of nodes that are silent or lie",
        Axis("of all nodes", 0, 3, (0, 1, 2, 3), lambda tick: f"{SHARES[int(tick)]} %"),
        Axis(_PERCENT.name, 0.5, 1, (0.5, 0.6, 0.7, 0.8, 0.9, 1), lambda tick: f"{tick:.0%}"),
        lines,
    )


def _partition(figures: dict[str, Any]) -> str:
    if "partition" not in figures or "size-1000" not in figures:
        return ""
    apart, whole = figures["partition"], figures["size-1000"]
    minutes = apart["partition_minutes"]
    lines = [
        Line(name, _over_time(found["neighbour_seconds"], found["forks"], 0, 420), True, False)
        for name, found in (("whole", whole), ("a third cut off", apart))
    ]
    return chart(
        f"Two histories on two sides of a cut of {minutes:g} minutes (1,000 nodes)",
        "Shares of equivocations that an honest neighbour knows of, over time",
        Axis("seconds", 0, 420, (0, 60, 120, 180, 240, 300, 360, 420), lambda tick: f"{tick:g}"),
        _PERCENT,
        lines,
    )
