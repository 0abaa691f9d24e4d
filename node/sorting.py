"""Drafts held against our log: which are new, and which repeat, contradict or are not allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tallystick.node.importing.drafts import Draft
from tallystick.node.logs import ChannelLog
from tallystick.node.sealing import SEALED_BYTES_MAX, check_sealed, check_time
from tallystick.protocol.errors import ConflictError, FormatError, InvalidRecord
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import (
    TEXT_BYTES_MAX,
    TIME_MAX_US,
    Delta,
    Terms,
    check_texts,
    texts_plain,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = "%Y-%m-%dT%H:%M:%S.%fZ"  # to the microsecond: that may be all that differs


@dataclass(slots=True)
class Sorted:
    """The drafts to record, with their fingerprints; of all drafts the indexes that they have then
    (-1: none), and by their places which were there already, and why others are not recorded.
    """

    fresh: Sequence[Draft]
    prints: Sequence[int]
    indexes: list[int]
    repeated: list[int] = field(default_factory=list)
    problems: list[tuple[int, str, str]] = field(default_factory=list)  # place, kind, message


def sort_out(log: ChannelLog, drafts: Sequence[Draft]) -> Sorted:
    """What to record of drafts."""
    prints = log.fingerprints([(draft.meter, draft.id) for draft in drafts])
    known = log.known(prints)
    if not known and len(set(prints)) == len(prints) and plainly_valid(log, drafts):
        first = log.state.size
        return Sorted(drafts, prints, list(range(first, first + len(drafts))))
    return _one_by_one(log, drafts, prints, known)


def plainly_valid(log: ChannelLog, drafts: Sequence[Draft]) -> bool:
    """Whether all of them are valid, seen by columns; if not, some still may be."""
    if not drafts:
        return True
    texts = [draft.id for draft in drafts]
    texts += [draft.subject for draft in drafts]
    lengths = list(map(len, texts))
    times = [draft.occurred_at for draft in drafts]
    return (
        texts_plain("".join(texts))
        and min(lengths) > 0
        and max(lengths) <= TEXT_BYTES_MAX
        and min(times) >= 0
        and max(times) <= TIME_MAX_US
        and max([len(draft.sealed) for draft in drafts]) <= SEALED_BYTES_MAX
        and log.rules.allows_all(drafts)
    )


def _one_by_one(
    log: ChannelLog,
    drafts: Sequence[Draft],
    prints: Sequence[int],
    known: dict[int, list[int]],
) -> Sorted:
    fresh: list[Draft] = []
    fresh_prints: list[int] = []
    fresh_places: dict[tuple[str, str], int] = {}
    found = Sorted(fresh, fresh_prints, [])
    for place, (draft, value) in enumerate(zip(drafts, prints, strict=True)):
        index = -1
        try:
            earlier = _recorded(log, draft, known.get(value, ()))
            again = fresh_places.get((draft.meter, draft.id))
            if earlier is None and again is not None:
                earlier = log.state.size + again, fresh[again]
            if earlier is not None:
                _check_same(log.terms, draft, earlier[1])
                index = earlier[0]
                found.repeated.append(place)
            else:
                check_texts(draft.id, what="id")
                check_texts(draft.subject, what="subject")
                log.rules.check_delta(draft.meter, draft.quantity)
                check_sealed(draft)
                check_time(draft)
                index = log.state.size + len(fresh)
                fresh_places[draft.meter, draft.id] = len(fresh)
                fresh.append(draft)
                fresh_prints.append(value)
        except ConflictError as error:
            found.problems.append((place, "conflict", str(error)))
        except (InvalidRecord, FormatError) as error:
            found.problems.append((place, "rejected", str(error)))
        found.indexes.append(index)
    return found


def _recorded(
    log: ChannelLog, draft: Draft, candidates: Sequence[int]
) -> tuple[int, Draft | Delta] | None:
    """What the log has under a draft's meter and id, and its index."""
    for index in candidates:
        record = log.record(index)
        if isinstance(record, Delta) and (record.meter, record.id) == (draft.meter, draft.id):
            return index, record
    return None


def _check_same(terms: Terms, draft: Draft, before: Draft | Delta) -> None:
    mine = (draft.subject, draft.quantity, draft.occurred_at)
    theirs = (before.subject, before.quantity, before.occurred_at)
    if mine != theirs:
        scale = next(m.scale for m in terms.meters if m.name == draft.meter)

        def show(subject: str, quantity: int, occurred_at: int) -> str:
            when = (_EPOCH + timedelta(microseconds=occurred_at)).strftime(_INSTANT)
            return f"{format_quantity(quantity, scale)} for {subject} at {when}"

        raise ConflictError(
            f"{draft.meter}/{draft.id} is recorded with other content:"
            f" recorded {show(*theirs)}; now {show(*mine)}",
            "Use a new id for a new event, or tally correct for a mistake",
        )
