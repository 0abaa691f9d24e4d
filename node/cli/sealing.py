"""tally seal: records of closed periods into segments, and out of the store if asked."""

from __future__ import annotations

from typing import Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say


@verb("seal")
@click.option("--drop", is_flag=True, help="Drop from the store what is sealed and old enough.")
def command(context: Context, drop: bool) -> None:
    """Put the records of closed periods into segments in the archive.

    The node does it by itself after each checkpoint; this does it now, whether the node runs or
    not. With --drop, records leave the store too, but those of the newest closed periods
    (keep_periods in [archive] of config.toml); all that needs them reads them from the archive.
    """
    from tallystick.node.errors import NodeUnreachable

    try:
        documents = context.call("seal", channel=context.channel, drop=drop)
    except NodeUnreachable:
        documents = _stopped(context, drop)
    good = not any(document["faults"] for document in documents)
    if context.json:
        print_json({"ok": good, "channels": documents})
    else:
        for document in documents:
            _say(document)
        if not documents:
            say("No channel yet.")
    if not good:
        raise SystemExit(1)


def _stopped(context: Context, drop: bool) -> list[dict[str, Any]]:
    from tallystick.node.books import Books
    from tallystick.node.segments.keeper import seal_stopped

    home = context.open_home()
    with home.lock():
        books = Books.open(home, read_only=False)
        try:
            chosen = [books.select(context.channel)] if context.channel else list(books.channels)
            return seal_stopped(books, chosen, drop=drop)
        finally:
            books.close()


def _say(document: dict[str, Any]) -> None:
    say(f"{document['channel'][:8]} with {document['peer']}")
    for log in document["logs"]:
        said = f"  {log['party']}: {log['records']:,} records, {log['sealed']:,} of them sealed"
        if log["in_store_from"]:
            said += f", {log['in_store_from']:,} in the archive alone"
        say(folded(said, indent=4))
    written, dropped = document["written"], sum(log["dropped_now"] for log in document["logs"])
    say(
        f"  now: {len(written)} segments and {document['checkpoints_written']} checkpoints"
        f" written, {dropped:,} records dropped"
    )
    for fault in document["faults"]:
        say(folded(f"  NOT SEALED: {fault['message']}. {fault['advice']}", indent=4))
