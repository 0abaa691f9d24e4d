"""Which few neighbours an item goes to: always the same ones, as long as they are here.

Neighbours stand on a ring, at places that a secret of the node gives. A pseudonym, which is
random, names points of the ring, and of each point the next neighbour that was not chosen yet is
chosen. One that comes or goes changes little, and nobody can put himself where a pseudonym points.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_left, insort

_POINTS = 4  # that a pseudonym has bytes for


class Ring:
    """The neighbours that are connected."""

    def __init__(self, secret: bytes, fanout: int) -> None:
        self._secret = secret
        self._fanout = fanout
        self._places: list[tuple[int, str]] = []

    def place(self, name: str) -> int:
        """A number below 2^64 that follows from the secret and a name."""
        return int.from_bytes(hmac.digest(self._secret, name.encode(), hashlib.sha256)[:8], "big")

    def join(self, place: int, neighbour: str) -> None:
        """A neighbour, which is not here, comes."""
        insort(self._places, (place, neighbour))

    def leave(self, place: int, neighbour: str) -> None:
        """A neighbour, which is here, goes."""
        del self._places[bisect_left(self._places, (place, neighbour))]

    def chosen(self, pseudonym: bytes, source: str) -> list[str]:
        """Whom an item of a pseudonym goes to, if it came from `source`."""
        places = self._places
        if len(places) <= self._fanout + 1:
            start = pseudonym[0] % len(places) if places else 0
            return [name for _, name in places[start:] + places[:start] if name != source]
        chosen: list[str] = []
        for number in range(self._fanout):
            point = int.from_bytes(pseudonym[8 * (number % _POINTS) :][:8], "big")
            at = bisect_left(places, (point, "")) + number // _POINTS
            while (name := places[at % len(places)][1]) in chosen or name == source:
                at += 1
            chosen.append(name)
        return chosen
