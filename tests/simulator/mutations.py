"""Mistakes on purpose: each breaks one promise in the nodes' code, and the simulator must find it.

A mutation says which of the design's invariants it breaks. Seeds are run until one of them shows a
violation of that invariant; a mutation that none shows would mean that the simulator looks away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest import mock

import msgspec
import trio

from simulator.plan import COPIES, LIARS, LOSSES, RUMOURS, TAKEOVERS
from tallystick.node import balances, declaring, lapsing, logs, rebuilding, recovery
from tallystick.node import channel as channel_module
from tallystick.node.admitting import Admission
from tallystick.node.batches import Batch
from tallystick.node.books import RESTORED, Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.declaring import Declarer, _check_unrevealed
from tallystick.node.disputing import standing_all
from tallystick.node.fencing import Fences
from tallystick.node.founding import Founding
from tallystick.node.gossiping.judging import Judge
from tallystick.node.gossiping.presences import ROW as PRESENCE
from tallystick.node.gossiping.presences import Presences
from tallystick.node.home import Home
from tallystick.node.importing.drafts import Draft
from tallystick.node.lapsing import Due, Lapser
from tallystick.node.link import Link
from tallystick.node.logs import ChannelLog, Sign
from tallystick.node.requests import EmitResult, Request
from tallystick.node.standby import mode, opening, promoting
from tallystick.node.standby.applying import Commits, Mirrored
from tallystick.node.standby.serving import Mirroring
from tallystick.node.store.changed import Keys, changed_since
from tallystick.node.store.disk import Job, Store, Ticket, Txn
from tallystick.node.store.keyspace import (
    DeclarationRow,
    FenceRow,
    PresenceRow,
    declaration_key,
    encode_row,
)
from tallystick.protocol import disputes
from tallystick.protocol.blinding import OpenedHead, OpenedPresence
from tallystick.protocol.declarations import SALT_SIZE, Commitments, commitment, totals_of
from tallystick.protocol.derive import Adjustments, Book, Tally
from tallystick.protocol.disputes import adjustments_at
from tallystick.protocol.errors import InvalidRecord, PeerBreach
from tallystick.protocol.heads import Head
from tallystick.protocol.items import Item
from tallystick.protocol.log import LogFacts
from tallystick.protocol.messages import Append, Presence, Promoted
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import (
    Declaration,
    Delta,
    Lapse,
    Matter,
    Record,
    Reveal,
    batch_bytes,
    record_digest,
)


@dataclass(frozen=True)
class Mutation:
    """A mistake: the invariant that it breaks, the code that it replaces, and with what.

    `remainder` names the seeds in which it is looked for: those with this remainder by 8, or all;
    `first` is the first of them, where one is known that shows it.
    """

    invariant: int
    owner: Any
    name: str
    mistake: Callable[..., Any]
    remainder: int | None = None
    first: int = 1

    def seeds(self) -> Iterable[int]:
        """The seeds to try, in order."""
        if self.remainder is None:
            return count(self.first)
        return count(self.first + (self.remainder - self.first) % 8, 8)

    def planted(self) -> AbstractContextManager[Any]:
        """The nodes' code with the mistake in it."""
        return mock.patch.object(self.owner, self.name, self.mistake)


async def _acknowledges_before_the_disk(self: Channel, drafts: Sequence[Draft]) -> EmitResult:
    request = Request(drafts)
    self._requests.append(request)
    self.errands.call(Channel.make_batches, self)
    await request.scheduled.wait()
    return request.result


async def _forgets_what_was_set_aside(channel: Channel) -> None:
    with channel.store.read() as txn:
        rows = rebuilding.aside_rows(txn, channel.own.number)

    def job(txn: Txn) -> None:
        for key, _ in rows:
            txn.delete("aside", key)

    await channel.store.commit(job)


def _keeps_one_thing_aside(txn: Txn, table: str, log: int) -> int:
    return 0


_submit = Store.submit


def _tells_before_the_disk(self: Store, job: Job, done: Callable[[], None] | None = None) -> Ticket:
    ticket = _submit(self, job, None)
    if done is not None:
        done()
    return ticket


def _signs_unconfirmed(self: Channel, head: Head, facts: LogFacts) -> tuple[bytes, bytes]:
    return channel_module.sign_head(head, self.log_signer(self.own.rules.keyring(facts))), b""


_check_new = Channel.check_new


def _believes_its_clock(self: Channel, log: ChannelLog, records: Sequence[Record]) -> list[int]:
    now = self._clock_us()
    if any(isinstance(record, Delta) and record.recorded_at > now for record in records):
        raise InvalidRecord("it was recorded in the future")
    return _check_new(self, log, records)


_append = ChannelLog.submit


def _cosigns_before_the_disk(
    self: ChannelLog,
    records: Sequence[Record],
    parts: Sequence[bytes],
    prints: Sequence[int],
    sign: Sign,
    then: Callable[[Batch], None],
) -> Ticket:
    ticket = _append(self, records, parts, prints, sign, lambda batch: None)
    then(Batch(self.state.size - len(records), batch_bytes(list(parts)), b"", b""))
    return ticket


def _knows_no_id(self: ChannelLog, prints: Sequence[int]) -> dict[int, list[int]]:
    return {}


def _knows_the_newest_ids(self: ChannelLog, prints: Sequence[int]) -> dict[int, list[int]]:
    recent = self.index._recent
    return {value: [recent[value]] for value in prints if value in recent}


def _counts_what_came_later(self: ChannelLog, size: int) -> dict[Any, Tally]:
    return {
        key: Tally(t.total, t.deltas, t.billed, t.billed_deltas)
        for key, t in self.tallies().items()
    }


class _IgnoresVoids(Book):
    """The node's book; the judge replays with a right one."""

    def correct(self, key: Any, old: int, new: int | None, highest: Any) -> None:
        if new is not None:
            super().correct(key, old, new, highest)


async def _sees_only_repeats(self: Channel, message: Append) -> bool:
    return True


async def _halts_every_channel(self: Link, channel: Channel, breach: PeerBreach) -> None:
    books = self._owner.books  # type: ignore[attr-defined]
    for found, _ in books.channels.values():
        found.part()
        await self._owner.halt(found, str(breach))


async def _ignores_halts(self: Founding, channel: bytes, reason: str) -> None:
    return None


def _trusts_its_memory(self: Channel, head: Head, signature: bytes) -> None:
    return None


async def _leaves_the_tail_in(channel: Channel) -> None:
    channel.pause()


def _sets_no_doubt(self: Any) -> None:
    return None


# Disputes and declarations


async def _declares_before_the_salt(
    self: Declarer, channel: Channel, closer: Closer, label: str, totals: Any, early: bool
) -> tuple[int, bool]:
    shown = totals_of(channel.terms, totals)
    _check_unrevealed(channel, label)
    salt = declaring.secrets.token_bytes(SALT_SIZE)
    made = commitment(channel.terms, channel.role, label, salt, shown)
    index = await channel.append_own(Declaration(label, made, channel.now_recorded_at()))
    row = encode_row(DeclarationRow(label, salt, shown))
    key = declaration_key(channel.row.number, made)
    await channel.store.commit(lambda txn: txn.put("declarations", key, row))
    return index, False


def _reveals_unsecured(
    own: Commitments, peer: Commitments, cosigned: tuple[int, int], openable: Any
) -> tuple[bytes, bytes] | None:
    return _next_opening(own, peer, (2**62, 2**62), openable)


_next_opening = declaring.next_opening


def _reveals_nothing(
    own: Commitments, peer: Commitments, cosigned: tuple[int, int], openable: Any
) -> tuple[bytes, bytes] | None:
    return None


_declare = Declarer.declare


async def _reveals_at_once(
    self: Declarer, channel: Channel, closer: Closer, label: str, totals: Any, early: bool
) -> tuple[int, bool]:
    index, again = await _declare(self, channel, closer, label, totals, early)
    record = channel.own.matter(index)
    if isinstance(record, Declaration) and not again:
        digest = record_digest(record)
        row = declaring.openable(channel)[digest]
        at = channel.now_recorded_at()
        await channel.append_own(Reveal(digest, bytes(32), row.salt, row.totals, at))
    return index, again


_waiting = lapsing.waiting


def _takes_words_for_silence(channel: Channel) -> list[int]:
    own = channel.own
    answered = [one.index for one in standing_all(channel) if one.role == own.role]
    return _waiting(channel) + [index for index in answered if not own.ended(index)]


async def _reminds_nobody(self: Lapser, channel: Channel, due: Due) -> float:
    return 1.0


def _takes_nothing_in_time(found: Any, lapse: Lapse, seconds: int) -> bool:
    return False


def _adjusts_by_the_present(
    terms: Any, calendar: Any, matters: Any, sizes: tuple[int, int], moves: Any
) -> Adjustments:
    return adjustments_at(terms, calendar, matters, (2**62, 2**62), moves)


def _leaves_matters_behind(txn: Txn, log: int, size: int) -> list[tuple[str, bytes]]:
    return []


# Copies


def _hears_no_copy(self: Presences, item: Item) -> OpenedPresence | None:
    return None


def _stops_in_memory_alone(self: Presences, row: PresenceRow) -> Job:
    value = encode_row(msgspec.structs.replace(row, stopped_us=0))
    return lambda txn: txn.put("meta", PRESENCE, value)


def _takes_its_past_for_a_copy(self: Presences, item: Item) -> OpenedPresence | None:
    said = self._veil(item.epoch).open_presence(item)
    return None if said.incarnation == self.incarnation else said


async def _lets_every_process_in(self: Admission, link: Link, presence: Presence) -> None:
    existing = self.links.get(link.peer)
    if existing is not None and existing is not link:
        existing.close("replaced by a newer connection")
        await existing.ended.wait()
    self._arriving.pop(link.peer, None)
    self.links[link.peer] = link


# Gossip's lies


async def _convicts_on_a_word(
    self: Judge, channel: Channel, log: ChannelLog, opened: OpenedHead
) -> str:
    if 0 < opened.size <= log.durable_size and log.root_at(opened.size) != opened.root:
        await self._convicted(channel, "gossip showed another history of a log")
        return "evidence"
    return "behind"


async def _makes_nothing_of_it(
    self: Judge, channel: Channel, log: ChannelLog, opened: OpenedHead
) -> str:
    return "rollback"


# Takeovers


def _hears_an_older_node(self: Fences, peer: PeerIdentity, presence: Presence) -> None:
    return None


async def _fences_in_memory_alone(
    self: Fences, peer: PeerIdentity, presence: Presence, promoted: Promoted | None
) -> bool:
    if presence.generation <= self.of(peer).generation or promoted is None:
        return False
    self._fences[peer.cosigner_key] = FenceRow(promoted.generation, promoted.proof)
    return True


def _keeps_no_generation(store: Store, generation: int, how: bytes = b"") -> None:
    store.commit_now(lambda txn: txn.put("meta", RESTORED, how))


def _starts_all_the_same(home: Home) -> int | None:
    return None


async def _waits_for_no_standby(self: Mirroring) -> bool:
    self._grown.set()
    self._grown = trio.Event()
    return True


_apply = Mirrored.apply


def _says_it_has_what_it_has_not(self: Mirrored, commits: Commits) -> None:
    held = [*getattr(self, "held", []), *commits]
    if len(held) > 1:
        self.number = held[0][0] - 1
        _apply(self, held[:-1])
    self.held, self.number = held[-1:], held[-1][0]  # type: ignore[attr-defined]


def _forgets_a_change(txn: Txn, number: int, upto: int) -> Keys | None:
    return changed_since(txn, min(number + 1, upto), upto)


def _says_everything_again(channel: Channel, record: Any) -> bool:
    return False


def _says_nothing_again(channel: Channel, record: Any) -> None:
    if isinstance(record, Matter):
        raise InvalidRecord("it was said before")


MUTATIONS: dict[str, Mutation] = {
    "acknowledges before the disk": Mutation(1, Channel, "emit", _acknowledges_before_the_disk),
    "forgets what was set aside": Mutation(
        1, recovery, "record_aside", _forgets_what_was_set_aside, LOSSES
    ),
    "keeps one thing aside": Mutation(1, rebuilding, "free_number", _keeps_one_thing_aside, LOSSES),
    "sends before the disk": Mutation(2, Store, "submit", _tells_before_the_disk),
    "goes on in silence after a loss": Mutation(2, Books, "_doubt_copies", _sets_no_doubt, LOSSES),
    "signs unconfirmed": Mutation(3, Channel, "_sign", _signs_unconfirmed),
    "believes its clock": Mutation(4, Channel, "check_new", _believes_its_clock),
    "leaves the unsigned tail in": Mutation(4, recovery, "set_aside", _leaves_the_tail_in, LOSSES),
    "co-signs before the disk": Mutation(5, ChannelLog, "submit", _cosigns_before_the_disk),
    "knows no id": Mutation(6, ChannelLog, "known", _knows_no_id),
    "knows the newest ids": Mutation(6, ChannelLog, "known", _knows_the_newest_ids),
    "counts what came later": Mutation(7, ChannelLog, "tallies_at", _counts_what_came_later),
    "ignores voids": Mutation(7, logs, "Book", _IgnoresVoids),
    "sees only repeats": Mutation(8, Channel, "repeats", _sees_only_repeats, LIARS, 135),
    "ignores halts": Mutation(8, Founding, "halt", _ignores_halts, LIARS, 135),
    "halts every channel": Mutation(9, Link, "_halt", _halts_every_channel, LIARS),
    "declares before the salt": Mutation(12, Declarer, "declare", _declares_before_the_salt),
    "reveals unsecured": Mutation(12, declaring, "next_opening", _reveals_unsecured),
    "reveals at once": Mutation(12, Declarer, "declare", _reveals_at_once),
    "reveals nothing": Mutation(12, declaring, "next_opening", _reveals_nothing),
    "takes words for silence": Mutation(13, lapsing, "waiting", _takes_words_for_silence),
    "reminds nobody": Mutation(13, Lapser, "_remind", _reminds_nobody),
    "takes nothing in time": Mutation(13, disputes, "in_time", _takes_nothing_in_time, first=58),
    "adjusts by present disputes": Mutation(7, balances, "adjustments_at", _adjusts_by_the_present),
    "leaves matters behind": Mutation(7, rebuilding, "rows_from", _leaves_matters_behind, LOSSES),
    "hears no copy": Mutation(14, Presences, "hear", _hears_no_copy, COPIES),
    "stops in memory alone": Mutation(14, Presences, "_put", _stops_in_memory_alone, COPIES),
    "takes its past for a copy": Mutation(
        14, Presences, "hear", _takes_its_past_for_a_copy, RUMOURS
    ),
    "convicts on a word": Mutation(4, Judge, "judge", _convicts_on_a_word, RUMOURS),
    "makes nothing of gossip": Mutation(2, Judge, "_go_back", _makes_nothing_of_it, RUMOURS),
    "lets every process in": Mutation(14, Admission, "admit", _lets_every_process_in, COPIES),
    "hears an older node": Mutation(15, Fences, "check", _hears_an_older_node, TAKEOVERS, 192),
    "fences in memory alone": Mutation(
        15, Fences, "_raise", _fences_in_memory_alone, TAKEOVERS, 344
    ),
    "keeps no generation": Mutation(
        15, promoting, "begin_generation", _keeps_no_generation, TAKEOVERS
    ),
    "starts all the same": Mutation(15, mode, "superseded_by", _starts_all_the_same, TAKEOVERS),
    "waits for no standby": Mutation(1, Mirroring, "shared", _waits_for_no_standby, TAKEOVERS, 192),
    "says it has what it has not": Mutation(
        1, Mirrored, "apply", _says_it_has_what_it_has_not, TAKEOVERS, 536
    ),
    "forgets a change": Mutation(15, opening, "changed_since", _forgets_a_change, TAKEOVERS),
    "says everything again": Mutation(11, recovery, "_is_there", _says_everything_again, LOSSES),
    "says nothing again": Mutation(11, recovery, "_check_named", _says_nothing_again, LOSSES),
}
