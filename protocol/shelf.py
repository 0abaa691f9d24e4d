"""Who brought what is kept: accounts that share one bounded place fairly.

Each thing is kept on the account of every neighbour that brought it, and as long as one account
keeps it. When there is no room, the fullest account loses its worst: what made most hops, and of
that the oldest. So a neighbour that floods pushes out its own flood, never what others brought,
and takes at most what others leave free.
"""

from __future__ import annotations

from itertools import islice

from tallystick.protocol.items import HOPS_MAX


class Shelf:
    """The accounts of neighbours. It keeps names of things, not the things."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.used = 0
        self._accounts: dict[str, list[dict[bytes, None]]] = {}
        self._counts: dict[str, int] = {}

    def charge(self, neighbour: str, name: bytes, hops: int) -> None:
        """Keep a thing, which that account does not hold yet."""
        account = self._accounts.get(neighbour)
        if account is None:
            account = self._accounts[neighbour] = [{} for _ in range(HOPS_MAX + 1)]
            self._counts[neighbour] = 0
        account[hops][name] = None
        self._counts[neighbour] += 1
        self.used += 1

    def release(self, neighbour: str, name: bytes) -> None:
        """Take a thing off an account, if it is there."""
        for things in self._accounts.get(neighbour, ()):
            if name in things:
                del things[name]
                self._counts[neighbour] -= 1
                self.used -= 1
                return

    def overflow(self) -> list[tuple[str, bytes]]:
        """What has to go, taken off its account: nothing if there is room for all.

        A little room is made at once, so that the fullest account is not looked for each time,
        but none is brought below what an even share would be.
        """
        if self.used <= self.room:
            return []
        neighbour = max(self._counts, key=self._counts.__getitem__)
        above = self._counts[neighbour] - self.room // len(self._counts)
        wanted = self.used - self.room + self.room // 100
        lost: list[tuple[str, bytes]] = []
        for things in reversed(self._accounts[neighbour]):
            names = list(islice(things, max(1, min(wanted, above)) - len(lost)))
            for name in names:
                del things[name]
            lost += [(neighbour, name) for name in names]
        self._counts[neighbour] -= len(lost)
        self.used -= len(lost)
        return lost

    def of(self, neighbour: str) -> list[bytes]:
        """What a neighbour brought, what is nearest to it first."""
        return [name for things in self._accounts.get(neighbour, ()) for name in things]
