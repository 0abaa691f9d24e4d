"""Results as people read them: a table a benchmark, with the spread of what was repeated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peers
import peers_log
from rich.console import Console
from rich.table import Table

from benchmarks.figures import flat

APART = ("benchmark", "records", "spread", "machine", "took_seconds")
LAST = ("ratios", "memory_mb", "cpu_seconds", "limits")  # of a table
WIDTH_PIPED = 80


def console() -> Console:
    """Where tables go; 80 columns where there is no terminal that says otherwise."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH_PIPED)


def number(value: object) -> str:
    """A figure in a cell."""
    if isinstance(value, float) and abs(value) < 1e15:
        return f"{value:,.0f}" if value.is_integer() else f"{value:,}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def ordered(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The figures by their dotted names: what was measured first, then what bounds it."""
    shown = {key: value for key, value in result.items() if key not in APART}
    names = sorted(shown, key=lambda name: LAST.index(name) if name in LAST else -1)
    return flat({name: shown[name] for name in names})


def show_machine(facts: dict[str, Any]) -> None:
    """The machine in a line."""
    console().print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_mb']:,} MB, {facts['disk']},"
        f" Python {facts['python']}, commit {facts['commit'] or 'unknown'}",
        style="dim",
    )


def show(result: dict[str, Any]) -> None:
    """One benchmark's result."""
    out = console()
    name = f"{result['benchmark']} ({result['records']:,} records)"
    if "tally" in result:  # beside other tools
        out.print(f"[bold]{name}[/bold]")
        print(peers.show(result))
        return
    if "ways" in result:  # of throughput, beside others
        out.print(f"[bold]{name}[/bold]")
        print(peers_log.show(result))
        return
    table = Table(box=None, pad_edge=False, title=name, title_justify="left", title_style="bold")
    if "small" in result and "large" in result:
        _beside(table, result)
    else:
        _spread(table, result)
    out.print(table)
    facts = result["machine"]
    loads = f"{facts['load_before'][0]} … {facts['load_after'][0]}"
    out.print(f"took {result['took_seconds']} s; load average {loads}\n", style="dim")


def _beside(table: Table, result: dict[str, Any]) -> None:
    """Two sizes beside each other."""
    table.add_column("figure, median", no_wrap=True)
    for title in ("small", "large", "times dearer"):
        table.add_column(title, justify="right", no_wrap=True)
    small, large, ratios = (dict(flat(result[name])) for name in ("small", "large", "ratios"))
    for key in large:
        if isinstance(large[key], list):
            continue
        ratio = ratios.pop(key, None)
        cells = [number(side.get(key, "")) for side in (small, large)]
        table.add_row(key, *cells, "" if ratio is None else f"{ratio:.2f}")
    for key, value in ratios.items():
        table.add_row(f"ratios.{key}", "", "", f"{value:.2f}")


def _spread(table: Table, result: dict[str, Any]) -> None:
    """Medians and their spread."""
    spread = result["spread"]
    table.add_column("figure", no_wrap=True)
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column("from … to", justify="right", no_wrap=True)
    for key, value in ordered(result):
        if value is None:
            continue  # a percentile of too few
        of = spread.get(key)
        between = f"{number(of['min'])} … {number(of['max'])}" if of else ""
        style = "dim" if key.startswith("limits.") else None
        table.add_row(key, number(value), between, style=style)
