"""Score the explainer on worlds with known truth; see tests/worlds and docs/explainer-scores.md."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import click
from worlds.engine import explain
from worlds.scoring import Score, score_world
from worlds.summary import in_markdown, in_text, percent, tables, totals, world_lines, worst
from worlds.world import make_world

from tallystick.protocol.errors import InputError, TallyError

PROCESSES = 2


@click.command()
@click.option("--seeds", default="1-100", metavar="A-B", help="Which worlds.", show_default=True)
@click.option(
    "--only", type=click.Choice(["odd", "even"]), help="Odd seeds are for reports, even for tuning."
)
@click.option("--markdown", is_flag=True, help="Print the tables for a page.")
@click.option("--worst", "shown", default=10, help="How many worst worlds.", show_default=True)
def main(seeds: str, only: str | None, markdown: bool, shown: int) -> None:
    """Explain worlds and hold it against the truth; exit 1 if a sum is not exact."""
    try:
        first, last = _seeds(seeds)
    except TallyError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    chosen = [seed for seed in range(first, last + 1) if only in (None, ("even", "odd")[seed % 2])]
    began = time.monotonic()
    scores = []
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for done, score in enumerate(pool.map(score_seed, chosen, chunksize=4), 1):
            scores.append(score)
            if sys.stderr.isatty():
                print(f"\r{done} of {len(chosen)}", end="", file=sys.stderr)
    print(f"\n{time.monotonic() - began:.0f} seconds", file=sys.stderr)
    (_in_markdown if markdown else _in_text)(scores, shown)
    raise SystemExit(any(score.inexact for score in scores))


def score_seed(seed: int) -> Score:
    """One world's score."""
    world = make_world(seed)
    return score_world(world, explain(world))


def _in_text(scores: list[Score], shown: int) -> None:
    for table in tables(scores):
        print(f"{in_text(table)}\n")
    for score in worst(scores, shown):
        print("\n".join(world_lines(score)))
    print(_verdict(scores))


def _in_markdown(scores: list[Score], shown: int) -> None:
    for table in tables(scores):
        print(f"{in_markdown(table)}\n")
    lines = [line for score in worst(scores, shown) for line in world_lines(score)]
    print("\n".join(["The worst worlds:", "", "```", *lines, "```", "", _verdict(scores)]))


def _verdict(scores: list[Score]) -> str:
    whole = totals(scores)["all"]
    inexact = sum(bool(score.inexact) for score in scores)
    return (
        f"{len(scores)} worlds: recall {percent(whole.found, whole.planted)}%,"
        f" precision {percent(whole.right, whole.said)}%, {inexact} with sums that are not exact"
    )


def _seeds(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise InputError(f"{text!r} are not seeds", "Write --seeds 1-200")
    return int(first), int(last or first)


if __name__ == "__main__":
    main()
