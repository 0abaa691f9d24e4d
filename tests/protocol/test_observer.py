"""What a stranger learns who has every item of a world, all public keys, and no secret.

The observer tries to name the party behind a pseudonym, and the two pseudonyms of one channel. It
has many ways to compare bytes; each must do no better than chance, and each is shown to work where
blinding is left out, so that this test could fail. What the growth of logs betrays all the same
is shown too, and is what docs/gossip.md says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb, log

import msgspec
import pytest
from gossips import digest, key_of, public_of, veil_of
from nacl import bindings

from tallystick.protocol.items import Item

PARTIES = [f"party-{number}.example" for number in range(20)]
CHANNELS = 60
HEADS = 6  # that are published of each log

Score = Callable[["Trace", "Trace"], float]


@dataclass(frozen=True)
class Trace:
    """All items of one pseudonym, and whose it really is."""

    items: tuple[Item, ...]
    party: str
    channel: int


def _grow(dice: random.Random, growth: str) -> list[int]:
    """The sizes at which a log is published."""
    sizes = [dice.randrange(1, 100_000)]
    for _ in range(HEADS - 1):
        more = dice.randrange(900, 1100) if growth == "steady" else int(2 ** dice.uniform(0, 16))
        sizes.append(sizes[-1] + more)
    return sizes


@lru_cache
def _world(growth: str = "steady") -> tuple[list[Trace], list[Trace]]:
    """The providers' and the consumers' traces, channel by channel.

    Both parties record everything, so both logs of a channel grow alike: the worst case.
    """
    dice = random.Random(growth)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < CHANNELS:
        provider, consumer = dice.sample(PARTIES, 2)
        if (provider, consumer) not in pairs and (consumer, provider) not in pairs:
            pairs.append((provider, consumer))
    sides: tuple[list[Trace], list[Trace]] = ([], [])
    for channel, pair in enumerate(pairs):
        sizes = _grow(dice, growth)
        for side, publisher, peer in zip(sides, pair, pair[::-1], strict=True):
            veil = veil_of(publisher, peer, "provider" if side is sides[0] else "consumer")
            items = [
                veil.make(key_of(publisher), size, digest(publisher, peer, size), digest(size) * 2)
                for size in sizes
            ]
            side.append(Trace(tuple(items), publisher, channel))
    return sides


# -- the observer's ways --------------------------------------------------------------------------


def _alike(one: bytes, other: bytes) -> int:
    """How many bits are the same."""
    count = min(len(one), len(other))
    both = int.from_bytes(one[:count], "big") ^ int.from_bytes(other[:count], "big")
    return -both.bit_count()


def _same_field(name: str) -> Score:
    def score(one: Trace, other: Trace) -> float:
        return max(
            _alike(getattr(mine, name), getattr(yours, name))
            for mine in one.items
            for yours in other.items
        )

    return score


def _shared_pieces(one: Trace, other: Trace) -> float:
    """How many runs of three bytes both have, anywhere."""
    runs = [
        {data[at : at + 3] for data in _fields(trace) for at in range(len(data) - 2)}
        for trace in (one, other)
    ]
    return len(runs[0] & runs[1])


def _fields(trace: Trace) -> list[bytes]:
    return [
        field
        for item in trace.items
        for field in (item.pseudonym, item.commitment, item.sealed, item.signature)
    ]


def _near_ranks(one: Trace, other: Trace) -> float:
    return -abs(one.items[0].rank - other.items[0].rank)


def _growth(trace: Trace) -> list[float]:
    return [log(after.rank - before.rank) for before, after in pairwise(trace.items)]


def _same_growth(one: Trace, other: Trace) -> float:
    """How alike they grew, as a correlation of the steps' logarithms."""
    mine, yours = _growth(one), _growth(other)
    middle = [sum(steps) / len(steps) for steps in (mine, yours)]
    apart = [
        [step - mean for step in steps] for steps, mean in zip((mine, yours), middle, strict=True)
    ]
    norm = (sum(x * x for x in apart[0]) * sum(y * y for y in apart[1])) ** 0.5
    return sum(x * y for x, y in zip(*apart, strict=True)) / norm if norm else 0.0


BY_BYTES: dict[str, Score] = {
    "pseudonyms": _same_field("pseudonym"),
    "commitments": _same_field("commitment"),
    "what is sealed": _same_field("sealed"),
    "signatures": _same_field("signature"),
    "pieces": _shared_pieces,
    "ranks": _near_ranks,
}


def _pairs_named(ones: Sequence[Trace], others: Sequence[Trace], score: Score) -> int:
    """How many of `ones` the observer gives the right one of `others`."""
    named = 0
    for one in ones:
        best = max(others, key=lambda other: score(one, other))
        named += best.channel == one.channel
    return named


def _parties_named(traces: Sequence[Trace], score: Callable[[Trace, str], float]) -> int:
    return sum(
        max(PARTIES, key=lambda party: score(trace, party)) == trace.party for trace in traces
    )


def _by_chance(tries: int, chance: float) -> int:
    """More than this many right guesses happen by chance once in 10,000 times."""
    left, hits = 1.0, -1
    while left > 1e-4:
        hits += 1
        left -= comb(tries, hits) * chance**hits * (1 - chance) ** (tries - hits)
    return hits


# -- what it learns -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", BY_BYTES)
def test_bytes_name_no_pair(way: str) -> None:
    providers, consumers = _world()
    assert _pairs_named(providers, consumers, BY_BYTES[way]) <= _by_chance(CHANNELS, 1 / CHANNELS)


def test_bytes_name_no_party() -> None:
    """Neither by likeness to a public key, nor by trying factors that anybody can compute."""
    traces = [trace for side in _world() for trace in side]
    bound = _by_chance(len(traces), 1 / len(PARTIES))

    def likeness(trace: Trace, party: str) -> float:
        return max(_alike(field, public_of(party)) for field in _fields(trace))

    factors = [
        bindings.crypto_core_ed25519_scalar_reduce(number.to_bytes(1, "little") + bytes(63))
        for number in range(1, 20)
    ]

    @lru_cache
    def guesses(party: str) -> list[bytes]:
        key = public_of(party)
        public = [digest(key), digest(party), digest(key, 2970)]
        tried = factors + [
            bindings.crypto_core_ed25519_scalar_reduce(one + bytes(32)) for one in public
        ]
        return [bindings.crypto_scalarmult_ed25519_noclamp(one, key) for one in tried]

    def factor(trace: Trace, party: str) -> float:
        pseudonym = trace.items[0].pseudonym
        return max(_alike(guess, pseudonym) for guess in guesses(party))

    assert _parties_named(traces, likeness) <= bound
    assert _parties_named(traces, factor) <= bound


def test_growth_that_is_steady_names_no_pair() -> None:
    providers, consumers = _world("steady")
    assert _pairs_named(providers, consumers, _same_growth) <= _by_chance(CHANNELS, 1 / CHANNELS)


def test_growth_in_bursts_names_pairs() -> None:
    """The leak that stays: who holds both items of a channel, whose logs grow in the same bursts,
    can match them. If this fails, something became better, and docs/gossip.md is to say so.
    """
    providers, consumers = _world("bursts")
    assert _pairs_named(providers, consumers, _same_growth) > CHANNELS // 4


# -- that the ways work ---------------------------------------------------------------------------


def _changed(trace: Trace, **change: Callable[[Item], object]) -> Trace:
    items = tuple(
        msgspec.structs.replace(item, **{name: make(item) for name, make in change.items()})
        for item in trace.items
    )
    return Trace(items, trace.party, trace.channel)


@pytest.mark.parametrize(
    ("way", "field"),
    [
        ("pseudonyms", "pseudonym"),
        ("commitments", "commitment"),
        ("what is sealed", "sealed"),
        ("signatures", "signature"),
        ("pieces", "sealed"),
    ],
)
def test_the_observer_would_see_what_is_alike(way: str, field: str) -> None:
    """If half of a field followed from the channel."""
    leaky = tuple([_leaking(trace, field) for trace in side] for side in _world())
    assert _pairs_named(leaky[0], leaky[1], BY_BYTES[way]) > CHANNELS // 2


def _leaking(trace: Trace, field: str) -> Trace:
    piece = digest(trace.channel)[:16]
    return _changed(trace, **{field: lambda item: piece + getattr(item, field)[16:]})


def test_the_observer_would_see_sizes() -> None:
    """Ranks that are plain sizes name pairs, by their value and by their growth."""
    plain: tuple[list[Trace], list[Trace]] = ([], [])
    for traces, side in zip(plain, _world(), strict=True):
        for trace in side:
            sizes = iter(_grow(random.Random(trace.channel), "steady"))
            traces.append(_changed(trace, rank=lambda _, sizes=sizes: next(sizes)))
    assert _pairs_named(*plain, _near_ranks) > CHANNELS * 0.9
    assert _pairs_named(*plain, _same_growth) > CHANNELS * 0.9


def test_the_observer_would_see_keys_that_are_not_blinded() -> None:
    traces = [
        _changed(trace, pseudonym=lambda _, trace=trace: public_of(trace.party))
        for side in _world()
        for trace in side
    ]

    def likeness(trace: Trace, party: str) -> float:
        return _alike(trace.items[0].pseudonym, public_of(party))

    assert _parties_named(traces, likeness) == len(traces)
