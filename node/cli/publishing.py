"""tally publish: a log of ours as files that anybody may read."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say


@verb("publish")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def command(context: Context, folder: Path) -> None:
    """Write our log into DIR as tiles, for any client of tiled logs (c2sp.org/tlog-tiles).

    Whoever can read DIR can read every record of our log and the channel's terms. Again later, it
    writes what is new.
    """
    from tallystick.node.publishing import publish

    with context.books() as books:
        channel, _ = books.channels[books.select(context.channel)]
        done = publish(channel.own, folder)
    if context.json:
        print_json({"origin": done.origin, "size": done.size, "new_files": done.files})
        return
    say(f"{done.size:,} records of {done.origin.partition('/')[0]}'s log are in {folder}")
    context.hint("Serve it as it is, the file `checkpoint` uncached.")
