"""tally propose, accept and channels: agreeing on terms."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say, table
from tallystick.protocol.errors import InputError


@verb("propose")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--to", required=True, metavar="PEER", help="The paired peer.")
def propose(context: Context, file: Path, to: str) -> None:
    """Propose the terms in FILE (TOML) to a peer."""
    try:
        source = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    answer = context.call("propose", source=source, to=to)
    if context.json:
        print_json({name: answer[name] for name in ("channel", "delivered", "refused")})
        return
    for line in answer["description"]:
        say(line)
    say("")
    say(f"Proposed to {to} as channel {answer['channel'][:16]}.")
    if answer["delivered"]:
        context.hint(
            f"Their node holds the proposal. They run: tally accept {answer['channel'][:8]}"
        )
    elif answer["refused"]:
        context.hint(f"Their node does not take it now: {answer['refused']}.")
    else:
        context.hint(f"{to} is not connected; the proposal is delivered when it is.")


@verb("accept")
@click.argument("selector", metavar="[CHANNEL]", required=False)
@click.option("--yes", is_flag=True, help="Accept without asking.")
def accept(context: Context, selector: str | None, yes: bool) -> None:
    """Accept the terms that a peer proposed, which founds the channel."""
    from tallystick.protocol.terms import describe_terms

    with context.books() as books:
        channel = books.select(selector or context.channel, ("offered",))
        terms = books.founding.terms_of(channel)
    if not context.json:
        for line in describe_terms(terms):
            say(line)
        say("")
    if not yes and sys.stdin.isatty():
        click.confirm("Sign these terms?", abort=True)
    elif not yes:
        raise InputError("nobody is there to ask", "Read the terms, then: tally accept --yes")
    answer = context.call("accept", selector=channel.hex())
    if context.json:
        print_json({"channel": answer["channel"], "peer": answer["peer"]})
        return
    say(f"Channel {answer['channel'][:16]} with {answer['peer']} is founded.")
    if not answer["delivered"]:
        context.hint(f"{answer['peer']} is not connected; it learns of it when it is.")


@verb("channels")
def channels(context: Context) -> None:
    """List channels and proposals."""
    from tallystick.node import queries

    with context.books() as books:
        documents = queries.channels(books)
    if context.json:
        print_json({"channels": documents})
    elif not documents:
        say("No channels yet. Propose terms with: tally propose terms.toml --to PEER")
    else:
        rows = [
            [d["channel"][:8], d["peer"], d["role"], d["state"], f"{d['period']} {d['time_zone']}"]
            for d in documents
        ]
        table(["channel", "peer", "we are", "state", "period"], rows)
