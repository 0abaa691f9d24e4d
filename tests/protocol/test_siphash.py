"""SipHash-2-4: the published values, and many messages hashed as each alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.siphash import CHUNK, siphash

KEY = bytes(range(16))
WORDS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(("size", "expected"), [(8, "6224939a79f5f593"), (16, "db9bc2577fcc2a3f")])
def test_published_values(size: int, expected: str) -> None:
    words = np.frombuffer(bytes(range(size)), "<u8").astype(np.uint64)
    made = siphash(KEY, [words[place : place + 1] for place in range(len(words))])
    assert made.astype("<u8").tobytes().hex() == expected


@given(key=st.binary(min_size=16, max_size=16), word=WORDS)
def test_a_scalar_implementation_agrees(key: bytes, word: int) -> None:
    assert int(siphash(key, [np.array([word], np.uint64)])[0]) == _siphash(key, [word])


def test_chunks_change_nothing() -> None:
    words = np.arange(CHUNK + 3, dtype=np.uint64)
    made = siphash(KEY, [words, words])
    for place in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        assert int(made[place]) == _siphash(KEY, [place, place])


def _siphash(key: bytes, words: list[int]) -> int:
    """The function as its authors write it, a word at a time."""
    mask = 2**64 - 1
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]

    def rotated(value: int, bits: int) -> int:
        return (value << bits | value >> (64 - bits)) & mask

    def mix(rounds: int) -> None:
        for _ in range(rounds):
            v[0] = (v[0] + v[1]) & mask
            v[1] = rotated(v[1], 13) ^ v[0]
            v[0] = rotated(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = rotated(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = rotated(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = rotated(v[1], 17) ^ v[2]
            v[2] = rotated(v[2], 32)

    for word in [*words, len(words) * 8 << 56]:
        v[3] ^= word
        mix(2)
        v[0] ^= word
    v[2] ^= 0xFF
    mix(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
