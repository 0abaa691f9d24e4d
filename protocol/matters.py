"""Which matters (what parties say about usage that is recorded) may come next in a log.

Like all validity it is a function of the terms and of the log before: whether the dispute that an
answer names is there, and what the answer brings about, is for `disputes`. What the past must
know is little (`MatterPast`), and each check costs no more than a few look-ups, except that a
lapse has two co-signatures to verify; a record lapses once, so they are not many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import NoReturn, Protocol, TypeVar

from tallystick.protocol.declarations import check_reveal
from tallystick.protocol.errors import FormatError, InvalidRecord, PeriodError, ProofError
from tallystick.protocol.heads import Head, verify_head_cosignature
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import origin
from tallystick.protocol.periods import Calendar
from tallystick.protocol.quantities import parse_total
from tallystick.protocol.records import (
    Answer,
    Attested,
    Close,
    Correction,
    Declaration,
    Delta,
    Disclosure,
    Dispute,
    Epoch,
    Lapse,
    Matter,
    Named,
    Record,
    Reminder,
    Resolution,
    Reveal,
    Role,
    Rotation,
    Terms,
    Withdrawal,
    check_reason,
    check_texts,
    record_digest,
)

REMEMBERED_MAX = 1024  # of what was found to hold

Nameable = Close | Declaration | Dispute | Answer  # what a later record of the log may name
# A close or matter and its index in its log: what is kept at hand to see where disputes stand.
Said = tuple[int, Close | Matter]
_T = TypeVar("_T")


class MatterPast(Protocol):
    """What a matter's validity needs to know of the log before it."""

    def matter(self, index: int) -> Nameable | None:
        """The close, declaration, dispute or answer at an index; None if another record is."""

    def index_of(self, digest: bytes) -> int | None:
        """Where the first declaration or dispute with this digest is; None if there is none."""

    def ended(self, index: int) -> bool:
        """Whether a reveal opened the declaration at an index, or the record there lapsed."""


class Matters:
    """A `MatterPast` in memory, of all records that it was told, on top of another."""

    def __init__(self, before: MatterPast | None = None) -> None:
        self._before = before
        self._said: list[Said] = []
        self._at: dict[int, Nameable] = {}
        self._named: dict[bytes, int] = {}
        self._ended: set[int] = set()

    def take(self, first: int, records: Sequence[Record]) -> None:
        """Take valid records from index `first` on."""
        for index, record in enumerate(records, first):
            if type(record) is not Delta:
                self.note(index, record)

    def note(self, index: int, record: Record) -> None:
        """Take a valid record, of any kind, if it is a close or a matter."""
        if not isinstance(record, (Terms, Delta, Correction, Epoch, Rotation)):
            self._said.append((index, record))
        match record:
            case Close() | Answer():
                self._at[index] = record
            case Declaration() | Dispute():
                self._at[index] = record
                self._named.setdefault(record_digest(record), index)
            case Reveal():
                opened = self.index_of(record.declaration)
                assert opened is not None, "a valid reveal opens a declaration"
                self._ended.add(opened)
            case Lapse():
                self._ended.add(record.index)
            case _:
                pass

    def matters(self, size: int) -> list[Said]:
        """What it was told of the log's first `size` records, in order."""
        return self._said[: bisect_left(self._said, size, key=itemgetter(0))]

    def matter(self, index: int) -> Nameable | None:
        """See `MatterPast`."""
        found = self._at.get(index)
        if found is None and self._before is not None:
            return self._before.matter(index)
        return found

    def index_of(self, digest: bytes) -> int | None:
        """See `MatterPast`."""
        found = None if self._before is None else self._before.index_of(digest)
        return self._named.get(digest) if found is None else found

    def ended(self, index: int) -> bool:
        """See `MatterPast`."""
        return index in self._ended or (self._before is not None and self._before.ended(index))


def waiting_seconds(terms: Terms, record: Record) -> int | None:
    """How long the peer has to contradict a record; None if none of that kind waits for it."""
    match record:
        case Close() | Answer():
            return terms.dispute_seconds
        case Dispute():
            return terms.answer_seconds
        case _:
            return None


def attested_at_s(attested: Attested) -> int:
    """When the peer co-signed a head, by the co-signature (POSIX seconds)."""
    return int.from_bytes(attested.cosignature[:8], "big")


class MatterRules:
    """The terms as the matters in one party's log must follow them."""

    def __init__(self, terms: Terms, role: Role) -> None:
        self._terms = terms
        self._role = role
        self._calendar: Calendar | None = None
        self._scales = {
            meter.name: 0 if meter.aggregate == "count" else meter.scale for meter in terms.meters
        }
        self._labels: set[str] = set()  # of periods that there are
        self._verified: set[tuple[Attested, bytes]] = set()

    def check(
        self, index: int, record: Matter, past: MatterPast, ring: Keyring, lost_size: int
    ) -> None:
        """Refuse (`InvalidRecord`) a matter that may not stand at an index of the log.

        `ring` has the keys that the log knows by now; `lost_size` is the largest head of this log
        that an epoch says was lost.
        """
        match record:
            case Declaration() | Disclosure():
                self._check_period(record.period)
            case Reveal():
                self._check_reveal(record, past)
            case Dispute():
                self._check_dispute(index, record)
            case Answer():
                self._check_answer(index, record, past)
            case Resolution():
                check_reason(record.reason)
            case Withdrawal():
                check_reason(record.reason)
                if _dispute_named(record.dispute, past) is None:
                    _refuse("it withdraws a dispute that is not in this log")
            case Reminder():
                self._waiting(index, record.index, past)
            case Lapse():
                self._check_lapse(index, record, past, ring, lost_size)

    def _check_period(self, label: str) -> None:
        if label in self._labels:
            return
        if self._calendar is None:
            self._calendar = Calendar(self._terms.calendar, self._terms.time_zone)
        try:
            self._calendar.parse(label)
        except PeriodError as error:
            raise InvalidRecord(error.message, error.advice) from None
        _remember(self._labels, label)

    def _check_reveal(self, record: Reveal, past: MatterPast) -> None:
        names = [one.meter for one in record.totals]
        if names != sorted(set(names)):
            _refuse("the declared meters are not sorted, or one is there twice")
        for one in record.totals:
            if one.meter not in self._scales:
                _refuse(f"it declares a total of {one.meter!r}, which the terms do not have")
            parse_total(one.total, self._scales[one.meter])
        at = past.index_of(record.declaration)
        declaration = None if at is None else past.matter(at)
        if at is None or not isinstance(declaration, Declaration):
            _refuse("it opens a declaration that is not in this log")
        if past.ended(at):
            _refuse(f"the declaration at {at} is open already")
        check_reveal(self._terms, self._role, declaration, record)

    def _check_dispute(self, index: int, record: Dispute) -> None:
        self._check_period(record.period)
        check_texts(record.subject, what="subject")
        check_reason(record.reason)
        if record.meter not in self._scales:
            _refuse(f"it disputes the meter {record.meter!r}, which the terms do not have")
        if not record.amount:
            _refuse("it disputes an amount of nothing")
        self._check_named(index, record.records)

    def _check_answer(self, index: int, record: Answer, past: MatterPast) -> None:
        check_reason(record.reason)
        self._check_named(index, record.records)
        if record.conceded and _dispute_named(record.dispute, past) is not None:
            _refuse("it concedes a part of a dispute to its own party")

    def _check_named(self, index: int, records: tuple[Named, ...]) -> None:
        for named in records:
            if named.role == self._role and named.index >= index:
                _refuse(f"it names record {named.index} of this log, which is not before it")

    def _waiting(self, index: int, at: int, past: MatterPast) -> int:
        """The clock of the record at an index of the log that waits for the peer, in seconds."""
        record = past.matter(at) if at < index else None
        seconds = None if record is None else waiting_seconds(self._terms, record)
        if seconds is None:
            _refuse(f"record {at} of this log is none that waits for the peer")
        if isinstance(record, Answer) and _dispute_named(record.dispute, past) is not None:
            _refuse(f"record {at} insists on this party's own dispute, and waits for nothing")
        return seconds

    def _check_lapse(
        self, index: int, record: Lapse, past: MatterPast, ring: Keyring, lost_size: int
    ) -> None:
        seconds = self._waiting(index, record.index, past)
        if past.ended(record.index):
            _refuse(f"record {record.index} lapsed before")
        if not record.index < record.start.size <= record.end.size <= index:
            _refuse(f"its heads are not between record {record.index} and itself, in order")
        if record.start.size <= lost_size:
            # What was lost may have had other records there, co-signed before these were written.
            _refuse(f"it relies on a head of a size up to {lost_size}, which was lost once")
        given = attested_at_s(record.end) - attested_at_s(record.start)
        if given < seconds:
            _refuse(f"the peer co-signed its heads {given} seconds apart; {seconds} are to pass")
        for attested in (record.start, record.end):
            self._check_attested(attested, ring.at(attested.size))

    def _check_attested(self, attested: Attested, ring: Keyring) -> None:
        """Refuse a head of this log that the peer did not co-sign by its key in force there."""
        terms = self._terms
        own, peer = terms.provider, terms.consumer
        other: Role = "consumer"
        if self._role == "consumer":
            own, peer, other = peer, own, "provider"
        key = ring.keys(other, "cosigner")[-1].key
        if (attested, key) in self._verified:
            return
        head = Head(origin(own.name, ring.channel_id), attested.size, attested.root)
        try:
            verify_head_cosignature(head, peer.name, key, attested.cosignature)
        except (FormatError, ProofError) as error:
            raise InvalidRecord(f"its head {attested.size}: {error.message}") from None
        _remember(self._verified, (attested, key))


def _dispute_named(digest: bytes, past: MatterPast) -> int | None:
    """Where the dispute with this digest is in the log itself; None if it is not there."""
    at = past.index_of(digest)
    return at if at is not None and isinstance(past.matter(at), Dispute) else None


def _remember(found: set[_T], one: _T) -> None:
    if len(found) >= REMEMBERED_MAX:
        found.clear()
    found.add(one)


def _refuse(message: str) -> NoReturn:
    raise InvalidRecord(message)
