"""tally webhooks: where events are sent, what became of them, and sending them again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb, verbs
from tallystick.node.cli.durations import seconds
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.home import Home


@verbs("webhooks")
def command(context: Context) -> None:
    """Send events to your own systems, signed, and look after it."""
    _list(context)


@verb("add")
@click.argument("url", metavar="URL")
@click.option("--events", metavar="KIND,…", help="Only these kinds, as in dispute.*,evidence.found")
def add(context: Context, url: str, events: str | None) -> None:
    """Send events to URL from now on; print their secret.

    The secret that signs them is shown this once. With --channel only events of that channel are
    sent. docs/events.md lists the kinds.
    """
    import time

    from tallystick.node.config import load_config
    from tallystick.node.webhooks.addresses import check_url
    from tallystick.node.webhooks.endpoints import add_endpoint

    home = _own_home(context)
    check_url(url, allow_http=load_config(home.config_path).webhooks.allow_http)
    channel = ""
    if context.channel is not None:
        with context.books() as books:
            channel = books.select(context.channel, ("offered", "open", "halted")).hex()
    kinds = [name.strip() for name in events.split(",") if name.strip()] if events else []
    made = add_endpoint(home.path, url, kinds, channel, _last(context), time.time_ns() // 1000)
    _tell_node(context)
    secret = made.secrets[0].text
    if context.json:
        print_json({**_document(context, made), "secret": secret})
        return
    say(f"{made.id}  {made.url}")
    say(f"secret  {secret}")
    context.hint("The secret is not shown again. Next: tally webhooks test " + made.id)


def _own_home(context: Context) -> Home:
    from tallystick.node.standby.mode import check_kept_here

    home = context.open_home()
    check_kept_here(home)
    return home


def _last(context: Context) -> int:
    """The cursor of the newest event; 0 before the home's first start."""
    from tallystick.node.errors import StoreError
    from tallystick.node.feed.rows import FeedReader

    with suppress(StoreError), context.store() as store:
        return FeedReader(store).last
    return 0


def _tell_node(context: Context) -> None:
    """A running node takes the change up at once; another one when it starts."""
    from tallystick.node.errors import NodeUnreachable

    with suppress(NodeUnreachable):
        context.call("webhooks_changed")


@verb("list")
def list_(context: Context) -> None:
    """List the endpoints, and how far each is."""
    _list(context)


def _list(context: Context) -> None:
    from tallystick.node.webhooks.endpoints import load_endpoints

    endpoints = load_endpoints(context.open_home().path)
    documents = [_document(context, one) for one in endpoints]
    if context.json:
        print_json({"endpoints": documents})
        return
    if not documents:
        say("No endpoints. Add one with tally webhooks add URL.")
    for one in documents:
        say(folded(f"{one['id']}  {one['url']}", 2))
        what = ", ".join(one["events"]) or "all kinds"
        where = f"channel {one['channel'][:8]}" if one["channel"] else "all channels"
        say(folded(f"  {what}; {where}; {one['dead']} dead", 4))
        for lane in one["waiting"]:
            said = (
                f"{lane['attempts']} attempts, last: {lane['said']}; next {lane['next_at'][:19]}Z"
            )
            name = f"channel {lane['channel'][:8]}" if lane["channel"] else "no channel"
            say(folded(f"  {name} waits: {said}", 4))


def _document(context: Context, endpoint: Any) -> dict[str, Any]:
    from tallystick.node.errors import StoreError
    from tallystick.node.feed.events import iso
    from tallystick.node.webhooks.status import dead_of, waiting_of

    found: dict[str, Any] = {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events,
        "channel": endpoint.channel or None,
        "created_at": iso(endpoint.created_us),
        "dead": 0,
        "waiting": [],
    }
    with suppress(StoreError), context.store() as store:
        found["dead"] = dead_of(store, endpoint)
        found["waiting"] = waiting_of(store, endpoint)
    return found


@verb("remove")
@click.argument("id", metavar="ID")
def remove(context: Context, id: str) -> None:
    """Send nothing to an endpoint any more.

    ID is the beginning of its id.
    """
    from tallystick.node.webhooks.endpoints import remove_endpoint

    gone = remove_endpoint(_own_home(context).path, id)
    _tell_node(context)
    if context.json:
        print_json({"removed": gone.id})
        return
    say(f"Removed {gone.id}, {gone.url}.")


@verb("rotate-secret")
@click.argument("id", metavar="ID")
@click.option(
    "--overlap", default="1d", show_default=True, help="How long the secret before still counts."
)
def rotate(context: Context, id: str, overlap: str) -> None:
    """Give an endpoint a new secret.

    Until the overlap is over events are signed with both.
    """
    import time

    from tallystick.node.feed.events import iso
    from tallystick.node.webhooks.endpoints import rotate_secret

    until_us = time.time_ns() // 1000 + seconds(overlap) * 1_000_000
    made = rotate_secret(_own_home(context).path, id, until_us)
    _tell_node(context)
    if context.json:
        until = iso(until_us)
        print_json({"id": made.id, "secret": made.secrets[0].text, "old_until": until})
        return
    say(f"secret  {made.secrets[0].text}")
    say(f"Events are signed with the one before as well until {iso(until_us)[:19]}Z.")


@verb("test")
@click.argument("id", metavar="ID")
def test(context: Context, id: str) -> None:
    """Send an event webhook.test to an endpoint, once.

    It is sent from here, whether a node runs or not; prints what the endpoint answered.
    """
    import trio

    from tallystick.node.config import load_config
    from tallystick.node.errors import EndpointError
    from tallystick.node.webhooks.endpoints import find_endpoint, load_endpoints
    from tallystick.node.webhooks.testing import send_test

    home = context.open_home()
    endpoint = find_endpoint(load_endpoints(home.path), id)
    config = load_config(home.config_path).webhooks
    outcome = trio.run(send_test, endpoint, config, home.name)
    if not outcome.ok:
        raise EndpointError(f"{endpoint.url} did not take it: {outcome.said}")
    if context.json:
        print_json({"id": endpoint.id, "said": outcome.said})
        return
    say(f"{endpoint.url} answered {outcome.said}.")


@verb("deliveries")
@click.option("--dead", is_flag=True, help="Only those that were given up.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), metavar="N")
def deliveries(context: Context, dead: bool, limit: int) -> None:
    """List what was sent, and how it ended."""
    from tallystick.node.webhooks.deliveries import STATES, list_deliveries

    with context.store() as store:
        found = list_deliveries(store, ["dead"] if dead else list(STATES), limit)
    if context.json:
        print_json({"deliveries": found})
        return
    if not found:
        say("Nothing is dead." if dead else "Nothing was sent yet.")
    for one in found:
        times = f"{one['attempts']} attempt{'s' * (one['attempts'] != 1)}"
        say(f"{one['delivery']:>6}  {one['state']:<9}  {one['ended_at'][:19]}Z  {one['event']}")
        say(folded(f"        {one['id']}", 10))
        say(folded(f"        to {one['endpoint']}: {times}, last {one['said']}", 10))


@verb("replay")
@click.argument("name", metavar="ID", required=False)
@click.option("--dead", is_flag=True, help="All that were given up.")
def replay(context: Context, name: str | None, dead: bool) -> None:
    """Send an event, or all the dead, again.

    ID is the event's, or a delivery's number. The node must run. What is sent again is in no order
    to anything else; its names and its content are the same.
    """
    if dead == (name is not None):
        raise InputError("what is to be sent again?", "Name an event, or say --dead")
    count = context.call("webhooks_replay", name=name)["replaying"]
    if context.json:
        print_json({"replaying": count})
        return
    say(f"{count} are sent again." if count != 1 else "One is sent again.")


for _command in (add, list_, remove, rotate, test, deliveries, replay):
    command.add_command(_command)
