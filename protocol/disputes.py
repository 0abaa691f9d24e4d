"""Where disputes stand, and what they do to the balance: a function of both logs and nothing else.

A dispute is in one log, what the other party says of it in the other, and each names the other's
record by its digest. So the two logs may have grown in any order; at the same sizes everybody finds
the same. Time counts only as it is recorded: the co-signature times in a lapse, and the late
party's own `recorded_at`, both of which are by the late party's own clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from heapq import merge
from operator import itemgetter
from typing import Literal

from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.derive import (
    NO_ADJUSTMENT,
    NO_ADJUSTMENTS,
    Adjustment,
    Adjustments,
    LineKey,
)
from tallystick.protocol.matters import Said, attested_at_s
from tallystick.protocol.moves import Moves, last_moved
from tallystick.protocol.notes import parse_note
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import (
    ROLES,
    Answer,
    Close,
    Dispute,
    Lapse,
    Resolution,
    Role,
    Terms,
    Withdrawal,
    record_digest,
)

State = Literal[
    "resolved",  # both logs name the same amount
    "withdrawn",
    "conceded",  # all of it
    "barred",  # the checkpoint was deemed accepted before it came
    "upheld",  # for want of an answer
    "lapsed",  # the disputer did not insist after the answer
    "open",
    "answered",
    "contested",  # the disputer insists
]
PENDING: tuple[State, ...] = ("open", "answered", "contested")


@dataclass(frozen=True, slots=True)
class Standing:
    """A dispute in the log of `role` and where it stands; amounts are in the meter's scale.

    `upheld` is by how much less its line is payable (negative: more), `pending` how much of the
    amount is not decided. `answer` is the index of the other log's newest answer, `insisted` of
    the first one in its own log, `lapse` the record that decided, as (whose log, index).
    """

    role: Role
    index: int
    digest: bytes
    dispute: Dispute
    line: LineKey
    state: State
    upheld: int
    pending: int
    answer: int | None
    insisted: int | None
    lapse: tuple[Role, int] | None

    @property
    def waits_for(self) -> Role | None:
        """Whose silence would decide it; None if nobody's would."""
        if self.state == "open":
            return _other(self.role)
        return self.role if self.state == "answered" else None


@dataclass(slots=True)
class _Half:
    """What one log says, by what it is about."""

    disputes: dict[bytes, tuple[int, Dispute]] = field(default_factory=dict)
    first: dict[bytes, tuple[int, Answer]] = field(default_factory=dict)
    newest: dict[bytes, tuple[int, Answer]] = field(default_factory=dict)
    resolutions: dict[bytes, list[Resolution]] = field(default_factory=dict)
    withdrawn: set[bytes] = field(default_factory=set)
    lapses: dict[int, tuple[int, Lapse]] = field(default_factory=dict)
    closes: list[int] = field(default_factory=list)  # their indexes
    closed_us: list[int] = field(default_factory=list)  # until when each of them and those before

    @classmethod
    def of(cls, matters: Iterable[Said]) -> _Half:
        half = cls()
        for index, record in matters:
            match record:
                case Dispute():
                    half.disputes.setdefault(record_digest(record), (index, record))
                case Answer():
                    half.first.setdefault(record.dispute, (index, record))
                    half.newest[record.dispute] = (index, record)
                case Resolution():
                    half.resolutions.setdefault(record.dispute, []).append(record)
                case Withdrawal():
                    half.withdrawn.add(record.dispute)
                case Lapse():
                    half.lapses.setdefault(record.index, (index, record))
                case Close():
                    end_us = parse_checkpoint(parse_note(record.checkpoint).text).end_us
                    half.closes.append(index)
                    half.closed_us.append(max([end_us, *half.closed_us[-1:]]))
                case _:
                    pass
        return half

    def acceptance(self, end_us: int, moved: int | None) -> tuple[int, Lapse] | None:
        """The lapse of the checkpoint that bars disputes of a line, if there is one: that which
        closed its period, which ends then, or a newer one at which it last `moved`.
        """
        if moved is None:
            return None
        place = max(bisect_left(self.closed_us, end_us), moved)
        return self.lapses.get(self.closes[place]) if place < len(self.closes) else None


def standings(
    terms: Terms,
    calendar: Calendar,
    provider: Sequence[Said],
    consumer: Sequence[Said],
    moves: Moves,
) -> list[Standing]:
    """Every dispute of both logs (the provider's first), from their closes and matters so far.

    The matters are valid and in order; `moves` are those of the disputed lines so far. Of several
    disputes with one digest in a log the first counts. Takes time and memory in proportion to how
    many matters and moves there are.
    """
    halves = (_Half.of(provider), _Half.of(consumer))
    closings = max(len(half.closes) for half in halves)
    period_of = cache(calendar.parse)  # few of many disputes are of another period

    @cache  # nor of another line
    def moved(line: LineKey) -> int | None:
        return last_moved(moves.get(line, ()), closings)

    found = []
    for role, own, other in zip(ROLES, halves, halves[::-1], strict=True):
        for digest, (index, dispute) in own.disputes.items():
            period = period_of(dispute.period)
            line = LineKey(period.start_us, dispute.meter, dispute.subject)
            accepted = other.acceptance(period.end_us, moved(line))
            found.append(_stand(terms, role, (index, dispute), digest, line, accepted, own, other))
    return found


def _stand(
    terms: Terms,
    role: Role,
    found: tuple[int, Dispute],
    digest: bytes,
    line: LineKey,
    accepted: tuple[int, Lapse] | None,
    own: _Half,
    other: _Half,
) -> Standing:
    index, dispute = found
    answer, insisted = other.newest.get(digest), own.first.get(digest)
    conceded = _part(answer[1].conceded if answer else 0, dispute.amount)
    unanswered = own.lapses.get(index)
    dropped = other.lapses.get(answer[0]) if answer else None
    lapse: tuple[Role, int] | None = None
    sides = (own, other) if role == "provider" else (other, own)
    agreed = _agreed(*(side.resolutions.get(digest, ()) for side in sides))
    state: State
    if agreed is not None:
        state, upheld = "resolved", agreed
    elif digest in own.withdrawn:
        state, upheld = "withdrawn", 0
    elif conceded == dispute.amount:
        state, upheld = "conceded", conceded
    elif accepted and not in_time(found, accepted[1], terms.dispute_seconds):
        state, upheld, lapse = "barred", 0, (_other(role), accepted[0])
    elif unanswered and not in_time(other.first.get(digest), unanswered[1], terms.answer_seconds):
        state, upheld, lapse = "upheld", dispute.amount, (role, unanswered[0])
    elif dropped and not in_time(insisted, dropped[1], terms.dispute_seconds):
        state, upheld, lapse = "lapsed", conceded, (_other(role), dropped[0])
    else:
        state = "open" if answer is None else "answered" if insisted is None else "contested"
        upheld = conceded
    return Standing(
        role,
        index,
        digest,
        dispute,
        line,
        state,
        upheld,
        dispute.amount - upheld if state in PENDING else 0,
        answer[0] if answer else None,
        insisted[0] if insisted else None,
        lapse,
    )


def _agreed(provider: Sequence[Resolution], consumer: Sequence[Resolution]) -> int | None:
    """The first amount that both name, in the order of when they say that they did.

    Times do not go back in a log, so nobody changes it by naming another one later.
    """
    named: tuple[set[int], set[int]] = set(), set()
    said = [
        [(record.recorded_at, side, record.upheld) for record in records]
        for side, records in enumerate((provider, consumer))
    ]
    for _, side, amount in merge(*said, key=itemgetter(0, 1)):
        if amount in named[1 - side]:
            return amount
        named[side].add(amount)
    return None


def in_time(found: tuple[int, Dispute | Answer] | None, lapse: Lapse, seconds: int) -> bool:
    """Whether a record of one log is there in time, against a lapse in the other.

    It is if the lapse's author had it already, or if it was recorded before the time was over;
    `seconds` is the clock of what lapsed (`waiting_seconds`). None is a record that is not there.
    """
    if found is None:
        return False
    index, record = found
    over_us = (attested_at_s(lapse.start) + seconds) * 1_000_000
    return index < lapse.peer_size or record.recorded_at <= over_us


def adjustments(standing: Iterable[Standing]) -> dict[LineKey, Adjustment]:
    """What disputes do to balance lines, for each line that they do anything to."""
    found: dict[LineKey, Adjustment] = {}
    for one in standing:
        if one.upheld or one.pending:
            before = found.get(one.line, NO_ADJUSTMENT)
            found[one.line] = Adjustment(
                before.upheld + one.upheld,
                before.withheld + max(one.pending, 0),
                before.claimed + max(-one.pending, 0),
            )
    return found


def disputed_lines(calendar: Calendar, matters: Iterable[Said]) -> set[LineKey]:
    """The lines that a log's disputes are about, wherever they stand."""
    lines = {
        (record.period, record.meter, record.subject)
        for _, record in matters
        if type(record) is Dispute
    }
    period_of = cache(calendar.parse)
    return {LineKey(period_of(period).start_us, *line) for period, *line in lines}


def adjustments_at(
    terms: Terms,
    calendar: Calendar,
    matters: tuple[Sequence[Said], Sequence[Said]],
    sizes: tuple[int, int],
    moves: Moves,
) -> Adjustments:
    """What the disputes in both logs (provider's, consumer's) do to lines at these sizes.

    The matters may go on beyond the sizes, the moves may not; without a dispute among the matters
    this costs next to nothing.
    """
    if not any(type(record) is Dispute for half in matters for _, record in half):
        return NO_ADJUSTMENTS
    cut = [
        half[: bisect_left(half, size, key=itemgetter(0))]
        for half, size in zip(matters, sizes, strict=True)
    ]
    return adjustments(standings(terms, calendar, cut[0], cut[1], moves))


def _part(value: int, amount: int) -> int:
    """As much of an amount as a value is: of its sign, and no more than it."""
    return min(max(value, 0), amount) if amount > 0 else max(min(value, 0), amount)


def _other(role: Role) -> Role:
    return "consumer" if role == "provider" else "provider"
