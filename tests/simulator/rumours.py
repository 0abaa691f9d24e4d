"""A party that is honest in its channels and lies in gossip: it passes on what nobody said, what
was said long ago, what is worth nothing, and heads of its own log that it never signed.

Nobody may stop, halt or accuse for it. It can forge nothing that counts: it has its own keys alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import msgspec
from nacl.signing import SigningKey

from tallystick.protocol.blinding import EPOCH_SECONDS
from tallystick.protocol.items import HOPS_MAX, SEALED_SIZE, Carried, Conflict, Item, signed_bytes
from tallystick.protocol.messages import ITEMS_MAX, Hearsay, Ping, decode_message, encode_message

if TYPE_CHECKING:
    from simulator.party import Party

SEEN_MAX = 200


class Gossiper:
    """What bends the gossip of a party. `forges` has it show signatures that do not hold, too: who
    hears one of those does not listen to it for a while.
    """

    def __init__(self, party: Party, dice: Random, *, forges: bool) -> None:
        self._party, self._dice = party, dice
        self._seen: list[Item] = []  # whatever it passed on
        self.lying = True
        self.told: Counter[str] = Counter()
        self._lies: list[Callable[[], tuple[list[Item], list[Conflict]]]] = [
            self._again,
            self._again,
            self._junk,
            self._never_signed,
            self._never_signed,
        ]
        if forges:
            self._lies += [self._forged, self._false_conflict]

    def bend(self, body: bytes) -> list[bytes]:
        """What to send instead of a frame."""
        message = decode_message(body)
        if isinstance(message, Hearsay):
            self._seen = [*self._seen, *(one.item for one in message.items)][-SEEN_MAX:]
        if not isinstance(message, Hearsay | Ping) or not self.lying:
            return [body]
        if self._party.process is None or self._dice.random() < 0.3:
            return [body]
        lie = self._dice.choice(self._lies)
        items, conflicts = lie()
        self.told[f"lie {lie.__name__.strip('_')}"] += bool(items or conflicts)
        carried = [Carried(self._dice.randrange(HOPS_MAX + 1), item) for item in items[:ITEMS_MAX]]
        said = encode_message(Hearsay(carried, conflicts))
        keeps = not isinstance(message, Hearsay) or self._dice.random() < 0.6
        return [body, said] if keeps else [said]

    def _again(self) -> tuple[list[Item], list[Conflict]]:
        """Anything that was once said, to anybody, also to who said it."""
        count = min(len(self._seen), 10)
        return self._dice.sample(self._seen, count), []

    def _junk(self) -> tuple[list[Item], list[Conflict]]:
        """Items that hold and are nobody's, and two of them that contradict each other."""
        key = SigningKey(self._dice.randbytes(32))
        first, second = sorted((self._made(key), self._made(key)), key=lambda one: one.commitment)
        return [self._made(SigningKey(self._dice.randbytes(32)))], [Conflict(0, first, second)]

    def _made(self, key: SigningKey) -> Item:
        dice, pseudonym = self._dice, bytes(key.verify_key)
        epoch = self._party.clock_us() // 1_000_000 // EPOCH_SECONDS
        commitment, sealed = dice.randbytes(32), dice.randbytes(SEALED_SIZE)
        message = signed_bytes(epoch, pseudonym, 7, commitment, sealed)
        return Item(epoch, pseudonym, 7, commitment, sealed, key.sign(message).signature)

    def _never_signed(self) -> tuple[list[Item], list[Conflict]]:
        """A head of its own log that neither it nor its peer signed, under the right pseudonym."""
        assert self._party.process is not None
        talker, dice = self._party.process.peering.talker, self._dice
        channel, _ = dice.choice(self._party.channels)
        behind = talker._pseudonyms.publishing(channel.id)
        if behind is None:
            return [], []
        size = max(1, channel.own.durable_size + dice.choice((-1, 0, 0, 3)))
        veil, signer = talker._pseudonyms.veil(behind), self._party.identity.transport
        return [veil.make(signer, size, dice.randbytes(32), bytes(64), dice.randbytes(72))], []

    def _forged(self) -> tuple[list[Item], list[Conflict]]:
        """Something that was said, changed."""
        if not self._seen:
            return [], []
        item, dice = self._dice.choice(self._seen), self._dice
        changed = dice.choice(
            (
                {"rank": item.rank + 1},
                {"commitment": dice.randbytes(32)},
                {"sealed": dice.randbytes(SEALED_SIZE)},
                {"signature": dice.randbytes(64)},
            )
        )
        return [msgspec.structs.replace(item, **changed)], []

    def _false_conflict(self) -> tuple[list[Item], list[Conflict]]:
        """Two items that do not contradict each other, or of which one is made up."""
        if not self._seen:
            return [], []
        one = self._dice.choice(self._seen)
        other = msgspec.structs.replace(one, commitment=self._dice.randbytes(32))
        return [], [Conflict(0, one, self._dice.choice((other, *self._seen)))]
