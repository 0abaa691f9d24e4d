"""tally init and vkey: a home and its keys."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say
from tallystick.protocol.keys import ED25519_COSIGNATURE, SEED_SIZE, Vkey


@verb("init")
@click.option("--name", required=True, help="Your party's name, like a domain: acme.example")
def init(context: Context, name: str) -> None:
    """Make a home: a seed, the keys derived from it, a store, a configuration file."""
    from tallystick.node.home import create_home
    from tallystick.node.store.disk import Store

    home = create_home(context.home, name, secrets.token_bytes(SEED_SIZE))
    Store(home.store_path).close()
    identity = home.identity()
    cosigner = str(Vkey(name, ED25519_COSIGNATURE, identity.cosigner_key))
    if context.json:
        print_json({"name": name, "home": str(home.path), "cosigner": cosigner})
        return
    say(f"Made {home.path} for {name}.")
    say(f"  {cosigner}")
    context.hint(
        f"Keep a copy of {home.path / 'seed'} in a safe place: it is your identity.\n"
        f"Next: tally --home {home.path} run"
    )


@verb("vkey")
def vkey(context: Context) -> None:
    """Print the verifier keys of a channel: ours and the peer's."""
    from tallystick.node import queries

    with context.books() as books:
        if context.channel or books.channels:
            channel, _ = books.channels[books.select(context.channel)]
            keys = queries.vkeys(channel)
        else:
            own = books.identity
            cosigner = str(Vkey(own.name, ED25519_COSIGNATURE, own.cosigner_key))
            keys = {"log": None, "cosigner": cosigner, "peer_log": None, "peer_cosigner": None}
            keys |= {"earlier": {}, "waiting": []}
    if context.json:
        print_json(keys)
        return
    for name in ("log", "cosigner", "peer_log", "peer_cosigner"):
        if keys[name]:
            say(f"{name.replace('_', ' '):<14} {keys[name]}")
        for before in keys["earlier"].get(name, []):
            until = datetime.fromtimestamp(before["until"] / 1e6, UTC)
            say(f"  until {until:%Y-%m-%d %H:%M} UTC: {before['vkey']}")
    for job in keys["waiting"]:
        say(f"The peer has not repeated our newest {job} key yet.")
