"""tally init and vkey: a home and its keys."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import print_json, say
from tallystick.node.cli.secrets import (
    encrypted,
    new_passphrase,
    open_seed,
    outside_seed,
    secret_options,
)
from tallystick.protocol.errors import InputError
from tallystick.protocol.keys import ED25519_COSIGNATURE, SEED_SIZE, Vkey


@verb("init")
@click.option("--name", required=True, help="Your party's name, like a domain: acme.example")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase and encrypt the seed.")
@click.option("--no-seed-in-home", is_flag=True, help="Keep the given seed out of the home.")
@secret_options
def init(
    context: Context,
    name: str,
    passphrase: bool,
    no_seed_in_home: bool,
    passphrase_fd: int | None,
    seed_fd: int | None,
) -> None:
    """Make a home: a seed, the keys derived from it, a store, a configuration file.

    A seed that is handed in by --seed-fd or TALLYSTICK_SEED_FILE stays outside the home, unless a
    new passphrase is to encrypt it there.
    """
    from tallystick.node.home import make_home
    from tallystick.node.seed import is_encrypted
    from tallystick.node.store.disk import Store
    from tallystick.protocol.keys import Identity

    given = outside_seed(seed_fd)
    known = given is not None and is_encrypted(given[0])  # its passphrase is not a new one
    lock = passphrase or (passphrase_fd is not None and not known)
    if no_seed_in_home and (given is None or lock):
        raise InputError(
            "--no-seed-in-home needs a seed from outside, and no passphrase for it",
            "Hand it in with --seed-fd, or by TALLYSTICK_SEED_FILE",
        )
    seed = secrets.token_bytes(SEED_SIZE) if given is None else open_seed(*given, passphrase_fd)
    identity = Identity.from_seed(name, seed)
    text: str | None = f"{seed.hex()}\n" if given is None else None
    if lock:
        text = encrypted(seed, new_passphrase(None if known else passphrase_fd))
    home = make_home(context.home, identity, text)
    Store(home.store_path).close()
    cosigner = str(Vkey(name, ED25519_COSIGNATURE, identity.cosigner_key))
    if context.json:
        print_json({"name": name, "home": str(home.path), "cosigner": cosigner})
        return
    say(f"Made {home.path} for {name}.")
    say(f"  {cosigner}")
    where = "your seed" if text is None else home.path / "seed"
    context.hint(
        f"Keep a copy of {where} in a safe place: it is your identity.\n"
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
