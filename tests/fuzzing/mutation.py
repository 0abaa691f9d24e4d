"""Mutation without guidance: the same inputs from the same seeds, on any machine.

The long run leaves this to libFuzzer, which sees what each input reaches; the tests need inputs
that are the same every time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

INPUT_BYTES_MAX = 64 * 1024
_EDITS_MAX = 6
_TELLING = (
    b"\0", b"\n", b"\r\n", b"\n\n", b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80",
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 2000,
    b"[" * 2000, b'{"a":' * 2000, b"9" * 5000, b"0x" + b"f" * 5000, b"1e999999999", b"-0",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"NaN", b'"', b"'", b",",
    b"=", b"+", b"-", b".", b"0000", b"9999-12-31", b"0001-01-01", b"+23:59", b"\\ud800",
    b"\xd9\xa1", b"a." * 500,
)  # fmt: skip


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` inputs, each some edits away from one of the seeds."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, _EDITS_MAX)):
            _edit(data, seeds, chance)
        yield bytes(data[:INPUT_BYTES_MAX])


def _edit(data: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randint(0, len(data))
    stop = min(len(data), start + chance.choice((0, 1, 1, 2, 4, 8, 32)))
    match chance.randrange(7):
        case 0:
            data[start:stop] = chance.choice(_TELLING)
        case 1:
            data[start:start] = chance.choice(_TELLING)
        case 2:
            del data[start:stop]
        case 3:
            data[start:stop] = chance.randbytes(stop - start)
        case 4:
            data[start:start] = data[start:stop] * chance.choice((1, 2, 100))
        case 5:
            other = chance.choice(seeds)
            at = chance.randint(0, len(other))
            data[start:stop] = other[at : at + chance.choice((1, 8, 64, 4096))]
        case _:
            if start < stop:
                data[start] ^= 1 << chance.randrange(8)
