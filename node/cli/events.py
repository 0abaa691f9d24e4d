"""tally events: what happened, from the store, whether a node runs or not."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.messages import plain

if TYPE_CHECKING:
    from tallystick.node.feed.events import Event

POLL_SECONDS = 0.5
PAGE_EVENTS = 500


@verb("events")
@click.option("--after", type=click.IntRange(0), metavar="CURSOR", help="Those behind an event.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), metavar="N")
@click.option("--kind", "kinds", multiple=True, help="Only such: dispute.opened, or dispute.*")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until stopped.")
def command(
    context: Context, after: int | None, limit: int, kinds: tuple[str, ...], follow: bool
) -> None:
    """List what happened: the newest events, or with --after those behind a cursor.

    With --follow and --json each event is a document on a line of its own; go on later with
    --after and the last cursor that you saw.
    """
    from tallystick.node.feed.events import check_kinds
    from tallystick.node.feed.rows import FeedReader

    wanted = check_kinds(kinds) if kinds else None
    channel = _channel(context)
    with context.store() as store:
        reader = FeedReader(store)
        if after is None:
            page = reader.newest(limit, channel)
            events = [one for one in page.events if wanted is None or one.kind in wanted]
        else:
            page = reader.after(after, limit, channel, wanted)
            events = page.events
        last = reader.last
    if context.json and not follow:
        shown = [event.document() for event in events]
        print_json({"events": shown, "cursor": page.cursor, "last": last})
        return
    _print(context, events)
    if not events and not follow:
        say("No events.")
    cursor = page.cursor
    while follow:
        with context.store() as store:
            page = FeedReader(store).after(cursor, PAGE_EVENTS, channel, wanted)
        _print(context, page.events)
        if page.cursor == cursor:
            time.sleep(POLL_SECONDS)
        cursor = page.cursor


def _channel(context: Context) -> bytes | None:
    """The channel of --channel; without one, events of all channels."""
    if context.channel is None:
        return None
    with context.books() as books:
        return books.select(context.channel, ("offered", "open", "halted"))


def _print(context: Context, events: list[Event]) -> None:
    for event in events:
        if context.json:
            click.echo(json.dumps(event.document(), ensure_ascii=False))
            continue
        at = event.document()["at"][:19].replace("T", " ")
        where = f"  {event.peer}" if event.peer else ""
        if event.channel:
            where += f" {event.channel.hex()[:8]}"
        say(f"{event.cursor}  {at}Z  {event.kind}{where}"[:80])
        say(folded(f"  {plain(event.said)}", indent=2))
