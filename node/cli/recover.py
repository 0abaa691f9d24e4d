"""tally recover: a home from nothing but the seed, and how channels stand after a loss."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError
from tallystick.protocol.keys import SEED_SIZE

_DOUBT = ("certain", "in doubt", "agreed to go on with what is left", "going on with what is left")


@verb("recover")
@click.option("--name", help="Make a home for this party, from its seed alone.")
@click.option("--seed-file", metavar="FILE|-", help="The seed in hex; - reads standard input.")
@click.option("--agree", is_flag=True, help="Go on with what is left, if both sides lost records.")
@click.option(
    "--only-copy", is_flag=True, help="Go on with this home: no copy of it runs any more."
)
def command(
    context: Context, name: str | None, seed_file: str | None, agree: bool, only_copy: bool
) -> None:
    """Show how recovery stands; or make a home from its seed alone.

    With --name and --seed-file a home is made that holds nothing yet. Start it and join each peer
    again: the peer returns the channel and all its records.

    With --agree, people at this side say to go on with what is left of a channel in which both
    sides lost records. Both sides must say so.

    With --only-copy, people say that the other copy of this home is stopped for good, after both
    stopped because they heard of each other.
    """
    if name is not None or seed_file is not None:
        if name is None or seed_file is None or agree or only_copy:
            raise InputError("a home is made of --name and --seed-file alone")
        _make_home(context, name, seed_file)
    elif only_copy:
        context.call("only_copy")
        if context.json:
            print_json({"stopped": None})
        else:
            say("This home goes on. What the other copy signed comes back from the peers first.")
    elif agree:
        answer = context.call("agree", channel=context.channel)
        if context.json:
            print_json(answer)
        else:
            say(f"Agreed to go on with what is left in {answer['channel'][:8]}.")
            context.hint(f"{answer['peer']} must say so, too: tally recover --agree")
    else:
        _show(context)


def _make_home(context: Context, name: str, seed_file: str) -> None:
    from tallystick.node.home import create_home
    from tallystick.node.store.disk import Store

    home = create_home(context.home, name, _read_seed(seed_file))
    Store(home.store_path).close()
    if context.json:
        print_json({"name": name, "home": str(home.path)})
        return
    say(f"Made {home.path} for {name}. It holds no channel yet.")
    context.hint(
        f"Next: tally --home {home.path} run\n"
        "Then ask each peer for a code (tally invite) and run tally join CODE: its node\n"
        "returns the channel and all records. tally recover shows how far that is."
    )


def _read_seed(seed_file: str) -> bytes:
    try:
        text = sys.stdin.read(1000) if seed_file == "-" else Path(seed_file).read_text("ascii")
        seed = bytes.fromhex(text.strip())
    except OSError as error:
        raise InputError(f"{seed_file} cannot be read: {error.strerror}") from None
    except ValueError:
        seed = b""
    if len(seed) != SEED_SIZE:
        raise InputError(
            f"{'standard input' if seed_file == '-' else seed_file} does not hold a seed",
            f"It is the file seed of a home: {SEED_SIZE} bytes in hexadecimal",
        )
    return seed


def _show(context: Context) -> None:
    from tallystick.node import queries

    live = context.ask("recovery")
    with context.books() as books:
        documents = queries.recovery(books, live)
    if context.json:
        print_json({"running": live is not None, "channels": documents})
        return
    if live is None:
        say("The node does not run, so the peers cannot be heard.")
    for document in documents:
        _say_channel(document)
    if not documents:
        say("No channel yet. Join each peer again: tally join CODE")


def _say_channel(document: dict[str, Any]) -> None:
    say(f"channel {document['channel'][:8]} with {document['peer']}: {_DOUBT[document['doubt']]}")
    if document["peer_doubt"]:
        say(f"  at {document['peer']}: {_DOUBT[document['peer_doubt']]}")
    for name, log in (("our log", document["own"]), ("their log", document["theirs"])):
        there = "not heard yet" if log["peer"] is None else f"{log['peer']:,} there"
        say(f"  {name:<10} {log['here']:>12,} records here, {there}")
    if document["aside"]:
        say(f"  {document['aside']:,} records wait to be recorded again")
    for row in document["unplaced"]:
        say(folded(f"  not recorded again: {row['record']}: {row['reason']}", indent=4))
    if document["needs_agreement"]:
        say(folded("  Both sides lost records. If no other copy turns up, people at both run"
                   " tally recover --agree and go on with what is left.", indent=2))  # fmt: skip
