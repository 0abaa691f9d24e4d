"""Gossip's vectors, computed anew from docs/formats.md with arithmetic of our own.

Nothing of the package is used but for reading items: curves are Python integers here, and the
cipher's output is checked by opening it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.signing import VerifyKey

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "gossip.json").read_text()
)
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def _add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P
    return x, y


def _times(number: int, point: Point) -> Point:
    made = (0, 1)
    while number:
        if number & 1:
            made = _add(made, point)
        point, number = _add(point, point), number >> 1
    return made


def _point(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0
    return (P - x if x & 1 != sign else x), y


def _bytes(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _private(seed: bytes) -> int:
    number = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    return number & (2**254 - 8) | 2**254


def _expand(key: bytes, label: str, *parts: bytes) -> bytes:
    text = b"tallystick/v1 gossip " + label.encode() + b"\n" + b"".join(parts) + b"\x01"
    return hmac.digest(key, text, "sha256")


BASE = _point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
SEEDS = [bytes.fromhex(seed) for seed in VECTORS["transport_seeds"]]
PUBLIC = [_bytes(_times(_private(seed), BASE)) for seed in SEEDS]
SECRET = bytes.fromhex(VECTORS["secret"])


def _veil(secret: bytes, publisher: bytes, about: str, epoch: int) -> bytes:
    return _expand(secret, "veil", publisher, about.encode(), epoch.to_bytes(8, "big"))


def _factor(veil: bytes) -> int:
    wide = _expand(veil, "factor") + _expand(veil, "factor, more")
    return int.from_bytes(wide, "little") % ORDER


def _rank(veil: bytes, size: int) -> int:
    scale = _expand(veil, "scale")
    low, room = int.from_bytes(scale[1:9], "big") // 4, 2 ** (48 + scale[0] % 14)
    count = 2**42
    bits = f"{size:042b}"
    for at, bit in enumerate(bits):
        below = 42 - at // 3 * 3
        places = _expand(veil, "slope", bytes([below]), (size >> below).to_bytes(8, "big"))
        before = bits[at // 3 * 3 : at]
        node = 2 ** len(before) - 1 + int(before or "0", 2)
        place = int.from_bytes(places[4 * node : 4 * node + 4], "big")
        count //= 2
        left = count + (room - 2 * count) * (2**31 + place) // 2**33
        low, room = (low, left) if bit == "0" else (low + left, room - left)
    return low


def test_the_secret() -> None:
    """X25519 is multiplication on the curve's other form, of which only one coordinate counts."""
    _, y = _times(_private(SEEDS[0]), _point(PUBLIC[1]))
    shared = ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")
    extracted = hmac.digest(bytes.fromhex(VECTORS["channel"]), shared, "sha256")
    assert _expand(extracted, "channel", *sorted(PUBLIC)) == SECRET


def test_the_epoch() -> None:
    shift = int.from_bytes(_expand(SECRET, "shift")[:8], "big") % 86_400
    assert (VECTORS["time_s"] + shift) // 604_800 == VECTORS["epoch"]


@pytest.mark.parametrize("number", range(4))
def test_veils(number: int) -> None:
    made = VECTORS["veils"][number]
    publisher = bytes.fromhex(made["publisher"])
    assert publisher in PUBLIC
    veil = _veil(SECRET, publisher, made["about"], VECTORS["epoch"])
    pseudonym = _bytes(_times(_factor(veil), _point(publisher)))
    assert pseudonym.hex() == made["pseudonym"]
    assert {size: str(_rank(veil, int(size))) for size in made["ranks"]} == made["ranks"]
    commitment = _expand(veil, "commitment", (1).to_bytes(8, "big"), bytes(32))
    assert commitment.hex() == made["commitment_of_1_and_zeros"]


def _check(item: str, veil: bytes, epoch: int, head: bytes) -> None:
    found = msgspec.msgpack.decode(bytes.fromhex(item))
    said_epoch, pseudonym, rank, commitment, sealed, signature = found
    size = int.from_bytes(head[:8], "big")
    assert said_epoch == epoch
    assert rank == _rank(veil, size)
    assert commitment == _expand(veil, "commitment", head[:8], head[8:40])
    assert sealed[:24] == _expand(veil, "nonce", head)[:24]
    opened = crypto_aead_xchacha20poly1305_ietf_decrypt(
        sealed[24:], pseudonym, sealed[:24], _expand(veil, "seal")
    )
    assert opened == head
    text = b"tallystick/v1 gossip item\n" + epoch.to_bytes(4, "big") + pseudonym
    text += rank.to_bytes(8, "big") + commitment + sealed
    VerifyKey(pseudonym).verify(text, signature)
    # And by the equation itself: S·B = R + h·pseudonym.
    hashed = hashlib.sha512(signature[:32] + pseudonym + text).digest()
    challenge = int.from_bytes(hashed, "little") % ORDER
    left = _times(int.from_bytes(signature[32:], "little"), BASE)
    assert left == _add(_point(signature[:32]), _times(challenge, _point(pseudonym)))


@pytest.mark.parametrize("cosigned", [True, False])
def test_items(cosigned: bool) -> None:
    told = VECTORS["head"]
    cosignature = bytes.fromhex(told["cosignature"]) if cosigned else bytes(72)
    head = told["size"].to_bytes(8, "big") + bytes.fromhex(told["root"])
    head += bytes.fromhex(told["signature"]) + cosignature
    veil = _veil(SECRET, PUBLIC[0], "provider", VECTORS["epoch"])
    name = "item" if cosigned else "item_without_cosignature"
    _check(VECTORS[name], veil, VECTORS["epoch"], head)


def test_presence() -> None:
    told = VECTORS["presence"]
    secret = _expand(bytes.fromhex(told["seed"]), "presence")
    assert secret.hex() == told["secret"]
    head = told["at_ms"].to_bytes(8, "big") + bytes.fromhex(told["incarnation"])
    head += told["generation"].to_bytes(16, "big") + bytes(64 + 72)
    _check(told["item"], _veil(secret, PUBLIC[0], "presence", told["epoch"]), told["epoch"], head)
