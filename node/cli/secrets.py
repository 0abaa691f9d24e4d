"""Where verbs take the seed and its passphrase from: a file descriptor, a file, a terminal."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.home import Home

PASSPHRASE_FILE, SEED_FILE = "TALLYSTICK_PASSPHRASE_FILE", "TALLYSTICK_SEED_FILE"
PASSPHRASE_BYTES_MIN = 8


def secret_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a verb that needs the seed."""
    for option in (
        click.option(
            "--seed-fd", type=click.IntRange(0), metavar="N", help="Read the seed from there."
        ),
        click.option(
            "--passphrase-fd",
            type=click.IntRange(0),
            metavar="N",
            help="Read the seed's passphrase from this file descriptor.",
        ),
    ):
        function = option(function)
    return function


def outside_seed(seed_fd: int | None) -> tuple[str, str] | None:
    """The text of a seed that is handed in from outside the home, and where it came from."""
    from tallystick.node.seed import read_descriptor, read_secret, seed_text

    if seed_fd is not None:
        what = f"what file descriptor {seed_fd} gave"
        return seed_text(read_descriptor(seed_fd), what), what
    if path := os.environ.get(SEED_FILE):
        return seed_text(read_secret(Path(path)), path), path
    return None


def find_seed(home: Home, passphrase_fd: int | None, seed_fd: int | None) -> bytes:
    """The seed: from outside if it is handed in, else the home's; decrypted if need be."""
    from tallystick.node.errors import HomeError

    outside = outside_seed(seed_fd)
    if outside is not None:
        return open_seed(*outside, passphrase_fd)
    text = home.seed_text()
    if text is None:
        raise HomeError(
            f"the home {home.path} holds no seed", f"Hand it in with --seed-fd, or by {SEED_FILE}"
        )
    return open_seed(text, str(home.path / "seed"), passphrase_fd)


def open_seed(text: str, what: str, passphrase_fd: int | None) -> bytes:
    """The seed of a text, plain or encrypted."""
    from tallystick.node.seed import decrypt_seed, is_encrypted, parse_seed

    if not is_encrypted(text):
        return parse_seed(text, what)
    return decrypt_seed(text, known_passphrase(passphrase_fd), what)


def known_passphrase(descriptor: int | None) -> bytes:
    """The passphrase that is in use."""
    from tallystick.node.seed import passphrase_of, read_descriptor, read_secret

    if descriptor is not None:
        return passphrase_of(read_descriptor(descriptor), f"file descriptor {descriptor}")
    if path := os.environ.get(PASSPHRASE_FILE):
        return passphrase_of(read_secret(Path(path)), path)
    if not sys.stdin.isatty():
        raise InputError(
            "the seed is encrypted, and there is no terminal to ask for its passphrase",
            f"Hand it in with --passphrase-fd, or by {PASSPHRASE_FILE}",
        )
    answer: str = click.prompt("Passphrase", hide_input=True, err=True)
    return answer.encode()


def new_passphrase(descriptor: int | None) -> bytes:
    """A passphrase that is to be used from now on; on a terminal it is asked for twice."""
    from tallystick.node.seed import passphrase_of, read_descriptor

    if descriptor is not None:
        chosen = passphrase_of(read_descriptor(descriptor), f"file descriptor {descriptor}")
    elif sys.stdin.isatty():
        answer: str = click.prompt(
            "New passphrase", hide_input=True, confirmation_prompt="Again", err=True
        )
        chosen = answer.encode()
    else:
        raise InputError(
            "there is no terminal to ask for a new passphrase", "Hand it in by a file descriptor"
        )
    if len(chosen) < PASSPHRASE_BYTES_MIN:
        raise InputError(
            f"the passphrase is shorter than {PASSPHRASE_BYTES_MIN} bytes",
            "A few words that do not belong together are a good one",
        )
    return chosen


def encrypted(seed: bytes, passphrase: bytes) -> str:
    """The seed's text under a passphrase, with fresh randomness."""
    from tallystick.node.seed import NONCE_SIZE, SALT_SIZE, encrypt_seed

    salt, nonce = secrets.token_bytes(SALT_SIZE), secrets.token_bytes(NONCE_SIZE)
    return encrypt_seed(seed, passphrase, salt, nonce)
