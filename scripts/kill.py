"""Kill real nodes under load, and check that nothing acknowledged is lost; see tests/killing."""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
from killing.campaign import Campaign, Summary
from killing.mutants import MUTANTS, TAKEOVER_MUTANTS
from killing.takeover import Takeovers


@click.command()
@click.option("--kills", default=60, type=click.IntRange(1), show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(0), help="What is killed and when (default: drawn).")
@click.option("--json", "json_", is_flag=True, help="Print one JSON document.")
@click.option(
    "--takeovers", type=click.IntRange(1), metavar="N", help="Promote a standby after each kill."
)
@click.option("--mistakes", is_flag=True, help="Show that nodes with a mistake are found.")
def main(kills: int, seed: int | None, json_: bool, takeovers: int | None, mistakes: bool) -> None:
    """Send SIGKILL to two nodes, N times; exit 1 if anything acknowledged is lost or doubled."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    if takeovers is not None:
        if mistakes:
            tried = [_find_by_takeover(name, takeovers, seed) for name in TAKEOVER_MUTANTS]
            raise SystemExit(not all(tried))
        _take_over(takeovers, seed, json_)
        return
    if mistakes:
        raise SystemExit(not all([_find(name, kills, seed) for name in MUTANTS]))
    _kill(kills, seed, json_)


def _find(mistake: str, kills: int, seed: int) -> bool:
    """Whether at most so many kills find a mistake."""
    with tempfile.TemporaryDirectory(prefix="tally-kill-") as folder:
        campaign = Campaign(Path(folder), seed, kills, code=MUTANTS[mistake], enough=1)
        summary = campaign.run()
    return _said(mistake, f"{summary.kills} kills", summary.findings)


def _find_by_takeover(mistake: str, takeovers: int, seed: int) -> bool:
    """Whether at most so many takeovers find a mistake."""
    with tempfile.TemporaryDirectory(prefix="tally-takeovers-") as folder:
        code = TAKEOVER_MUTANTS[mistake]
        summary = Takeovers(Path(folder), seed, takeovers, seed % 2, code=code).run()
    return _said(mistake, f"{summary.takeovers} takeovers", summary.findings)


def _said(mistake: str, after: str, findings: Sequence[str]) -> bool:
    """Print whether a mistake was found; whether it was."""
    said = f"found after {after}" if findings else "NOT FOUND"
    print(f"{mistake}: {said}", flush=True)
    for finding in findings[:1]:
        print(f"  {finding[:76]}", flush=True)
    return bool(findings)


def _take_over(takeovers: int, seed: int, json_: bool) -> None:
    """Have standbys take over, so many times; exit 1 if anything is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="tally-takeovers-"))
    tell = partial(print, file=sys.stderr, flush=True)
    summary = Takeovers(folder, seed, takeovers, seed % 2, tell).run()
    if json_:
        print(json.dumps(dataclasses.asdict(summary), indent=2))
    for finding in summary.findings:
        print(f"WRONG  {finding}")
    if summary.findings:
        print(f"what the nodes left is in {folder}", file=sys.stderr)
        raise SystemExit(1)
    if not json_:
        print(
            f"seed {seed}: {summary.takeovers} takeovers, {summary.fenced} old nodes stopped\n"
            f"  {summary.acknowledged:,} acknowledged deltas are in both copies, each once\n"
            f"  {summary.heads:,} heads are one history of each log\n"
            f"  {summary.seconds:.0f} seconds"
        )
    shutil.rmtree(folder)


def _kill(kills: int, seed: int, json_: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tally-kill-"))
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {line}", file=sys.stderr, flush=True)

    tell(f"seed {seed}, {kills} kills")
    summary = Campaign(folder, seed, kills, tell).run()
    if json_:
        print(json.dumps(dataclasses.asdict(summary), indent=2))
    else:
        _show(summary)
    if summary.findings:
        print(f"what the nodes left is in {folder}", file=sys.stderr)
        print(f"again: scripts/kill --kills {kills} --seed {seed}", file=sys.stderr)
        raise SystemExit(1)
    shutil.rmtree(folder)


def _show(summary: Summary) -> None:
    """The summary for people."""
    for finding in summary.findings:
        print(f"WRONG  {finding}")
    print(f"seed {summary.seed}: {summary.kills} kills, {summary.restarts} restarts")
    print(
        f"  {summary.acknowledged:,} acknowledged deltas are in both nodes' copies, each once\n"
        f"  {summary.repeats:,} were acknowledged again, with the same index\n"
        f"  {summary.corrections:,} corrections and {summary.checkpoints} checkpoints in between\n"
        f"  {summary.matters:,} words of disputes, {summary.declarations} declarations, each once\n"
        f"  {summary.heads:,} heads, seen in {summary.looks:,} looks, are one history of each log\n"
        f"  {summary.derived:,} times derived on the way: each adds up to the records then\n"
        f"  {summary.seconds:.0f} seconds"
        if not summary.findings
        else f"  FAILED: {len(summary.findings)} findings after {summary.seconds:.0f} seconds"
    )


if __name__ == "__main__":
    main()
