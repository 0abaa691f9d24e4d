"""What a node's gossip is given and what it gives: limits, events, what goes out, figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tallystick.protocol.items import Carried, Conflict, Item

OWN = ""  # stands where a neighbour would, for what is ours; no neighbour has an empty name
ROUND_SECONDS = 2.0  # how often `round` is to be called

Reason = Literal["quota", "busy", "epoch", "signature", "conflict", "barred"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a node's gossip. `spacing` says how long news of one pseudonym waits for more,
    by the hops that it made: so many seconds for each time that it is passed on, after two that
    may be close together. What is new or contradicts what was held waits for nothing.
    """

    items: int = 20_000  # that are kept for others, counted once for each account that keeps them
    items_a_neighbour: int = 0  # that are kept if this is more for all that were here together
    conflicts: int = 500
    fanout: int = 4  # neighbours that an item is passed on to
    spacing: tuple[float, ...] = (10.0, 60.0, 180.0, 600.0)
    stem: float = 6.0  # seconds at most until an own item goes to more than one neighbour
    neighbours_a_round: int = 200  # that are sent what can wait
    items_a_round: int = 40  # to one neighbour
    conflicts_a_round: int = 4
    items_a_minute: int = 2_000  # from one neighbour
    relays_a_minute: int = 240  # that are passed on for one neighbour
    relays_at_once: int = 4_000  # the same, after it was quiet
    checks_a_second: int = 2_000  # of signatures, for all neighbours together
    barred: float = 600.0  # seconds that a neighbour is not listened to after a false signature
    waiting: int = 100_000  # items that wait to be sent, or to be passed on, in all


@dataclass(frozen=True, slots=True)
class Heard:
    """An item of a watched pseudonym that says something else than what was held.

    `newer` is false if a larger rank was held before: its publisher went back, or is there twice.
    """

    item: Item
    neighbour: str
    newer: bool


@dataclass(frozen=True, slots=True)
class Conflicted:
    """Two items contradict each other. `neighbour` brought what showed it."""

    conflict: Conflict
    neighbour: str
    watched: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """What a neighbour sent was not taken. For `signature` and `conflict` it lied, for nobody
    passes on what he did not verify, and then it is `barred` for a while; the rest is the way of
    things.
    """

    neighbour: str
    reason: Reason


Event = Heard | Conflicted | Refused


@dataclass(slots=True)
class Batch:
    """What goes to one neighbour in one round."""

    items: list[Carried] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stats:
    """How much is held and waits, and how often what was refused."""

    items: int
    kept: int  # for others, as `Limits.items` counts
    conflicts: int
    waiting: int
    unsent: int  # that found no room to wait
    refused: dict[Reason, int]
