"""tally invite, join and peers: pairing two nodes."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.durations import seconds
from tallystick.node.cli.output import print_json, say


@verb("invite")
@click.option("--expires", default="1d", show_default=True, help="How long the code works.")
def invite(context: Context, expires: str) -> None:
    """Print a code with which one other node can pair with this one."""
    answer = context.call("invite", lifetime_seconds=seconds(expires))
    if context.json:
        print_json(answer)
        return
    until = datetime.fromtimestamp(answer["expires_at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    say(answer["code"])
    context.hint(
        f"Send this code to your counterparty. It works once, until {until}.\n"
        "They run: tally join CODE"
    )


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
        documents = queries.peers(books, context.live())
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
