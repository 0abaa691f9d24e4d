"""What waits to be sent to each neighbour: names only, so that the newest is sent when it is sent.

What waits is bounded for all neighbours together. A neighbour that is not here has no box. Most of
what waits can: it goes when it is its neighbour's turn. Boxes with anything urgent go before.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice


class _Box:
    __slots__ = ("conflicts", "items")

    def __init__(self) -> None:
        self.items: dict[bytes, int] = {}  # pseudonyms, and the hops to say
        self.conflicts: dict[bytes, None] = {}


class Outboxes:
    """The boxes of the neighbours that are here. `unsent` counts what found no room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.waiting = 0
        self.unsent = 0
        self._boxes: dict[str, _Box] = {}
        self._full: dict[str, None] = {}  # boxes with anything in them, the longest first
        self._urgent: dict[str, None] = {}  # those of them that do not wait for their turn

    def open(self, neighbour: str) -> None:
        """A neighbour is here."""
        self._boxes.setdefault(neighbour, _Box())

    def close(self, neighbour: str) -> None:
        """It is gone, and what waited for it too."""
        if (box := self._boxes.pop(neighbour, None)) is not None:
            self.waiting -= len(box.items) + len(box.conflicts)
            self._full.pop(neighbour, None)
            self._urgent.pop(neighbour, None)

    def put(self, neighbour: str, pseudonym: bytes, hops: int, *, urgent: bool = False) -> None:
        """The item of a pseudonym is to be sent, with these hops."""
        box = self._boxes.get(neighbour)
        if box is not None and (pseudonym in box.items or self._has_room(neighbour)):
            box.items[pseudonym] = hops
            if urgent:
                self._urgent[neighbour] = None

    def put_conflict(self, neighbour: str, pseudonym: bytes) -> None:
        """The conflict of a pseudonym is to be sent."""
        box = self._boxes.get(neighbour)
        if box is not None and pseudonym not in box.conflicts and self._has_room(neighbour):
            box.conflicts[pseudonym] = None
            self._urgent[neighbour] = None

    def drop(self, neighbour: str, pseudonym: bytes) -> None:
        """It has the item already."""
        box = self._boxes.get(neighbour)
        if box is not None and box.items.pop(pseudonym, None) is not None:
            self._taken(neighbour, box, 1)

    def drop_conflict(self, neighbour: str, pseudonym: bytes) -> None:
        """It has the conflict already."""
        box = self._boxes.get(neighbour)
        if box is not None and pseudonym in box.conflicts:
            del box.conflicts[pseudonym]
            self._taken(neighbour, box, 1)

    def next(self, most: int, may: Callable[[str], bool]) -> list[str]:
        """Whose turn it is, of those that may be sent to: all whose boxes hold what is urgent, and
        so many others, who waited longest.
        """
        urgent = [name for name in self._urgent if may(name)]
        others = (name for name in self._full if name not in self._urgent and may(name))
        return urgent + list(islice(others, most))

    def take(
        self, neighbour: str, items: int, conflicts: int
    ) -> tuple[list[tuple[bytes, int]], list[bytes]]:
        """What waited longest, at most so many of each."""
        box = self._boxes[neighbour]
        first = list(islice(box.items.items(), items))
        for pseudonym, _ in first:
            del box.items[pseudonym]
        others = list(islice(box.conflicts, conflicts))
        for pseudonym in others:
            del box.conflicts[pseudonym]
        self._taken(neighbour, box, len(first) + len(others))
        if neighbour in self._full:  # the rest waits for its next turn
            del self._full[neighbour]
            self._full[neighbour] = None
        return first, others

    def _has_room(self, neighbour: str) -> bool:
        if self.waiting >= self.room:
            self.unsent += 1
            return False
        self.waiting += 1
        self._full[neighbour] = None
        return True

    def _taken(self, neighbour: str, box: _Box, count: int) -> None:
        self.waiting -= count
        if not box.items and not box.conflicts:
            self._full.pop(neighbour, None)
            self._urgent.pop(neighbour, None)
