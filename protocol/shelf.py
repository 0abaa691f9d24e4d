"""Who brought what is kept: accounts that share one bounded place fairly.

Each thing is kept on the account of every neighbour that brought it, and as long as one account
keeps it. When there is no room, the fullest account loses its worst: what made most hops, and of
that the oldest. So a neighbour that floods pushes out its own flood, never what others brought,
and takes at most what others leave free.
"""

from __future__ import annotations

from collections import defaultdict

from tallystick.protocol.items import HOPS_MAX


class Shelf:
    """The accounts of neighbours. It keeps names of things, not the things."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.used = 0
        self._accounts: dict[str, list[dict[bytes, None]]] = {}
        self._counts: dict[str, int] = {}
        self._by_count: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self._fullest = 0

    def charge(self, neighbour: str, name: bytes, hops: int) -> None:
        """Keep a thing, which that account does not hold yet."""
        account = self._accounts.get(neighbour)
        if account is None:
            account = self._accounts[neighbour] = [{} for _ in range(HOPS_MAX + 1)]
        account[hops][name] = None
        self._count(neighbour, 1)

    def release(self, neighbour: str, name: bytes) -> None:
        """Take a thing off an account, if it is there."""
        for things in self._accounts.get(neighbour, ()):
            if name in things:
                del things[name]
                self._count(neighbour, -1)
                return

    def overflow(self) -> tuple[str, bytes] | None:
        """What has to go, taken off its account; None if there is room for all."""
        if self.used <= self.room:
            return None
        neighbour = next(iter(self._by_count[self._fullest]))
        things = next(held for held in reversed(self._accounts[neighbour]) if held)
        name = next(iter(things))
        del things[name]
        self._count(neighbour, -1)
        return neighbour, name

    def of(self, neighbour: str) -> list[bytes]:
        """What a neighbour brought, what is nearest to it first."""
        return [name for things in self._accounts.get(neighbour, ()) for name in things]

    def count(self, neighbour: str) -> int:
        """How many things an account holds."""
        return self._counts.get(neighbour, 0)

    def _count(self, neighbour: str, change: int) -> None:
        before = self._counts.get(neighbour, 0)
        after = self._counts[neighbour] = before + change
        self.used += change
        if before:
            del self._by_count[before][neighbour]
            if not self._by_count[before]:
                del self._by_count[before]
        if after:
            self._by_count[after][neighbour] = None
        if after > self._fullest:
            self._fullest = after
        elif self._fullest and self._fullest not in self._by_count:
            self._fullest -= 1
