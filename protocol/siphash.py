"""SipHash-2-4 of many short messages at once: the keyed hash of reconciliation sessions.

Messages are whole 8-byte words, one array of words for each place in the message, so the hash of a
million messages is a few passes of numpy over a million words. The values are those of the
published function (Aumasson and Bernstein, 2012) on the words' little-endian bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

KEY_SIZE = 16
CHUNK = 1 << 16  # messages that are hashed together: their state stays in the processor's cache

Words = npt.NDArray[np.uint64]


def siphash(key: bytes, words: Sequence[Words]) -> Words:
    """The hash of each message. `words[i][n]` is word i of message n; the key has 16 bytes."""
    assert len(key) == KEY_SIZE
    made = np.empty(len(words[0]), np.uint64)
    for start in range(0, len(made), CHUNK):
        stop = start + CHUNK
        made[start:stop] = _hash(key, [word[start:stop] for word in words])
    return made


def _hash(key: bytes, words: Sequence[Words]) -> Words:
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    count = len(words[0])
    v0, v1, v2, v3 = (
        np.full(count, start, np.uint64)
        for start in (
            k0 ^ 0x736F6D6570736575,
            k1 ^ 0x646F72616E646F6D,
            k0 ^ 0x6C7967656E657261,
            k1 ^ 0x7465646279746573,
        )
    )
    scratch = np.empty(count, np.uint64)
    last = np.full(1, (8 * len(words) & 0xFF) << 56, np.uint64)
    for word in (*words, last):
        v3 ^= word
        for _ in range(2):
            _round(v0, v1, v2, v3, scratch)
        v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        _round(v0, v1, v2, v3, scratch)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: Words, v1: Words, v2: Words, v3: Words, scratch: Words) -> None:
    v0 += v1
    _rotate(v1, 13, scratch)
    v1 ^= v0
    _rotate(v0, 32, scratch)
    v2 += v3
    _rotate(v3, 16, scratch)
    v3 ^= v2
    v0 += v3
    _rotate(v3, 21, scratch)
    v3 ^= v0
    v2 += v1
    _rotate(v1, 17, scratch)
    v1 ^= v2
    _rotate(v2, 32, scratch)


def _rotate(value: Words, bits: int, scratch: Words) -> None:
    np.right_shift(value, np.uint64(64 - bits), out=scratch)
    np.left_shift(value, np.uint64(bits), out=value)
    value |= scratch
