"""Two results of the same benchmarks: before, after, the ratio, and whether it is more than noise.

What was repeated has a spread. Two figures whose spreads overlap are not told apart; of a figure
without a spread nobody can say, and a small change of it is not marked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.figures import tidy
from benchmarks.showing import console, number, ordered

WITHIN = 1.25  # a change of a figure without spread up to this factor says nothing
HIGHER_RATIOS = ("ratios.of_sha256", "ratios.of_decode", "ratios.of_encode")  # are better
TOTALS = ("seconds", "cpu_seconds.", "bundle_bytes")
COUNTS = ("deltas", "lines", "singles")  # how much was measured, and no result
SAME, BETTER, WORSE, UNSURE, MACHINE = "same", "better", "WORSE", "?", "machine"
FACTS = ("cpu", "cores", "disk", "python", "commit")


class Unreadable(Exception):
    """A file that holds no results."""


def read(file: Path) -> list[dict[str, Any]]:
    """The results in a file that `--json` wrote; of a benchmark that is there twice, the last."""
    found = {}
    try:
        for line in file.read_text().splitlines():
            result = json.loads(line)
            if isinstance(result, dict) and "figures" in result and "against" in result:
                continue  # a comparison that was printed behind them
            _check(result)
            found[result["benchmark"]] = result
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"{file} is not what scripts/bench --json prints: {error}") from None
    if not found:
        raise Unreadable(f"{file} holds no result; write one with scripts/bench --json > FILE")
    return list(found.values())


def _check(result: Any) -> None:
    """`TypeError` if it is no result. Those of older versions have no spread and no machine."""
    if not isinstance(result, dict) or not isinstance(result.get("benchmark"), str):
        raise TypeError("a line names no benchmark")
    if not isinstance(result.get("records"), int):
        raise TypeError(f"{result['benchmark']} does not say how many records")
    for name in ("spread", "machine"):
        if not isinstance(result.setdefault(name, {}), dict):
            raise TypeError(f"the {name} of {result['benchmark']} is no object")
    for figure, spread in result["spread"].items():
        if not isinstance(spread, dict) or not {"min", "max", "repeats"} <= set(spread):
            raise TypeError(f"the spread of {result['benchmark']}'s {figure} is not complete")
    result.setdefault("took_seconds", 0)


def _figures(result: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in ordered(result)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _more_is_better(name: str) -> bool:
    if name.startswith("ratios."):
        return name in HIGHER_RATIOS
    return name.endswith("per_second")


def _verdict(name: str, before: dict[str, Any], after: dict[str, Any], ratio: float) -> str:
    """`before` and `after` are results that have the figure."""
    if name.startswith("limits."):
        return MACHINE
    if name.rpartition(".")[2] in COUNTS:
        return ""
    if name.startswith(TOTALS) and before["records"] != after["records"]:
        return ""  # it grows with the size
    spreads = [result["spread"].get(name) for result in (before, after)]
    if all(spread and spread["repeats"] > 1 for spread in spreads):
        old, new = spreads
        if old["min"] <= new["max"] and new["min"] <= old["max"]:
            return SAME
    elif 1 / WITHIN <= ratio <= WITHIN:
        return UNSURE
    if ratio == 1:
        return SAME
    return BETTER if (ratio > 1) == _more_is_better(name) else WORSE


def compare(
    earlier: Sequence[dict[str, Any]], later: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every figure that both have, benchmark by benchmark."""
    rows = []
    known = {result["benchmark"]: result for result in earlier}
    for after in later:
        before = known.get(after["benchmark"])
        if before is None:
            continue
        old, new = _figures(before), _figures(after)
        for name in (name for name in new if name in old):
            ratio = new[name] / old[name] if old[name] else 1.0 if not new[name] else float("inf")
            rows.append(
                {
                    "benchmark": after["benchmark"],
                    "figure": name,
                    "before": old[name],
                    "after": new[name],
                    "ratio": tidy(ratio) if ratio != float("inf") else None,
                    "verdict": _verdict(name, before, after, ratio),
                    "same_size": before["records"] == after["records"],
                }
            )
    return rows


def _warnings(earlier: Sequence[dict[str, Any]], later: Sequence[dict[str, Any]]) -> list[str]:
    """What makes the comparison doubtful: another machine, another load, another size."""
    said = []
    known = {result["benchmark"]: result for result in earlier}
    pairs = [(known[r["benchmark"]], r) for r in later if r["benchmark"] in known]
    for name in FACTS:
        values = {(old["machine"].get(name), new["machine"].get(name)) for old, new in pairs}
        said += [f"{name}: {old} → {new}" for old, new in sorted(values, key=str) if old != new]
    for old, new in pairs:
        if old["records"] != new["records"]:
            said.append(f"{new['benchmark']}: {old['records']:,} → {new['records']:,} records")
    loads = [
        max((max(part.get("load_before", [0])[0], part.get("load_after", [0])[0])) for part in side)
        for side in zip(*[[one["machine"] for one in pair] for pair in pairs], strict=True)
    ]
    if loads:
        said.append(f"load average up to: {loads[0]} → {loads[1]}")
    missing = sorted(set(known) ^ {result["benchmark"] for result in later})
    if missing:
        said.append(f"only in one of the two: {', '.join(missing)}")
    return said


def show(
    rows: Sequence[dict[str, Any]],
    earlier: Sequence[dict[str, Any]],
    later: Sequence[dict[str, Any]],
) -> None:
    """The table, and below it what the marks mean."""
    out = console()
    styles = {BETTER: "green", WORSE: "bold red"}
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        table = Table(box=None, pad_edge=False, title=benchmark, title_justify="left")
        table.title_style = "bold"
        table.add_column("figure", no_wrap=True)
        for name in ("before", "after", "ratio"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in (row for row in rows if row["benchmark"] == benchmark):
            shown = [number(row[name]) for name in ("before", "after")]
            ratio = f"{row['ratio']:.2f}" if row["ratio"] is not None else "∞"
            verdict = row["verdict"]
            table.add_row(row["figure"], *shown, ratio, verdict, style=styles.get(verdict, "dim"))
        out.print(table)
        out.print()
    for line in _warnings(earlier, later):
        out.print(line, style="dim", soft_wrap=True)
    out.print(
        "same: the spreads of the repeats overlap. ?: measured once, too near to say.\n"
        "machine: what it could do at all, at the time.",
        style="dim",
    )
