"""The gossip of one node: what it keeps of what it heard, and whom it tells what.

Sans-IO: it is given what neighbours sent and the time, and gives what to send them and what
happened. Nothing depends on who relays: only signatures of pseudonyms count. Of each pseudonym
the newest item is kept; two that contradict each other become a `Conflict`, which is kept and
passed on too. An item goes from a node to the same few neighbours each time (chosen by a secret of
the node, so that nobody can put himself there), and so many hops far. News near its publisher goes
at once, news from afar waits for more of the same, so that a log's growth costs little.

Own items go to one neighbour first and to the others a little later, as if they were somebody
else's. A neighbour whose session begins is given back what it brought: so a node that comes back
from an old copy meets what it signed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from tallystick.protocol.blinding import EPOCH_SECONDS
from tallystick.protocol.errors import ProofError
from tallystick.protocol.gossip_words import (
    OWN,
    Batch,
    Conflicted,
    Event,
    Heard,
    Limits,
    Reason,
    Refused,
    Stats,
)
from tallystick.protocol.items import (
    HOPS_MAX,
    Carried,
    Conflict,
    Item,
    conflicting,
    make_conflict,
    verify_item,
)
from tallystick.protocol.outboxes import Outboxes
from tallystick.protocol.ring import Ring
from tallystick.protocol.shelf import Shelf

BACKLOG_SECONDS = 600.0  # what would have to wait longer is kept, and not passed on
KEEPERS_TOLD = 16  # of those who brought an item, when it turns out to be one of two
WALK_SECONDS = 600.0  # between looks at everything that is held
WALK_A_ROUND = 2_000  # things that are looked at
JOIN_SECONDS = 10.0  # the same, when a neighbour has come


class _Entry:
    __slots__ = ("again", "due", "hops", "item", "keepers", "rested_at", "source")

    def __init__(self, item: Item, hops: int, source: str) -> None:
        self.item = item
        self.hops = hops
        self.source = source  # of the version that is held
        self.keepers: tuple[str, ...] = ()
        self.rested_at = float("-inf")  # when what was passed on has been waited off
        self.due: float | None = None  # when it is passed on next
        self.again = False  # whether what is our own changed since its first neighbour was told


class _Neighbour:
    __slots__ = ("allowed", "at", "barred_until", "here", "place", "turn")

    def __init__(self, place: int, allowed: float, now: float) -> None:
        self.place = place
        self.here = False
        self.allowed = allowed
        self.at = now
        self.barred_until = float("-inf")
        self.turn = float("-inf")  # when the next item that it brought may be passed on


class Gossip:
    """One node's gossip. `secret` is random and nobody else's: it may be new at each start."""

    def __init__(
        self,
        secret: bytes,
        limits: Limits | None = None,
        verify: Callable[[Item], None] = verify_item,
    ) -> None:
        self.limits = limits or Limits()
        self._verify = verify
        self._entries: dict[bytes, _Entry] = {}
        self._conflicts: dict[bytes, tuple[Conflict, str]] = {}
        self._shelf = Shelf(self.limits.items)
        self._conflict_shelf = Shelf(self.limits.conflicts)
        self._own: set[bytes] = set()
        self._watched: set[bytes] = set()
        self._neighbours: dict[str, _Neighbour] = {}
        self._here = 0  # of them
        self._ring = Ring(secret, self.limits.fanout)
        self._joined: set[str] = set()  # since the last walk began
        self._told: set[str] = set()  # who had come when it began
        self._walking: list[bytes] = []  # what it has yet to look at
        self._outboxes = Outboxes(self.limits.waiting)
        self._later: list[tuple[float, bytes]] = []
        self._checks = float(self.limits.checks_a_second)
        self._checks_at = float("-inf")
        self._walked_at = float("-inf")
        self._seen = float("-inf")
        self._went_back = 0.0
        self._refused: Counter[Reason] = Counter()

    # -- what the node says ---------------------------------------------------------------------

    def watch(self, pseudonyms: Iterable[bytes]) -> list[Event]:
        """Watch these too; what was heard of them before is given."""
        events: list[Event] = []
        for pseudonym in pseudonyms:
            if pseudonym in self._watched:
                continue
            self._watched.add(pseudonym)
            if (entry := self._entries.get(pseudonym)) is not None:
                self._keep(entry, OWN)
                events.append(Heard(entry.item, entry.source, True))
            if (found := self._conflicts.get(pseudonym)) is not None:
                events.append(Conflicted(*found, True))
        return events

    def unwatch(self, pseudonyms: Iterable[bytes]) -> None:
        """Watch these no more."""
        for pseudonym in pseudonyms:
            self._watched.discard(pseudonym)
            entry = self._entries.get(pseudonym)
            if entry is not None and pseudonym not in self._own:
                self._let_go(entry, OWN)

    def publish(self, item: Item, now: float) -> list[Event]:
        """Spread an item of our own. If one of that pseudonym is held that is larger or says
        something else, it is not replaced, and the events say so: we went back, or are two.
        """
        now = self._steady(now)
        self._own.add(item.pseudonym)
        entry = self._entries.get(item.pseudonym)
        if entry is not None and entry.item.rank >= item.rank:
            if conflicting(entry.item, item):
                if (found := self._conflicts.get(item.pseudonym)) is not None:
                    return [Conflicted(*found, True)]
                return self._found(make_conflict(entry.item, item), entry.source)
            if entry.item.rank > item.rank:
                return [Heard(entry.item, entry.source, True)]
        if entry is None:
            entry = self._entries[item.pseudonym] = _Entry(item, 0, OWN)
            self._keep(entry, OWN)
        entry.item, entry.hops, entry.source = item, 0, OWN
        rested = self._rested(entry, now)
        # Somebody may have given it back first, after a start, and passed on it waits for long.
        entry.rested_at = min(entry.rested_at, now + self._spacing(entry))
        if entry.due is not None and entry.due <= now + self._spacing(entry):
            entry.again = True
            return []
        due = entry.rested_at
        entry.again = due > now
        if not entry.again:
            if chosen := self._ring.chosen(item.pseudonym, OWN):
                self._outboxes.put(chosen[0], item.pseudonym, 0, urgent=rested)
            share = self._ring.place(item.pseudonym.hex()) / 2**64
            due = now + self.limits.stem * (0.25 + 0.75 * share)
        self._schedule(entry, due)
        return []

    # -- neighbours -----------------------------------------------------------------------------

    def connected(self, neighbour: str, now: float) -> None:
        """A session with a neighbour began. Once more than it ended does no harm."""
        now = self._steady(now)
        known = self._neighbour(neighbour, now)
        if not known.here:
            known.here = True
            self._ring.join(known.place, neighbour)
            self._outboxes.open(neighbour)
            self._here += 1
            # A node with many neighbours has room for what each of them says.
            self._shelf.room = max(self._shelf.room, self._here * self.limits.items_a_neighbour)
        for pseudonym in self._shelf.of(neighbour):
            hops = self._entries[pseudonym].hops
            self._outboxes.put(neighbour, pseudonym, hops, urgent=True)
        for pseudonym, (conflict, _) in self._conflicts.items():
            if conflict.hops < HOPS_MAX:
                self._outboxes.put_conflict(neighbour, pseudonym)
        self._joined.add(neighbour)

    def disconnected(self, neighbour: str) -> None:
        """The session ended. What it brought is kept."""
        known = self._neighbours.get(neighbour)
        if known is not None and known.here:
            known.here = False
            self._here -= 1
            self._ring.leave(known.place, neighbour)
            self._outboxes.close(neighbour)
            self._joined.discard(neighbour)

    def receive(
        self,
        neighbour: str,
        items: Iterable[Carried],
        conflicts: Iterable[Conflict],
        now: float,
    ) -> list[Event]:
        """Take what a neighbour sent."""
        now = self._steady(now)
        known = self._neighbour(neighbour, now)
        if now > known.at:
            a_minute = self.limits.items_a_minute
            known.allowed = min(a_minute, known.allowed + (now - known.at) * a_minute / 60)
        known.at = now
        events: list[Event] = []
        for conflict in conflicts:
            if (reason := self._may(known, 2, conflict.first, now)) is None:
                reason = self._take_conflict(neighbour, conflict, now, events)
            if reason is not None and self._refuse(known, neighbour, reason, now, events):
                return events
        for carried in items:
            if (reason := self._may(known, 1, carried.item, now)) is None:
                reason = self._take(neighbour, carried, now, events)
            if reason is not None and self._refuse(known, neighbour, reason, now, events):
                return events
        return events

    def round(
        self, now: float, may: Callable[[str], bool] = lambda neighbour: True
    ) -> dict[str, Batch]:
        """What to send now, to whom. Who may not be sent to has not read yet what was sent before.

        What is new goes at once. Of the rest, a node with very many neighbours collects some for
        each: a message costs it more than what is in it.
        """
        now = self._steady(now)
        while self._later and self._later[0][0] <= now:
            due, pseudonym = heappop(self._later)
            if (entry := self._entries.get(pseudonym)) is not None and entry.due == due:
                entry.due = None
                self._pass_on(entry, now)
        self._walk(now)
        batches = {}
        limits = self.limits
        for neighbour in self._outboxes.next(limits.neighbours_a_round, may):
            batch = Batch()
            items, conflicts = self._outboxes.take(
                neighbour, limits.items_a_round, limits.conflicts_a_round
            )
            for pseudonym, hops in items:
                if (entry := self._entries.get(pseudonym)) is not None:
                    batch.items.append(Carried(hops, entry.item))
            for pseudonym in conflicts:
                if (found := self._conflicts.get(pseudonym)) is not None:
                    batch.conflicts.append(found[0])
            if batch.items or batch.conflicts:
                batches[neighbour] = batch
        return batches

    def due(self) -> float:
        """The earliest time at which a round would send or decide anything; it may be past."""
        if self._outboxes.waiting or self._joined or self._walking:
            return float("-inf")
        return self._later[0][0] - self._went_back if self._later else float("inf")

    # -- what is held ---------------------------------------------------------------------------

    def newest(self, pseudonym: bytes) -> Item | None:
        """The item that is held of a pseudonym."""
        entry = self._entries.get(pseudonym)
        return None if entry is None else entry.item

    def conflict(self, pseudonym: bytes) -> Conflict | None:
        """The conflict that is held of a pseudonym."""
        found = self._conflicts.get(pseudonym)
        return None if found is None else found[0]

    def stats(self) -> Stats:
        """The figures of now."""
        return Stats(
            len(self._entries),
            self._shelf.used,
            len(self._conflicts),
            self._outboxes.waiting,
            self._outboxes.unsent,
            dict(self._refused),
        )

    def _neighbour(self, name: str, now: float) -> _Neighbour:
        known = self._neighbours.get(name)
        if known is None:
            known = _Neighbour(self._ring.place(name), float(self.limits.items_a_minute), now)
            self._neighbours[name] = known
        return known

    def _steady(self, now: float) -> float:
        """A time that never goes back, whatever the clock does; weeks are the clock's own."""
        self._went_back += max(0.0, self._seen - now)
        self._seen = now
        return now + self._went_back

    # -- taking -----------------------------------------------------------------------------------

    def _may(self, known: _Neighbour, cost: int, item: Item, now: float) -> Reason | None:
        if now < known.barred_until:
            return "barred"
        if known.allowed < cost:
            return "quota"
        known.allowed -= cost
        # Everybody's weeks begin within a day before the calendar's, so one more is in use.
        if not -1 <= item.epoch - int(self._seen) // EPOCH_SECONDS <= 1:
            return "epoch"
        return None

    def _refuse(
        self, known: _Neighbour, neighbour: str, reason: Reason, now: float, events: list[Event]
    ) -> bool:
        """Count it, say it once for what came together; whether to stop reading what came."""
        self._refused[reason] += 1
        if (refused := Refused(neighbour, reason)) not in events:
            events.append(refused)
        if reason in ("signature", "conflict"):
            known.barred_until = now + self.limits.barred
        return reason in ("signature", "conflict", "barred", "quota")

    def _take(
        self, neighbour: str, carried: Carried, now: float, events: list[Event]
    ) -> Reason | None:
        item, hops = carried.item, min(carried.hops + 1, HOPS_MAX)
        pseudonym = item.pseudonym
        entry = self._entries.get(pseudonym)
        if entry is None:
            if (reason := self._check(item, now)) is not None:
                return reason
            entry = self._entries[pseudonym] = _Entry(item, hops, neighbour)
            if pseudonym in self._watched:
                self._keep(entry, OWN)
                events.append(Heard(item, neighbour, True))
            self._keep(entry, neighbour)
            self._spread(entry, now)
            return None
        held = entry.item
        if item.rank == held.rank and item.commitment == held.commitment:
            self._again(entry, neighbour, hops, now)
            return None
        watched = pseudonym in self._watched or pseudonym in self._own
        if item.rank < held.rank:
            self._outboxes.put(neighbour, pseudonym, entry.hops, urgent=True)  # it is behind
            if watched:
                if (reason := self._check(item, now)) is not None:
                    return reason
                events.append(Heard(item, neighbour, False))
            return None
        if (reason := self._check(item, now)) is not None:
            return reason
        if conflicting(item, held):
            if pseudonym not in self._conflicts:
                events += self._found(make_conflict(held, item), neighbour)
            return None
        self._outboxes.drop(neighbour, pseudonym)
        entry.item, entry.source = item, neighbour
        self._move(entry, hops, now)
        self._keep(entry, neighbour)
        if watched:
            events.append(Heard(item, neighbour, True))
        self._spread(entry, now)
        return None

    def _again(self, entry: _Entry, neighbour: str, hops: int, now: float) -> None:
        """Somebody brought what is held: he need not be told, and his account keeps it too."""
        self._outboxes.drop(neighbour, entry.item.pseudonym)
        stuck = entry.hops >= HOPS_MAX
        if hops < entry.hops:
            entry.source = neighbour
            self._move(entry, hops, now)
        self._keep(entry, neighbour)
        if stuck and hops < HOPS_MAX:
            self._spread(entry, now)

    def _take_conflict(
        self, neighbour: str, conflict: Conflict, now: float, events: list[Event]
    ) -> Reason | None:
        pseudonym = conflict.first.pseudonym
        if pseudonym in self._conflicts:
            self._outboxes.drop_conflict(neighbour, pseudonym)
            return None
        if not conflicting(conflict.first, conflict.second):
            return "conflict"
        for item in (conflict.first, conflict.second):
            if (reason := self._check(item, now)) is not None:
                return reason
        hops = min(conflict.hops + 1, HOPS_MAX)
        events += self._found(make_conflict(conflict.first, conflict.second, hops), neighbour)
        return None

    def _check(self, item: Item, now: float) -> Reason | None:
        """Verify a signature, if there is time for it."""
        a_second = self.limits.checks_a_second
        if now > self._checks_at:
            self._checks = min(a_second, self._checks + (now - self._checks_at) * a_second)
        self._checks_at = now
        if self._checks < 1:
            return "busy"
        self._checks -= 1
        try:
            self._verify(item)
        except ProofError:
            return "signature"
        return None

    def _found(self, conflict: Conflict, neighbour: str) -> list[Event]:
        pseudonym = conflict.first.pseudonym
        watched = pseudonym in self._watched or pseudonym in self._own
        self._conflicts[pseudonym] = conflict, neighbour
        self._conflict_shelf.charge(OWN if watched else neighbour, pseudonym, conflict.hops)
        for _, lost in self._conflict_shelf.overflow():
            self._conflicts.pop(lost, None)
        if conflict.hops < HOPS_MAX:
            entry = self._entries.get(pseudonym)
            keepers = entry.keepers if entry is not None else ()
            # Back to where its items came from too: there are those who can read them.
            # Who brought the second item knows nothing yet; who brought the conflict does.
            knows = neighbour if conflict.hops else OWN
            for name in dict.fromkeys(
                (*self._ring.chosen(pseudonym, knows), *keepers[:KEEPERS_TOLD], neighbour)
            ):
                if name not in (knows, OWN):
                    self._outboxes.put_conflict(name, pseudonym)
        return [Conflicted(conflict, neighbour, watched)]

    # -- keeping ----------------------------------------------------------------------------------

    def _keep(self, entry: _Entry, neighbour: str) -> None:
        if neighbour in entry.keepers:
            return
        entry.keepers = (*entry.keepers, neighbour)
        if neighbour == OWN:
            return
        self._shelf.charge(neighbour, entry.item.pseudonym, entry.hops)
        for loser, pseudonym in self._shelf.overflow():
            self._forget(self._entries[pseudonym], loser)

    def _let_go(self, entry: _Entry, neighbour: str) -> None:
        if neighbour != OWN:
            self._shelf.release(neighbour, entry.item.pseudonym)
        self._forget(entry, neighbour)

    def _forget(self, entry: _Entry, neighbour: str) -> None:
        """An account does not keep it any more; with the last one it is gone."""
        entry.keepers = tuple(name for name in entry.keepers if name != neighbour)
        if not entry.keepers:
            self._entries.pop(entry.item.pseudonym, None)

    def _walk(self, now: float) -> None:
        """Look at everything, some in each round: what is of a past week goes, and who has come
        since the last walk is told what goes to him from now on.
        """
        oldest = int(self._seen) // EPOCH_SECONDS - 1
        if not self._walking:
            if now - self._walked_at <= (JOIN_SECONDS if self._joined else WALK_SECONDS):
                return
            self._walked_at, self._walking = now, list(self._entries)
            self._told, self._joined = self._joined, set()
            for pseudonym, (conflict, neighbour) in list(self._conflicts.items()):
                if conflict.first.epoch < oldest:
                    del self._conflicts[pseudonym]
                    self._conflict_shelf.release(neighbour, pseudonym)
                    self._conflict_shelf.release(OWN, pseudonym)
        for pseudonym in self._walking[-WALK_A_ROUND:]:
            entry = self._entries.get(pseudonym)
            if entry is not None and entry.item.epoch < oldest:
                self._own.discard(pseudonym)
                for neighbour in entry.keepers:
                    self._let_go(entry, neighbour)
            elif entry is not None and self._told and entry.hops < HOPS_MAX:
                self._offer(entry)
        del self._walking[-WALK_A_ROUND:]

    def _offer(self, entry: _Entry) -> None:
        """Send it to those of its chosen who have just come."""
        own = entry.source == OWN
        for number, neighbour in enumerate(self._ring.chosen(entry.item.pseudonym, entry.source)):
            if neighbour in self._told and not (own and number and entry.due is not None):
                hops = 0 if own and not number else max(entry.hops, 1)
                self._outboxes.put(neighbour, entry.item.pseudonym, hops)

    # -- sending ----------------------------------------------------------------------------------

    def _spread(self, entry: _Entry, now: float) -> None:
        """Pass an item on: now, or when its pseudonym and who brought it may be passed on again."""
        if entry.hops >= HOPS_MAX or entry.due is not None:
            return
        due = entry.rested_at - self._spacing(entry)  # two may go close together
        if entry.source != OWN:
            known = self._neighbours[entry.source]
            pace = 60 / self.limits.relays_a_minute
            turn = max(known.turn, now - pace * self.limits.relays_at_once)
            if turn > now + BACKLOG_SECONDS or len(self._later) >= self.limits.waiting:
                return  # it brings more than is passed on for anybody
            known.turn = turn + pace
            due = max(due, turn)
        if due > now:
            self._schedule(entry, due)
        else:
            self._pass_on(entry, now)

    def _schedule(self, entry: _Entry, due: float) -> None:
        """Pass it on then, and not when it would have been otherwise."""
        entry.due = due
        heappush(self._later, (due, entry.item.pseudonym))

    def _move(self, entry: _Entry, hops: int, now: float) -> None:
        """It came another way. What is nearer than before does not wait as what is far."""
        nearer, entry.hops = hops < entry.hops, hops
        if nearer:
            entry.rested_at = min(entry.rested_at, now + self._spacing(entry))

    def _spacing(self, entry: _Entry) -> float:
        spacing = self.limits.spacing
        return spacing[min(entry.hops, len(spacing) - 1)]

    def _rested(self, entry: _Entry, now: float) -> bool:
        """Whether nothing of its pseudonym was passed on for long, or ever: it is news."""
        return now >= entry.rested_at + self._spacing(entry)

    def _pass_on(self, entry: _Entry, now: float) -> None:
        news = self._rested(entry, now)
        entry.rested_at = max(entry.rested_at, now) + self._spacing(entry)
        pseudonym, own = entry.item.pseudonym, entry.source == OWN
        for number, neighbour in enumerate(self._ring.chosen(pseudonym, entry.source)):
            if not own:
                self._outboxes.put(neighbour, pseudonym, entry.hops, urgent=news)
            elif number:  # as what came from a neighbour
                self._outboxes.put(neighbour, pseudonym, 1, urgent=news)
            elif entry.again:
                self._outboxes.put(neighbour, pseudonym, 0, urgent=news)
        entry.again = False
