"""tally invite, join and peers: pairing two nodes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.durations import seconds
from tallystick.node.cli.output import print_json, say
from tallystick.protocol.errors import InputError


@verb("invite")
@click.option("--expires", default="1d", show_default=True, help="How long the code works.")
@click.option("--address", metavar="HOST:PORT", help="Where they reach this node, if elsewhere.")
@click.option("--replace", metavar="PEER", help="For a peer that lost its keys.")
@click.option("--yes", is_flag=True, help="With --replace: do not ask.")
def invite(
    context: Context, expires: str, address: str | None, replace: str | None, yes: bool
) -> None:
    """Print a code with which one other node can pair with this one.

    With --replace the code is for a peer that lost its seed, or whose seed was stolen: when its new
    home uses the code, its old keys count no more and the channels under them halt.
    """
    if replace:
        _confirm_replacing(context, replace, yes)
    answer = context.call(
        "invite",
        lifetime_seconds=seconds(expires),
        replaces=replace or "",
        address=address or "",
    )
    if context.json:
        print_json(answer)
        return
    until = datetime.fromtimestamp(answer["expires_at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    say(answer["code"])
    context.hint(
        f"Send this code to your counterparty. It works once, until {until}.\n"
        f"They run: tally join CODE, and reach this node at {answer['address']}\n"
        "(if that is wrong: tally invite --address HOST:PORT)"
    )


def _confirm_replacing(context: Context, name: str, yes: bool) -> None:
    """Show which keys end, and ask at a terminal."""
    from tallystick.node import queries

    with context.books() as books:
        books.peer(name)
        peer = next(p for p in queries.peers(books, None) if p["name"] == name)
    context.hint(
        f"{name} is paired now with these words:\n  {peer['words']}\n"
        "When the code is used, the keys behind them count no more, and the channels under them"
        " halt.\nCompare the new words (tally peers) by phone before you found a new channel."
    )
    if not yes and sys.stdin.isatty():
        click.confirm(f"Let new keys replace those of {name}?", abort=True, err=True)
    elif not yes:
        raise InputError("nobody is there to ask", "Say it with: tally invite --replace … --yes")


@verb("join")
@click.argument("code")
def join(context: Context, code: str) -> None:
    """Pair with the node that made CODE with tally invite."""
    answer = context.call("join", code=code)
    if context.json:
        print_json(answer)
        return
    say(f"Paired with {answer['peer']}.")
    say("Compare these words with them by phone; tally peers shows theirs:")
    say("  " + " ".join(answer["words"]))
    context.hint(f"Next: tally propose terms.toml --to {answer['peer']}")


@verb("peers")
def peers(context: Context) -> None:
    """List the paired peers, with the words to compare by phone."""
    from tallystick.node import queries

    with context.books() as books:
        documents = queries.peers(books, context.ask("live"))
    if context.json:
        print_json({"peers": documents})
        return
    if not documents:
        say("No peers yet. Pair with: tally invite, or tally join CODE")
    for peer in documents:
        state = "connected" if peer["connected"] else "not connected"
        say(f"{peer['name']}  {peer['address']}  {state}")
        say(f"  words  {peer['words']}")
        say(f"  vkey   {peer['cosigner']}")
