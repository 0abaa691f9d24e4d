"""Taking over: a standby's home becomes a node's own, under a new generation.

The store is marked as a copy, so every channel is in doubt until its peer has spoken, and by then
the peer has fenced the old node.
"""

from __future__ import annotations

from tallystick.node.books import RESTORED, TAKEN_OVER
from tallystick.node.errors import StoreError
from tallystick.node.gossiping.presences import ROW as PRESENCE
from tallystick.node.gossiping.presences import stored_presence
from tallystick.node.home import Home
from tallystick.node.standby.following import Following
from tallystick.node.standby.marks import GENERATION, MIRRORED
from tallystick.node.standby.mode import mark_promoted
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import PresenceRow, encode_row
from tallystick.protocol.errors import InputError
from tallystick.protocol.generation import next_generation, prove_generation
from tallystick.protocol.keys import Identity


def generation_of(txn: Txn) -> int:
    """The generation of a store's home; 0 if nobody ever took over."""
    return int(txn.get("meta", GENERATION) or 0)


def check_mirrored(store: Store) -> None:
    """`InputError` if a standby's store never was what its primary's was."""
    with store.read() as txn:
        if txn.get("meta", MIRRORED) is None:
            raise InputError(
                "this standby has never had everything of its primary's: it cannot take over",
                "Recover from a backup or from the seed: tally restore, tally recover",
            )


def new_generation(identity: Identity, store: Store, now_us: int) -> tuple[int, bytes]:
    """The generation that follows a store's, and the party's signature on it."""
    with store.read() as txn:
        generation = next_generation(generation_of(txn), now_us)
    return generation, prove_generation(identity, generation)


async def promote(identity: Identity, following: Following, now_us: int) -> tuple[int, bool]:
    """Have a standby take over from its primary; the generation, and whether the primary was told.
    `InputError` if it cannot.
    """
    home, store = following.home, following.mirrored.store
    check_mirrored(store)
    if following.connected and following.catching_up:
        raise InputError(
            "the primary is there, and what this standby missed is on its way from it",
            "Promote it when tally standby says that it is in step, or stop the primary",
        )
    generation, proof = new_generation(identity, store, now_us)
    told = await following.hand_over(generation, proof)
    try:
        take_over(home, store, generation)
    except StoreError:
        following.go_on()
        raise
    return generation, told


def take_over(home: Home, store: Store, generation: int) -> None:
    """Make a standby's home a node's own, durably."""
    begin_generation(store, generation, TAKEN_OVER)
    mark_promoted(home)


def begin_generation(store: Store, generation: int, how: bytes = b"") -> None:
    """Have the node of a store speak with this generation, and with nothing certain."""

    def job(txn: Txn) -> None:
        said = stored_presence(txn)
        # That copies of the older generation were heard of is no matter any more.
        fresh = PresenceRow(max(said.said_ms, said.seen_ms))
        txn.put("meta", PRESENCE, encode_row(fresh))
        txn.put("meta", GENERATION, str(generation).encode())
        txn.put("meta", RESTORED, how)

    store.commit_now(job)
