"""tally keys: bearer keys of the HTTP interface."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from tallystick.node.cli.context import Context, verb, verbs
from tallystick.node.cli.output import print_json, say, table

if TYPE_CHECKING:
    from tallystick.node.api.keys import ApiKeys, Scope

_SCOPES = ("emit", "read", "admin")


def _keys(context: Context, *, change: bool = False) -> ApiKeys:
    from tallystick.node.api.keys import ApiKeys
    from tallystick.node.standby.mode import check_kept_here

    home = context.open_home()
    if change:
        check_kept_here(home)
    return ApiKeys(home)


@verbs("keys")
def command(context: Context) -> None:
    """List the keys of the HTTP interface, or do something with them."""
    found = _keys(context).all()
    if context.json:
        print_json(
            {
                "keys": [
                    {
                        "id": key.id,
                        "name": key.name,
                        "scopes": key.scopes,
                        "created_at": key.created_at,
                    }
                    for key in found
                ]
            }
        )
        return
    if not found:
        say("No keys. Make one: tally keys add NAME --scope read")
        return
    rows = [(key.name, ", ".join(key.scopes), key.created_at, key.id) for key in found]
    table(("name", "scopes", "made", "id"), rows)


@verb("add")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(_SCOPES), help="May what."
)
def add(context: Context, name: str, scopes: tuple[Scope, ...]) -> None:
    """Make a key; it is shown now and never again.

    emit records deltas; read sees everything; admin does all that tally does.
    """
    made_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    text = _keys(context, change=True).add(name, scopes, made_at)
    if context.json:
        print_json({"name": name, "key": text})
        return
    say(text)
    context.hint(
        "Keep it now: only its hash is kept here. Send it as Authorization: Bearer KEY.\n"
        "The address is in tally status; the operations are at its /docs."
    )


@verb("remove")
@click.argument("name")
def remove(context: Context, name: str) -> None:
    """Remove a key by its name or id: it opens nothing any more."""
    _keys(context, change=True).remove(name)
    if context.json:
        print_json({"removed": name})
        return
    say(f"removed  {name}")


for _sub in (add, remove):
    command.add_command(_sub)
