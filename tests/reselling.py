"""A reseller between a supplier and two customers: channels in memory, and proofs out of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from builders import DAY_US, OCTOBER_US, Channel, Closed, meter

from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import Vkey
from tallystick.protocol.passthrough import Amount, ResaleMap, ResoldMeter, compare_sides
from tallystick.protocol.passthrough_proof import (
    Direction,
    PassthroughProof,
    Section,
    build_proof,
    build_section,
    encode_passthrough,
    proof_digest,
    seal_of,
)
from tallystick.protocol.records import ROLES

SUPPLIER, RESELLER, CUSTOMER, OTHER = (
    "cloud.example",
    "broker.example",
    "beta.example",
    "gamma.example",
)
UP_METER = meter("gpu-hours", unit="GPU-hour", scale=3, source="provider")
SPARE_METER = meter("spare", unit="GPU-hour", scale=2, source="provider")
DOWN_METER = meter("hours", unit="GPU-hour", scale=2, source="provider")


@dataclass(frozen=True)
class Resold:
    """The three channels, October closed in each."""

    upstream: Channel
    customer: Channel
    other: Channel

    @property
    def keys(self) -> list[Vkey]:
        """The log keys of all three."""
        return [key for c in (self.upstream, self.customer, self.other) for key in log_keys(c)]

    def proof(self) -> bytes:
        """The proof of what the customer bought: of two subjects upstream."""
        return encode_passthrough(build_proof("2026-10", [*self.bought(), *self.sold()]))

    def seal(self) -> bytes:
        """The seal on it for the customer."""
        return encode_passthrough(seal_of(self.proof(), self.customer.id))

    def bought(self, *subjects: str) -> list[Section]:
        return [section("bought", self.upstream.closed[0], *(subjects or ("p1", "p2")))]

    def sold(self, *subjects: str) -> list[Section]:
        return [section("sold", self.customer.closed[0], *(subjects or ("assistant",)))]


def section(direction: Direction, closed: Closed, *subjects: str) -> Section:
    """The lines of these subjects in a closed period."""
    lines = [line for line in closed.lines if line.subject in subjects]
    return build_section(direction, closed.lines, lines, closed.note)


def log_keys(channel: Channel) -> list[Vkey]:
    """The keys of both logs of a channel."""
    return [Keyring(channel.terms).log_vkeys(role)[0] for role in ROLES]


def resold() -> Resold:
    """12.500 GPU-hours of p1 and 0.250 of p2 are sold as 12.75 of one customer's assistant; 7.000
    of p3 as 7.00 of another's.
    """
    up = Channel([UP_METER], parties=(SUPPLIER, RESELLER))
    customer = Channel([DOWN_METER], parties=(RESELLER, CUSTOMER))
    other = Channel([DOWN_METER], parties=(RESELLER, OTHER))
    for n, (subject, quantity) in enumerate((("p1", 12_500), ("p2", 250), ("p3", 7_000))):
        at = OCTOBER_US + n * DAY_US
        up.provider_log.delta(f"u{n}", "gpu-hours", quantity, at, subject)
    customer.provider_log.delta("d0", "hours", 1275, OCTOBER_US, "assistant")
    customer.provider_log.delta("d1", "hours", 1, OCTOBER_US, "trial")
    other.provider_log.delta("d0", "hours", 700, OCTOBER_US, "assistant")
    for channel in (up, customer, other):
        channel.close(OCTOBER_US)
    return Resold(up, customer, other)


@dataclass(frozen=True)
class Sale:
    """A proof, a seal on it, and the keys that are expected."""

    proof: bytes
    seal: bytes
    keys: list[Vkey]


def wrong_proofs() -> Iterator[Sale]:
    """Proofs in which every signature is genuine, and something else is not as it should be."""
    world = resold()
    stranger = Channel([DOWN_METER], parties=("mallory.example", CUSTOMER))
    stranger.provider_log.delta("d0", "hours", 1275, subject="assistant")
    second = Channel([UP_METER], parties=("nimbus.example", RESELLER))
    second.provider_log.delta("u0", "gpu-hours", 250, subject="p9")
    cores = Channel(
        [meter("hours", unit="core-hour", scale=2, source="provider")], parties=(RESELLER, CUSTOMER)
    )
    cores.provider_log.delta("d0", "hours", 1275, subject="assistant")
    several = Channel([DOWN_METER, SPARE_METER], parties=(RESELLER, CUSTOMER))
    several.provider_log.delta("d0", "hours", 1200, subject="assistant")
    several.provider_log.delta("d1", "spare", 75, subject="assistant")
    for channel in (stranger, second, cores, several):
        channel.close()
    bought, sold = world.bought(), world.sold()
    for period, sections in (
        ("2026-10", [*world.bought("p1"), *sold]),  # sums
        ("2026-11", [*bought, *sold]),  # another period
        ("2026-W41", [*bought, *sold]),
        ("2026-10-32", [*bought, *sold]),  # none at all
        ("2026-10", [*bought, section("sold", stranger.closed[0], "assistant")]),
        ("2026-10", [*bought, section("bought", second.closed[0], "p9"), *sold]),
        ("2026-10", [*bought, section("sold", cores.closed[0], "assistant")]),
        ("2026-10", [*bought, section("sold", several.closed[0], "assistant")]),
        ("2026-10", [replace(bought[0], lines=bought[0].lines[::-1]), *sold]),  # order
        ("2026-10", [*bought, *bought, *sold]),  # twice
        ("2026-10", [replace(bought[0], direction="sold"), *sold]),  # nothing bought
    ):
        proof = encode_passthrough(build_proof(period, sections))
        own = [one for one in sections if one.direction == "sold"][:1]
        seal = encode_passthrough(PassthroughProof(period, tuple(own), proof_digest(proof)))
        keys = [key for channel in (stranger, second, cores, several) for key in log_keys(channel)]
        yield Sale(proof, seal, [*world.keys, *keys])


def files() -> dict[str, bytes]:
    """The vectors' files: the proof and the seal on it."""
    world = resold()
    return {"resold.passthrough": world.proof(), "resold.seal": world.seal()}


def document(made: dict[str, bytes]) -> dict[str, Any]:
    """What there is to know of them, and what differences are made of."""
    return {
        "keys": [str(key) for key in resold().keys],
        "proof": {
            "file": "resold.passthrough",
            "sha256": proof_digest(made["resold.passthrough"]).hex(),
        },
        "seal": {"file": "resold.seal", "customer": CUSTOMER},
        "classes": [
            {
                "upstream": [msgspec.to_builtins(line) for line in bought],
                "downstream": [msgspec.to_builtins(line) for line in sold],
                "classes": compare_sides(
                    "2026-10", ResaleMap(), [ResoldMeter("m", "m", "token", 3)], bought, sold
                )[0].classes,
            }
            for bought, sold in _CASES
        ],
    }


def _line(side: str, of: str, here: bool, *parts: int, scale: int = 3) -> Amount:
    return Amount(side, "m", "s", of, here, *parts, deltas=2, scale=scale)


_NOW, _BEFORE = "2026-10", "2026-09"
_CASES = [
    ([_line("up", _NOW, True, 5, 0, 0)], []),
    ([_line("up", _NOW, True, 9, 0, 0)], [_line("down", _NOW, True, 9, 0, -4)]),
    (
        [_line("up", _NOW, True, 9, 0, 0)],
        [_line("down", _NOW, True, 7, 0, 0), _line("down", _NOW, False, 1, 0, 0)],
    ),
    (
        [_line("up", _BEFORE, False, 9, 0, 0), _line("up", _BEFORE, True, 0, -2, 0)],
        [_line("down", _BEFORE, False, 9, 0, 0)],
    ),
    (
        [_line("up", _BEFORE, False, 9, 0, 0)],
        [_line("down", _BEFORE, False, 12, 0, 0), _line("down", _BEFORE, True, 0, -3, 0)],
    ),
    ([_line("up", _NOW, True, 1236, 0, 0)], [_line("down", _NOW, True, 113, 0, 0, scale=2)]),
]
