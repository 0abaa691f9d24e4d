"""What a home is: a node's own, a standby's, or one that another node took over from.

`standby` in a home names the primary that it mirrors; `superseded` holds the generation that took
over, with its proof. Both are files, for they must hold even where the store cannot be written.
"""

from __future__ import annotations

from tallystick.node.errors import HomeError
from tallystick.node.files import PRIVATE, sync, write_whole
from tallystick.node.home import Home
from tallystick.protocol.errors import InputError, ProofError
from tallystick.protocol.generation import verify_generation
from tallystick.protocol.keys import Identity

STANDBY_FILE, SUPERSEDED_FILE = "standby", "superseded"
_PRIMARY = r"primary (\S+)\n"
_SUPERSEDED = r"generation ([1-9][0-9]{0,18})\n(?:proof [0-9a-f]{128}\n)?"
_DAMAGED = "Do not remove it before you know what it said"


def primary_of(home: Home) -> str | None:
    """Where the primary is that this home mirrors; None if the home is no standby's."""
    match = home.said_in(STANDBY_FILE, _PRIMARY, "where the primary is", _DAMAGED)
    return match[1] if match else None


def mark_standby(home: Home, primary: str) -> None:
    """Make a home a standby's."""
    write_whole(home.path / STANDBY_FILE, f"primary {primary}\n".encode(), PRIVATE)


def mark_promoted(home: Home) -> None:
    """Make a standby's home a node's own."""
    (home.path / STANDBY_FILE).unlink()
    sync(home.path)


def superseded_by(home: Home) -> int | None:
    """With which generation another node of the party took over from this home, if one did."""
    match = home.said_in(SUPERSEDED_FILE, _SUPERSEDED, "a generation", _DAMAGED)
    return int(match[1]) if match else None


def mark_superseded(home: Home, identity: Identity, generation: int, proof: bytes | None) -> bool:
    """Stop this home for good, durably, if the party itself says so; whether it does. Without a
    `proof` the party was heard saying it.
    """
    text = f"generation {generation}\n"
    if proof is not None:
        try:
            verify_generation(identity.name, identity.cosigner_key, generation, proof)
        except ProofError:
            return False
        text += f"proof {proof.hex()}\n"
    write_whole(home.path / SUPERSEDED_FILE, text.encode(), PRIVATE)
    return True


def check_not_superseded(home: Home) -> None:
    """`HomeError` if another node took over from this home."""
    found = superseded_by(home)
    if found is not None:
        raise HomeError(
            f"another node of {home.name} took over from this home (generation"
            f" {found}): it signs nothing any more",
            "To have a standby here, make a new home: tally --home NEW standby init"
            f" --name {home.name} --primary HOST:PORT of the node that took over",
        )


def check_kept_here(home: Home) -> None:
    """`InputError` if a home is a standby's, whose API keys and endpoints are its primary's."""
    primary = primary_of(home)
    if primary is not None:
        raise InputError(
            f"this is the home of a standby, which has the API keys and endpoints of {primary}",
            "Change them there: they are mirrored",
        )
