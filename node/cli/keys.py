"""tally rotate-key and passphrase: the next key for a job, and what locks the seed of all."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.durations import seconds
from tallystick.node.cli.output import print_json, say
from tallystick.node.cli.secrets import encrypted, known_passphrase, new_passphrase
from tallystick.protocol.errors import InputError


@verb("rotate-key")
@click.argument("job", type=click.Choice(["log", "cosigner", "transport"]))
@click.option(
    "--overlap", default="7d", show_default=True, help="How long the key before still counts."
)
def rotate_key(context: Context, job: str, overlap: str) -> None:
    """Change a key: log (signs heads and checkpoints), cosigner, or transport (TLS).

    All channels get the next key, or the one of --channel. Nothing stops meanwhile, and what the
    key before signed stays proved.
    """
    done = context.call(
        "rotate", channel=context.channel, job=job, overlap_seconds=seconds(overlap)
    )
    if context.json:
        print_json({"rotations": done})
        return
    for one in done:
        until = datetime.fromtimestamp(one["old_until"] / 1e6, UTC)
        say(f"channel {one['channel'][:8]} with {one['peer']}: {job} key {one['number']}")
        say(f"  {one['key']}")
        say(f"  the key before it counts until {until:%Y-%m-%d %H:%M} UTC")
        if not one["repeated"]:
            say("  recorded; the peer's node repeats it when it is back")


@verb("passphrase")
@click.argument("action", type=click.Choice(["set", "change", "remove"]))
@click.option(
    "--passphrase-fd",
    type=click.IntRange(0),
    metavar="N",
    help="Read the passphrase until now from there.",
)
@click.option(
    "--new-passphrase-fd",
    type=click.IntRange(0),
    metavar="N",
    help="Read the new passphrase from there.",
)
def passphrase(
    context: Context, action: str, passphrase_fd: int | None, new_passphrase_fd: int | None
) -> None:
    """Encrypt the home's seed under a passphrase, change that, or decrypt the seed again.

    The node may run meanwhile; it reads the seed when it starts.
    """
    from tallystick.node.errors import HomeError
    from tallystick.node.seed import decrypt_seed, is_encrypted, parse_seed

    home = context.open_home()
    file, text = str(home.path / "seed"), home.seed_text()
    if text is None:
        raise HomeError(f"the home {home.path} holds no seed", "Its owner keeps it elsewhere")
    if is_encrypted(text) == (action == "set"):
        raise InputError(
            "the seed is encrypted already" if action == "set" else "the seed is not encrypted",
            f"See: tally passphrase {'change' if action == 'set' else 'set'}",
        )
    if action == "set":
        seed = parse_seed(text, file)
    else:
        seed = decrypt_seed(text, known_passphrase(passphrase_fd), file)
    home.unlock(seed)
    if action == "remove":
        home.replace_seed(f"{seed.hex()}\n")
    else:
        home.replace_seed(encrypted(seed, new_passphrase(new_passphrase_fd)))
    said = {"set": "encrypted", "change": "encrypted anew", "remove": "no longer encrypted"}[action]
    if context.json:
        print_json({"seed": file, "encrypted": action != "remove"})
        return
    say(f"{file} is {said}.")
