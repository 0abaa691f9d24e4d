"""tally checkpoint and bundle: closing a period, and what travels with the invoice."""

from __future__ import annotations

from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say
from tallystick.node.cli.verdict import say_verdict


@verb("checkpoint")
@click.argument("period")
@click.option("--force", is_flag=True, help="Before the grace time, if both agree.")
def checkpoint(context: Context, period: str, force: bool) -> None:
    """Close PERIOD with the peer: both recompute it, and both sign."""
    from tallystick.node import queries

    with context.books() as books:
        key = books.select(context.channel)
        _, closer = books.channels[key]
        books.channels[key][0].own.folder.calendar.parse(period)
        closed = any(row.period == period for row in closer.rows)
    if not closed:
        context.call("checkpoint", channel=key.hex(), period=period, force=force)
    with context.books() as books:
        document = queries.checkpoint_document(*books.channels[key], period)
    if context.json:
        print_json(document)
        return
    say(document["checkpoint"].rstrip())
    say("")
    say(f"digest {document['digest']}")
    stamped = document["timestamp"]
    if stamped is not None:
        say(f"stamped {stamped['time']} by {stamped['authority']}")
    if document["verdict"] is not None:
        say("")
        say("verdict:")
        say_verdict(document["verdict"], *document["signed_by"])
    context.hint(f"For the invoice: tally bundle {period} -o {period}.tally")


@verb("bundle")
@click.argument("period")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.",
)
@click.option("--full", is_flag=True, help="With all records, so that anybody can derive again.")
@click.option(
    "--plain", is_flag=True, help="Without timestamp and witnesses: the same bytes at both parties."
)
def bundle(context: Context, period: str, output: Path, full: bool, plain: bool) -> None:
    """Write the proof bundle of a closed PERIOD; tally verify checks it anywhere, offline."""
    from tallystick.node import proving, queries
    from tallystick.node.files import whole_file

    with context.books() as books:
        channel, closer = books.channels[books.select(context.channel)]
        document = queries.checkpoint_document(channel, closer, period)
        row = closer.row_of(channel.own.folder.calendar.parse(period))
        assert row is not None
        with whole_file(output) as part, part.open("w+b") as file:
            extras = proving.bundle(channel, row, file, full=full, plain=plain)
            size = file.tell()
    if context.json:
        print_json(
            {
                "file": str(output),
                "bytes": size,
                "digest": document["digest"],
                "timestamp": extras.timestamp,
                "witness_lines": extras.lines,
            }
        )
        return
    say(f"wrote {output} ({size:,} bytes)")
    added = ["a timestamp"] if extras.timestamp else []
    if extras.lines:
        added.append(f"{extras.lines} line{'s' * (extras.lines > 1)} of witnesses")
    if added:
        say(f"with {' and '.join(added)}")
    context.hint(f"Anybody checks it, offline, with: tally verify {output}")
