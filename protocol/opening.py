"""Opening rows to each other, in a session in which both know how many rows differ.

Pages go back and forth, so neither side is ever more than a page ahead. Each row that comes is
checked before it is believed: it has the fingerprint that was announced, or one that we do not
have; it is of the period; and all rows together must add up to what the two sets' sums differ by.
So a party cannot open other rows than it brought. What a fingerprint does not cover (by id: the
subject and the time) is its word, which is recorded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tallystick.protocol.errors import SessionStopped
from tallystick.protocol.messages import PAGE_ROWS, OpenRows
from tallystick.protocol.records import Label
from tallystick.protocol.rowset import Row, RowSet, as_words, decode_row, fingerprints
from tallystick.protocol.siphash import Words
from tallystick.protocol.sketch import check_of


@dataclass(frozen=True, slots=True)
class Scope:
    """What a session is about: a period with its bounds, and those of its neighbours (µs UTC)."""

    channel: bytes
    session: bytes
    period: Label
    start_us: int
    end_us: int
    reach: tuple[int, int]
    meters: frozenset[str]


@dataclass(frozen=True, slots=True)
class Keyed:
    """A set under a session's key: fingerprints by row and sorted, checks by row, sums by slice."""

    row_key: bytes
    check_key: bytes
    items: Words
    sorted_items: Words
    checks: Words
    sums: npt.NDArray[np.uint64]


class Opening:
    """One side of it. `places` are our rows that differ, in ascending order of fingerprint;
    `opens_max` is how many rows we and the peer may open, kin included.
    """

    def __init__(
        self, scope: Scope, rows: RowSet, keyed: Keyed, places: Any, opens_max: tuple[int, int]
    ) -> None:
        self._scope, self._rows, self._keyed = scope, rows, keyed
        self._opens_max, self._their_opens_max = opens_max
        self._waiting = [rows.row(int(place)) for place in places]
        self._kin_of_ours = {
            kin for data in self._waiting for kin in rows.likeness.kin_near(decode_row(data))
        }
        self.opened: list[bytes] = []
        self.received: list[bytes] = []
        self.kin_opened: list[bytes] = []
        self.kin_received: list[bytes] = []
        self.in_kin = False
        self._we_ended = self._they_ended = False
        self._last_item = -1
        self._sums = np.zeros(2, np.uint64)
        self._hashes = [hashlib.sha256(b"tallystick/v1 opened rows") for _ in range(2)]

    def expect(self, count: int, items: Words | None, missing: Words) -> None:
        """The peer will open so many rows: with these fingerprints, if they are known; whose items
        and checks add up to `missing`.
        """
        self._count, self._items, self._missing = count, items, missing

    @property
    def both_ended(self) -> bool:
        """Whether both sides have said their last page of this part."""
        return self._we_ended and self._they_ended

    @property
    def opened_digest(self) -> bytes:
        """Of the rows that we opened, kin included, in the order in which they were sent."""
        return self._hashes[0].digest()

    @property
    def received_digest(self) -> bytes:
        """Of the rows that the peer opened."""
        return self._hashes[1].digest()

    def begin_kin(self) -> None:
        """All that differs is open on both sides: look for kin near the period."""
        self.in_kin = True
        self._we_ended = self._they_ended = False
        likeness = self._rows.likeness
        near: set[int] = set()
        for data in self.received:
            for kin in likeness.kin_near(decode_row(data)):
                near.update(self._rows.near(kin))
        room = self._opens_max - len(self.opened)
        self._waiting = [self._rows.near_row(place) for place in sorted(near)[:room]]

    def page(self) -> OpenRows:
        """Our next page; an empty one if we have opened all."""
        rows, self._waiting = self._waiting[:PAGE_ROWS], self._waiting[PAGE_ROWS:]
        self._we_ended = not self._waiting
        (self.kin_opened if self.in_kin else self.opened).extend(rows)
        self._hashes[0].update(b"".join(rows))
        scope = self._scope
        return OpenRows(scope.channel, scope.session, self.in_kin, rows, self._we_ended)

    def take(self, message: OpenRows) -> None:
        """Take the peer's page; `SessionStopped` if a row of it is not what it must be."""
        if message.kin != self.in_kin:
            raise breach("out-of-order", "it opens rows of the other kind")
        if not message.last and len(message.rows) != PAGE_ROWS:
            raise breach("malformed", "it sends a page of rows that is not full")
        if self._they_ended and message.rows:
            raise breach("out-of-order", "it opens rows after its last page")
        rows = [self._checked(data) for data in message.rows]
        if self.in_kin:
            self._check_kin(rows)
            self.kin_received += message.rows
        else:
            self._check_differing(rows)
            self.received += message.rows
        self._hashes[1].update(b"".join(message.rows))
        self._they_ended = message.last
        if message.last and not self.in_kin:
            self._check_all()

    def _checked(self, data: bytes) -> Row:
        row, scope = decode_row(data), self._scope
        inside = scope.start_us <= row.occurred_at < scope.end_us
        near = scope.reach[0] <= row.occurred_at < scope.reach[1]
        if row.meter not in scope.meters:
            raise breach("bad-row", f"a row of {row.meter!r}, which is no meter of this session")
        if inside == self.in_kin or not near:
            raise breach("bad-row", "a row that is not of the period that was agreed on")
        if not row.id and self._rows.likeness.by == "id":
            raise breach("bad-row", "a row without an id")
        return row

    def _check_differing(self, rows: list[Row]) -> None:
        """Each row has the fingerprint that is its turn, or, if none are known, one that follows
        the last and that we do not have.
        """
        done = len(self.received)
        if done + len(rows) > self._count:
            raise breach("bad-row", f"more than the {self._count:,} rows that differ")
        digests = as_words(b"".join(self._rows.likeness.digest(row) for row in rows))
        items = fingerprints(self._keyed.row_key, digests)
        if self._items is not None:
            if (items != self._items[done : done + len(rows)]).any():
                raise breach("bad-row", "a row that is not the one that differs")
        elif len(items):
            ascending = int(items[0]) > self._last_item and (items[1:] > items[:-1]).all()
            if not ascending or self._are_ours(items):
                raise breach("bad-row", "a row that is here as well, or comes twice")
            self._last_item = int(items[-1])
        self._sums += np.array(
            [items.sum(), check_of(self._keyed.check_key, items).sum()], np.uint64
        )

    def _are_ours(self, items: Words) -> bool:
        """Whether we have any of these fingerprints."""
        known = self._keyed.sorted_items
        found = np.searchsorted(known, items)
        inside = found < len(known)
        return bool((known[found[inside]] == items[inside]).any())

    def _check_all(self) -> None:
        if len(self.received) != self._count or (self._sums != self._missing).any():
            raise breach("bad-row", "the rows that it opened are not those that it brought")

    def _check_kin(self, rows: list[Row]) -> None:
        opened = len(self.received) + len(self.kin_received) + len(rows)
        if opened > self._their_opens_max:
            raise breach("bad-row", f"more rows than the {self._their_opens_max:,} agreed on")
        for row in rows:
            if self._rows.likeness.kin(row) not in self._kin_of_ours:
                raise breach("bad-row", "a row near the period that is of kin to none of ours")


def breach(code: str, said: str) -> SessionStopped:
    """What stops a session because of the peer."""
    return SessionStopped(f"the peer broke the session: {said}", code=code)
