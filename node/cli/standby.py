"""tally standby and promote: a second node that mirrors the first, and how it takes over."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb, verbs
from tallystick.node.cli.output import folded, print_json, say
from tallystick.node.cli.secrets import find_seed, open_seed, outside_seed, secret_options
from tallystick.node.cli.standing import standby_document, standby_lines
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.home import Home

WAIT_SECONDS = 60.0


@verbs("standby")
def command(context: Context) -> None:
    """Show how this node and its standby stand to each other, or make a standby's home."""
    _show(context)


@verb("init")
@click.option("--name", required=True, help="The party's name, as its first node has it.")
@click.option(
    "--primary", required=True, metavar="HOST:PORT", help="Where peers connect to the first node."
)
@click.option(
    "--seed-file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="The first node's seed, as a file: it is copied into the home.",
)  # fmt: skip
@click.option("--no-seed-in-home", is_flag=True, help="Keep the seed out of the home.")
@secret_options
def init(
    context: Context,
    name: str,
    primary: str,
    seed_file: Path | None,
    no_seed_in_home: bool,
    passphrase_fd: int | None,
    seed_fd: int | None,
) -> None:
    """Make the home of a standby: the party's seed, and where its first node is.

    The seed is never sent: bring it here by hand, as --seed-file (a copy of the file seed in the
    first home, plain or under its passphrase), by --seed-fd, or by TALLYSTICK_SEED_FILE.
    """
    from tallystick.node.home import make_home
    from tallystick.node.seed import read_secret, seed_text
    from tallystick.node.standby.mode import mark_standby
    from tallystick.node.store.disk import Store
    from tallystick.node.transport.tls import parse_address
    from tallystick.protocol.keys import Identity

    parse_address(primary)
    if seed_file is not None:
        given = seed_text(read_secret(seed_file), str(seed_file)), str(seed_file)
    else:
        found = outside_seed(seed_fd)
        if found is None:
            raise InputError("a standby needs the seed of its party", "Give it: --seed-file FILE")
        given = found
    identity = Identity.from_seed(name, open_seed(*given, passphrase_fd))
    home = make_home(context.home, identity, None if no_seed_in_home else given[0])
    mark_standby(home, primary)
    Store(home.store_path).close()
    if context.json:
        print_json({"name": name, "home": str(home.path), "primary": primary})
        return
    say(f"Made {home.path}, a standby of {name} at {primary}.")
    context.hint(
        "The first node must allow it: in its config.toml, under [standby], serve = true.\n"
        "Copy other settings that you changed there into this home's config.toml, too.\n"
        f"Next: tally --home {home.path} run"
    )


def _show(context: Context) -> None:
    document = standby_document(context.open_home(), context.ask("live"))
    if context.json:
        print_json(document)
        return
    for line in standby_lines(document):
        say(folded(line, 2))
    if document["role"] == "none":
        context.hint("To have one: [standby] serve = true here, and tally standby init there.")


@verb("promote")
@click.option("--claim", is_flag=True, help="For a home that is no standby's: see docs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@secret_options
def promote(
    context: Context, claim: bool, yes: bool, passphrase_fd: int | None, seed_fd: int | None
) -> None:
    """Let the standby in this home take over from the first node.

    Its party's peers refuse the first node from the moment on when they hear of this one. What the
    first node acknowledged and this one does not have is lost, unless a peer has it: see tally
    standby, and the setting standby.wait.

    With --claim, a home that was restored or recovered, after the newest node of its party was
    lost, is made the newest; its node must not run. Two homes with histories of their own convict
    their owner: claim only if all others are gone.
    """
    from tallystick.node.errors import NodeUnreachable
    from tallystick.node.standby.mode import check_not_superseded, primary_of

    home = context.open_home()
    check_not_superseded(home)
    primary = primary_of(home)
    if claim:
        _claim(context, home, primary, yes=yes)
        return
    if primary is None:
        raise InputError(
            f"the home {home.path} is no standby's",
            "Was it restored or recovered, and is every other home gone? tally promote --claim",
        )
    if not yes and sys.stdin.isatty():
        for line in standby_lines(standby_document(home, context.ask("live"))):
            say(folded(line, 2))
        click.confirm(f"Take over from the node at {primary}, which stops for good?", abort=True)
    running = True
    try:
        answer = context.call("promote")
    except NodeUnreachable:
        answer, running = _promote_here(home, passphrase_fd, seed_fd), False
    ready = running and _await_node(context)
    if context.json:
        print_json({**answer, "running": ready})
        return
    say(f"This home has taken over: generation {answer['generation']}.")
    if answer["primary_stopped"]:
        say("The first node was told; it has stopped, and handed over all that it had.")
    else:
        say("The first node was not reached; its peers refuse it once they hear of this one.")
    if ready:
        context.hint("Signing begins with each peer once it has answered: see tally status")
    else:
        context.hint(f"Next: tally --home {home.path} run")


def _claim(context: Context, home: Home, primary: str | None, *, yes: bool) -> None:
    """Begin a generation for a home that is no standby's."""
    from tallystick.node.books import clock_us
    from tallystick.node.standby.promoting import begin_generation, generation_of
    from tallystick.node.store.disk import Store
    from tallystick.protocol.generation import next_generation

    if primary is not None:
        raise InputError("this is a standby's home", "Promote it without --claim")
    if not yes and sys.stdin.isatty():
        click.confirm("Is every other home of this party gone for good?", abort=True)
    with home.lock():
        store = Store(home.store_path)
        try:
            with store.read() as txn:
                generation = next_generation(generation_of(txn), clock_us())
            begin_generation(store, generation)
        finally:
            store.close()
    if context.json:
        print_json({"generation": generation, "primary_stopped": False, "running": False})
        return
    say(f"This home is the newest of its party: generation {generation}.")
    context.hint(f"Next: tally --home {home.path} run")


def _promote_here(home: Home, passphrase_fd: int | None, seed_fd: int | None) -> dict[str, Any]:
    """The same while no process runs in the home."""
    from tallystick.node.books import clock_us
    from tallystick.node.standby.promoting import check_mirrored, new_generation, take_over
    from tallystick.node.store.disk import Store

    with home.lock():
        identity = home.unlock(find_seed(home, passphrase_fd, seed_fd))
        store = Store(home.store_path)
        try:
            check_mirrored(store)
            generation, _ = new_generation(identity, store, clock_us())
            take_over(home, store, generation)
        finally:
            store.close()
    return {"generation": generation, "primary_stopped": False}


def _await_node(context: Context) -> bool:
    """Whether the process serves as a node within a while."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        live = context.ask("live")
        if live is not None and (live["standby"] or {}).get("role") != "standby":
            return True
        time.sleep(0.1)
    return False


command.add_command(init)
