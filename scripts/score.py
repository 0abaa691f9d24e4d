"""Score the explainer on worlds with known truth; see tests/worlds and docs/explainer-scores.md."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import click
from worlds import agreeing
from worlds.engine import explain
from worlds.scoring import Score, fallen, score_world
from worlds.summary import in_markdown, in_text, percent, tables, totals, world_lines, worst
from worlds.world import make_world

from tallystick.protocol.errors import InputError, TallyError

PROCESSES = 2
# What `agreeing` takes for the same, as it says there.
BOUNDS = (agreeing.__doc__ or "").partition("\n\n")[2].strip()
PAGE = """\
# How well `compare` explains

Scores of the explainer on worlds with known truth: pairs of exports of the same requests of a real
trace, by two honest systems with clocks, lags, retries, rounding, zones, outages and names of their
own, at realistic rates ([testing](testing.md) says how they are made). Made by
`scripts/score --seeds {first}-{last} --only {which} --markdown`. Even seeds were used to tune the
detectors, odd ones only to measure them.
The code that was measured: {code}.

## What counts as found

{bounds}

Where causes compose, a part of the difference may be two causes' work (lost requests of a side that
counts in another unit), and which part is whose depends on the order: any amount that some order
gives is right. A cause whose effect is nil in the period, such as a lag by which no request crossed
an edge, is planted and counted as well.
"""


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
    began, code = time.monotonic(), _commit()  # before anybody commits more
    scores = []
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for done, score in enumerate(pool.map(score_seed, chosen, chunksize=4), 1):
            scores.append(score)
            if sys.stderr.isatty():
                print(f"\r{done} of {len(chosen)}", end="", file=sys.stderr)
    print(f"\n{time.monotonic() - began:.0f} seconds", file=sys.stderr)
    if markdown:
        _in_markdown(scores, shown, code)
    else:
        _in_text(scores, shown)
    raise SystemExit(any(score.inexact for score in scores))


def score_seed(seed: int) -> Score:
    """One world's score."""
    world = make_world(seed)
    try:
        explanation = explain(world)
    except Exception as error:  # noqa: BLE001 - whatever it is, the world that does it is named
        return fallen(world, repr(error))
    return score_world(world, explanation)


def _in_text(scores: list[Score], shown: int) -> None:
    for table in tables(scores):
        print(f"{in_text(table)}\n")
    for score in worst(scores, shown):
        print("\n".join(world_lines(score)))
    print(_verdict(scores))


def _in_markdown(scores: list[Score], shown: int, code: str) -> None:
    seeds = [score.seed for score in scores]
    which = {frozenset({0}): "even", frozenset({1}): "odd"}.get(frozenset(s % 2 for s in seeds), "")
    print(PAGE.format(which=which, first=seeds[0], last=seeds[-1], code=code, bounds=BOUNDS))
    print(f"## Scores\n\n**{_verdict(scores)}.**\n")
    for table in tables(scores):
        print(f"{in_markdown(table)}\n")
    lines = [line for score in worst(scores, shown) for line in world_lines(score)]
    print("\n".join(["The worlds of which the least was right:", "", "```", *lines, "```"]))


def _commit() -> str:
    """The code that was measured."""
    command = ["git", "log", "-1", "--format=%h (%s)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


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
