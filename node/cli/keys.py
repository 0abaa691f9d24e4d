"""tally rotate-key: the next key for a job."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.durations import seconds
from tallystick.node.cli.output import print_json, say


@verb("rotate-key")
@click.argument("job", type=click.Choice(["log", "cosigner", "transport"]))
@click.option(
    "--overlap", default="7d", show_default=True, help="How long the key before still counts."
)
def rotate_key(context: Context, job: str, overlap: str) -> None:
    """Change a key: log (signs heads and checkpoints), cosigner, or transport (TLS).

    All channels get the next key, or the one of --channel. Nothing stops meanwhile, and what the
    key before signed stays proved.
    """
    done = context.call(
        "rotate", channel=context.channel, job=job, overlap_seconds=seconds(overlap)
    )
    if context.json:
        print_json({"rotations": done})
        return
    for one in done:
        until = datetime.fromtimestamp(one["old_until"] / 1e6, UTC)
        say(f"channel {one['channel'][:8]} with {one['peer']}: {job} key {one['number']}")
        say(f"  {one['key']}")
        say(f"  the key before it counts until {until:%Y-%m-%d %H:%M} UTC")
        if not one["repeated"]:
            say("  recorded; the peer's node repeats it when it is back")
