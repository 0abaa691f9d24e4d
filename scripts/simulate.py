"""Simulate nodes over a faulty disk and network, one line a seed; see tests/simulator."""

from __future__ import annotations

import logging
import sys
import time

import click
from simulator.plan import run

from tallystick.protocol.errors import InputError, TallyError

STEPS = 60


@click.command()
@click.option("--seeds", default="1-20", metavar="A-B", help="Which seeds to run.")
@click.option("--steps", default=STEPS, help="How much happens in each run.", show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Show what the nodes log.")
def main(seeds: str, steps: int, verbose: bool) -> None:
    """Run seeds and check the design's invariants after each; exit 1 if one fails."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.CRITICAL,
        format="%(name)s: %(message)s",
    )
    try:
        first, last = _seeds(seeds)
    except TallyError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    failed = 0
    began = time.monotonic()
    for seed in range(first, last + 1):
        result = run(seed, steps)
        faults = ", ".join(f"{count} {name}" for name, count in sorted(result.faults.items()))
        verdict = "FAILED" if result.violations else "ok"
        print(
            f"seed {seed}: {verdict}: {result.events} messages,"
            f" {result.acknowledged} deltas acknowledged; {faults or 'no faults'}"
        )
        for violation in result.violations:
            print(f"  {violation}")
        if result.violations:
            failed += 1
            print(f"  replay: scripts/simulate --seeds {seed}-{seed} --steps {steps} --verbose")
    seconds = time.monotonic() - began
    rate = (last - first + 1) / max(seconds, 1e-9) * 60
    print(f"{rate:.0f} seeds a minute", file=sys.stderr)
    print(f"{last - first + 1} seeds, {failed} failed")
    raise SystemExit(failed > 0)


def _seeds(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise InputError(f"{text!r} are not seeds", "Write --seeds 1-200")
    return int(first), int(last or first)


if __name__ == "__main__":
    main()
