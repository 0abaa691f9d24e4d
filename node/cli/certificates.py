"""tally certificate: prove that a deadline of the terms passed in silence."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say


@verb("certificate")
@click.argument("name", metavar="DISPUTE|PERIOD")
@click.option("--theirs", is_flag=True, help="Of a PERIOD: that we accepted it, not the peer.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
def command(context: Context, name: str, theirs: bool, output: Path) -> None:
    """Write the certificate of a dispute or a closed period whose deadline passed."""
    from tallystick.node import certifying, disputing
    from tallystick.node.cli.disputes import chosen_channels
    from tallystick.node.files import write_whole
    from tallystick.protocol.verify_certificate import verify_certificate

    with context.books() as books:
        if "-" in name:  # no digest has one, and every period does
            channel, _ = books.channels[books.select(context.channel)]
            data = certifying.of_period(channel, name, theirs=theirs)
        else:
            found = disputing.find(chosen_channels(context, books), name)
            data = certifying.of_dispute(*found)
    write_whole(output, data)
    said = verify_certificate(data)[-1].detail
    if context.json:
        print_json({"file": str(output), "bytes": len(data), "says": said})
        return
    say(f"wrote {output} ({len(data):,} bytes)")
    say(folded(said, indent=2))
    context.hint(f"Anybody checks it, offline, with: tally verify {output}")
