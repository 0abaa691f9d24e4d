"""Simulate gossip at the scale of the internet, and draw what was measured; see docs/gossip.md."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
from gossiping.drawing import draw_all
from gossiping.measure import bytes_an_item, quantile, run_world
from gossiping.tables import by_share, by_size
from gossiping.world import Plan

from tallystick.protocol.gossip_words import Limits

DOCS = Path(__file__).resolve().parents[1] / "docs" / "gossip"
PER_NODE = 5  # channels: each has two parties, so a node has ten on average


def _plan(nodes: int, **other: float) -> Plan:
    plan = Plan(nodes=nodes, channels=nodes * PER_NODE, equivocations=min(300, nodes))
    if nodes > 5_000:
        plan = replace(plan, warm_minutes=2.5, cost_minutes=1.5, minutes=2.5)
    elif nodes > 1_000:
        plan = replace(plan, warm_minutes=3.0, cost_minutes=2.0, minutes=4.0)
    else:
        plan = replace(plan, warm_minutes=4.0, cost_minutes=3.0, minutes=5.0)
    if "lying" in other:
        plan = replace(plan, limits=Limits(items=4_000))  # so that lies compete for the room
    return replace(plan, **other)  # type: ignore[arg-type]


WORLDS: dict[str, Plan] = {
    **{f"size-{nodes}": _plan(nodes) for nodes in (100, 300, 1_000, 3_000, 10_000)},
    **{
        f"{kind}-{percent}": _plan(1_000, **{kind: percent / 100})
        for kind in ("silent", "lying")
        for percent in (1, 10, 30)
    },
    "silent-30-of-10000": _plan(10_000, silent=0.3),
    "partition": _plan(1_000, partition_minutes=5.0, minutes=7.0),
}


@click.command()
@click.argument("names", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), default=DOCS, help="Where figures lie.")
@click.option("--draw", is_flag=True, help="Draw what was measured before, and run nothing.")
@click.option("--nodes", type=int, help="Run one world of this size instead, and print it.")
@click.option("--silent", type=float, default=0.0, help="With --nodes: the share that is silent.")
@click.option("--lying", type=float, default=0.0, help="With --nodes: the share that lies.")
@click.option("--one", is_flag=True, hidden=True)
def main(
    names: tuple[str, ...],
    out: Path,
    draw: bool,
    nodes: int | None,
    silent: float,
    lying: float,
    one: bool,
) -> None:
    """Run the worlds named NAMES (all of them if none is named), each in a process of its own."""
    if unknown := [name for name in names if name not in WORLDS]:
        raise click.BadParameter(f"no world {unknown[0]!r}; there are {', '.join(WORLDS)}")
    if nodes is not None:
        print(json.dumps(run_world(_plan(nodes, silent=silent, lying=lying))))
        return
    if one:
        print(json.dumps(run_world(WORLDS[names[0]])))
        return
    file = out / "figures.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    out.mkdir(parents=True, exist_ok=True)
    for name in () if draw else names or WORLDS:
        # A process of its own, so that one world's memory is free for the next.
        done = subprocess.run(
            [sys.executable, __file__, name, "--one"], stdout=subprocess.PIPE, check=True, text=True
        )
        figures[name] = json.loads(done.stdout)
        print(_line(name, figures[name]), flush=True)
        figures["bytes_an_item"] = round(bytes_an_item())
        file.write_text(json.dumps(figures, indent=1) + "\n")
    draw_all(figures, out)
    print(f"\n{by_size(figures)}\n{by_share(figures)}")


def _line(name: str, found: dict[str, object]) -> str:
    times, forks = found["neighbour_seconds"], found["forks"]
    assert isinstance(times, list) and isinstance(forks, int)
    shown = [quantile(times, forks, share) for share in (0.5, 0.99)]
    words = [f"{value:.1f} s" if value is not None else "never" for value in shown]
    return f"{name}: {len(times)} of {forks} found, median {words[0]}, p99 {words[1]}"


if __name__ == "__main__":
    main()
