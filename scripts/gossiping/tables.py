"""The tables of docs/gossip.md, from the figures that were measured."""

from __future__ import annotations

from typing import Any

from gossiping.drawing import SHARES, SIZES
from gossiping.measure import quantile


def by_size(figures: dict[str, Any]) -> str:
    """What each size of network gave."""
    rows = [
        "| nodes | channels | a neighbour knows: median, p99 | the counterparty: median, p99 |"
        " received in an hour: mean, p99, largest | messages an hour | items held: mean, largest |"
        " memory: mean, largest |",
        "| ---: | ---: | --- | --- | --- | ---: | --- | --- |",
    ]
    each = figures["bytes_an_item"] / 1e6
    for size in SIZES:
        if (found := figures.get(f"size-{size}")) is None:
            continue
        received, held = found["bytes_an_hour"], found["items_held"]
        cells = (
            f"{found['nodes']:,}",
            f"{found['channels']:,}",
            _pair(found["neighbour_seconds"], found["forks"]),
            _pair(found["peer_seconds"], found["peers"]),
            ", ".join(f"{received[key] / 1e6:.1f}" for key in ("mean", "p99", "max")) + " MB",
            f"{found['messages_an_hour']['mean']:,.0f}",
            f"{held['mean']:,.0f}, {held['max']:,.0f}",
            f"{held['mean'] * each:.1f}, {held['max'] * each:.1f} MB",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def by_share(figures: dict[str, Any]) -> str:
    """What silent and lying nodes did."""
    rows = [
        "| of 1,000 nodes | known within 10 s | within 5 min | median, p99 |"
        " the counterparty: median, p99 | lies an hour to a node |",
        "| --- | ---: | ---: | --- | --- | ---: |",
    ]
    for kind in ("silent", "lying"):
        for share in SHARES:
            found = figures.get(f"{kind}-{share}" if share else "size-1000")
            if found is None or (not share and kind == "lying"):
                continue
            times, forks = found["neighbour_seconds"], found["forks"]
            honest = found["nodes"] * (1 - found["silent"] - found["lying"])
            lies = found["lies"] / honest / found["cost_minutes"] * 60
            cells = (
                f"{share} % {kind}" if share else "all honest",
                f"{sum(time <= 10 for time in times) / forks:.1%}",
                f"{sum(time <= 300 for time in times) / forks:.1%}",
                _pair(times, forks),
                _pair(found["peer_seconds"], found["peers"]),
                f"{lies:,.0f}",
            )
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _pair(times: list[float], total: int) -> str:
    return ", ".join(
        f"{value:.1f} s" if value is not None else "later than measured"
        for value in (quantile(times, total, 0.5), quantile(times, total, 0.99))
    )
