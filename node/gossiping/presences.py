"""Which process of our party this is, said in every session, and whether another one says so too.

A presence item says a time and an incarnation under a pseudonym that every copy of the party can
read and nobody else. A process begins later than any word of an earlier one, whatever its clock
says. So what was said after we began, and not by us, was said by another copy that holds our seed.
Then this node stops: it says so once more, so that the other copy hears of it too, and holds no
sessions, so nothing is signed, until people decide (`tally recover --only-copy`). That is durable.
An item alone decides; no peer's word does.
"""

from __future__ import annotations

import logging
from collections import deque
from random import Random

import msgspec

from tallystick.node.books import Books
from tallystick.node.errors import StoreError
from tallystick.node.store.disk import Job, Txn
from tallystick.node.store.keyspace import PresenceRow, encode_row
from tallystick.protocol.blinding import (
    INCARNATION_SIZE,
    OpenedPresence,
    Veil,
    epoch_at,
    epochs_near,
    presence_secret,
)
from tallystick.protocol.errors import ProofError
from tallystick.protocol.items import Item
from tallystick.protocol.messages import Presence

ROW = b"presence"  # in the table `meta`
LATER_MS = 20  # after we began, from which on a word cannot be an earlier process's
AHEAD_MS = 600_000  # of what was heard, that our answer is, so that nothing overtakes it
REPEAT_MS = 500  # for which the last word does, so that nobody makes us say more
SAID_MAX = 4096  # of our own words that are remembered

_log = logging.getLogger("tallystick.presence")
decode_presence = msgspec.msgpack.Decoder(PresenceRow).decode


def stored_presence(txn: Txn) -> PresenceRow:
    """What the store says of this party's processes."""
    value = txn.get("meta", ROW)
    return decode_presence(value) if value else PresenceRow()


class Presences:
    """The presence of one node. `stopped` while another copy of it was heard of."""

    def __init__(self, books: Books, dice: Random) -> None:
        self._books = books
        self._dice = dice
        self._secret = presence_secret(bytes(books.identity.transport))
        self._veils: dict[int, Veil] = {}
        self.generation = books.generation
        with books.store.read() as txn:
            self._row = stored_presence(txn)
        self._begin()

    def _begin(self) -> None:
        """Speak as a new process, at a later time than any before."""
        self.incarnation = self._dice.randbytes(INCARNATION_SIZE)
        self._began_ms = self._last_ms = max(self._clock_ms(), self._row.said_ms) + 1
        self._said: deque[int] = deque(maxlen=SAID_MAX)
        self._item: Item | None = None  # the last word
        self._made_ms = 0

    def _clock_ms(self) -> int:
        return self._books.clock_us() // 1000

    def _put(self, row: PresenceRow) -> Job:
        value = encode_row(row)
        return lambda txn: txn.put("meta", ROW, value)

    @property
    def stopped(self) -> bool:
        """Whether another copy of this home was heard of, and people have not decided yet."""
        return self._row.stopped_us > 0

    # Saying

    def item(self) -> Item:
        """That this process is there, said now."""
        now_ms = self._clock_ms()
        if self._item is not None and 0 <= now_ms - self._made_ms < REPEAT_MS:
            return self._item
        self._made_ms = now_ms
        return self._say(max(now_ms, self._last_ms + 1))

    def answer(self, other: OpenedPresence) -> Item:
        """The same, said so late that the process that was heard, whenever it began and whatever
        our clock says, cannot take it for a word from before. Nodes keep the newest word of a
        party, and it goes on speaking: ours is of a time that it reaches later than ours reaches
        it, even at the pace of growth.
        """
        return self._say(max(self._clock_ms(), self._last_ms + 1, other.at_ms + AHEAD_MS))

    def _say(self, at_ms: int) -> Item:
        self._last_ms = at_ms
        self._said.append(at_ms)
        # Without haste: it counts only if we start again and the clock went back meanwhile.
        self._row = msgspec.structs.replace(self._row, said_ms=at_ms)
        self._books.store.submit_along(self._put(self._row))
        veil = self._veil(epoch_at(self._secret, self._books.clock_us() / 1e6))
        signer = self._books.identity.transport
        self._item = veil.make_presence(signer, at_ms, self.incarnation, self.generation)
        return self._item

    def message(self, *, asks: bool = False) -> Presence:
        """The same as it is said in a session."""
        return Presence(self.incarnation, self.generation, asks, self.item())

    # Hearing

    def pseudonyms(self) -> list[bytes]:
        """Under which items of our party are to be expected now."""
        now_s = self._books.clock_us() / 1e6
        return [self._veil(epoch).pseudonym for epoch in epochs_near(self._secret, now_s)]

    def _veil(self, epoch: int) -> Veil:
        veil = self._veils.get(epoch)
        if veil is None:
            public = self._books.identity.transport_key
            veil = self._veils[epoch] = Veil(self._secret, public, "presence", epoch)
            for past in [one for one in self._veils if one < epoch - 2]:
                del self._veils[past]
        return veil

    def hear(self, item: Item) -> OpenedPresence | None:
        """What an item of our party whose signature holds says of another copy, if it does."""
        try:
            said = self._veil(item.epoch).open_presence(item)
        except ProofError:
            return None
        if said.at_ms < self._began_ms + LATER_MS or said.generation < self.generation:
            return None  # an earlier process, or a home that another one has taken over from
        ours = said.incarnation == self.incarnation and (
            said.at_ms in self._said or said.at_ms < min(self._said, default=0)
        )
        return None if ours else said

    async def stop(self, other: OpenedPresence) -> None:
        """Another copy of this home runs: stop, durably, until people decide."""
        if self.stopped:
            seen_ms = max(self._row.seen_ms, other.at_ms)
            self._row = msgspec.structs.replace(self._row, seen_ms=seen_ms)
            return
        now_us = self._books.clock_us()
        self._row = msgspec.structs.replace(self._row, stopped_us=now_us, seen_ms=other.at_ms)
        try:
            await self._books.store.commit(self._put(self._row))
        except StoreError as error:  # stopped all the same, and it will be heard again
            _log.error("that this copy stopped cannot be kept", extra={"reason": error.message})

    async def go_on(self) -> None:
        """People say that this is the only copy now: speak as a new process."""
        before = self._row
        self._row = PresenceRow(max(before.said_ms, before.seen_ms))
        self._begin()
        try:
            await self._books.store.commit(self._put(self._row))
        except StoreError:
            self._row = before
            raise
