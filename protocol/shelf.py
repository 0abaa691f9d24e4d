"""Who brought what is kept: accounts that share one bounded place fairly.

Each thing is kept on the account of every neighbour that brought it, and as long as one account
keeps it. When there is no room, the fullest account loses its worst: what made most hops, and of
that the oldest. So a neighbour that floods pushes out its own flood, never what others brought,
and takes at most what others leave free.
"""

from __future__ import annotations

from itertools import islice


class Shelf:
    """The accounts of neighbours. It keeps names of things, not the things."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.used = 0
        # By the hops that they made: names in their order. Most things come from next door.
        self._accounts: dict[str, dict[int, dict[bytes, None]]] = {}
        self._counts: dict[str, int] = {}
        self._by_count: dict[int, dict[str, None]] = {}  # so that the fullest is found at once
        self._most = 0

    def charge(self, neighbour: str, name: bytes, hops: int) -> None:
        """Keep a thing, which that account does not hold yet."""
        account = self._accounts.setdefault(neighbour, {})
        account.setdefault(hops, {})[name] = None
        self._count(neighbour, 1)

    def release(self, neighbour: str, name: bytes) -> None:
        """Take a thing off an account, if it is there."""
        for things in self._accounts.get(neighbour, {}).values():
            if name in things:
                del things[name]
                self._count(neighbour, -1)
                return

    def _count(self, neighbour: str, more: int) -> None:
        before = self._counts.get(neighbour, 0)
        now = self._counts[neighbour] = before + more
        self.used += more
        if before:
            same = self._by_count[before]
            del same[neighbour]
            if not same:
                del self._by_count[before]
        if now:
            self._by_count.setdefault(now, {})[neighbour] = None
        self._most = max(self._most, now)
        while self._most and self._most not in self._by_count:
            self._most -= 1

    def overflow(self) -> list[tuple[str, bytes]]:
        """What has to go, taken off its account: nothing if there is room for all.

        A little room is made at once, so that the fullest account is not looked for each time,
        but none is brought below what an even share would be.
        """
        if self.used <= self.room:
            return []
        neighbour = next(iter(self._by_count[self._most]))
        above = self._most - self.room // len(self._counts)
        wanted = self.used - self.room + self.room // 100
        lost: list[tuple[str, bytes]] = []
        account = self._accounts[neighbour]
        for hops in sorted(account, reverse=True):
            things = account[hops]
            names = list(islice(things, max(1, min(wanted, above)) - len(lost)))
            for name in names:
                del things[name]
            lost += [(neighbour, name) for name in names]
        self._count(neighbour, -len(lost))
        return lost

    def of(self, neighbour: str) -> list[bytes]:
        """What a neighbour brought, what is nearest to it first."""
        account = self._accounts.get(neighbour, {})
        return [name for hops in sorted(account) for name in account[hops]]
