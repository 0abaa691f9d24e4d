"""The known answers of gossip: what two parties make of one secret, and one item in full."""

from __future__ import annotations

from typing import Any

from nacl.signing import SigningKey

from tallystick.protocol.blinding import (
    About,
    Veil,
    channel_secret,
    epoch_at,
    presence_secret,
)
from tallystick.protocol.items import Item, encode_item
from tallystick.protocol.keys import derive_key

TIME_SECONDS = 1_796_000_000
SIZES = (0, 1, 2, 1000, 2**41, 2**42 - 1)


def gossip() -> dict[str, Any]:
    """Everything that another implementation computes to take part."""
    seeds = {name: bytes([name.encode()[0]]) * 32 for name in ("acme.example", "beta.example")}
    keys = {name: derive_key(seed, "transport") for name, seed in seeds.items()}
    acme, beta = keys.values()
    channel = bytes(range(32))
    secret = channel_secret(acme, bytes(beta.verify_key), channel)
    epoch = epoch_at(secret, TIME_SECONDS)
    presence = presence_secret(seeds["acme.example"])
    presence_epoch = epoch_at(presence, TIME_SECONDS)
    sayings: tuple[tuple[SigningKey, About], ...] = (
        (acme, "provider"),
        (acme, "consumer"),
        (beta, "provider"),
        (beta, "consumer"),
    )
    head = bytes(range(100, 132)), bytes(range(64)), bytes(range(72))
    veil = Veil(secret, bytes(acme.verify_key), "provider", epoch)
    there = Veil(presence, bytes(acme.verify_key), "presence", presence_epoch)
    return {
        "channel": channel.hex(),
        "transport_seeds": [bytes(key).hex() for key in (acme, beta)],
        "secret": secret.hex(),
        "time_s": TIME_SECONDS,
        "epoch": epoch,
        "veils": [
            _veil(Veil(secret, bytes(key.verify_key), about, epoch), about)
            for key, about in sayings
        ],
        "head": {
            "size": 374,
            "root": head[0].hex(),
            "signature": head[1].hex(),
            "cosignature": head[2].hex(),
        },
        "item": _item(veil.make(acme, 374, *head)),
        "item_without_cosignature": _item(veil.make(acme, 374, *head[:2])),
        "presence": {
            "seed": seeds["acme.example"].hex(),
            "secret": presence.hex(),
            "epoch": presence_epoch,
            "at_ms": 1000 * TIME_SECONDS,
            "incarnation": bytes(range(16)).hex(),
            "generation": 3,
            "item": _item(there.make_presence(acme, 1000 * TIME_SECONDS, bytes(range(16)), 3)),
        },
    }


def _veil(veil: Veil, about: About) -> dict[str, Any]:
    return {
        "publisher": veil.publisher.hex(),
        "about": about,
        "pseudonym": veil.pseudonym.hex(),
        "ranks": {str(size): str(veil.rank(size)) for size in SIZES},
        "commitment_of_1_and_zeros": veil.commitment(1, bytes(32)).hex(),
    }


def _item(item: Item) -> str:
    return encode_item(item).hex()
