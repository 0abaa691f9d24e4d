"""The numbered checks of an audit, over both logs of a channel.

Each is one short function; what it establishes stands beside its name in `Audit`. Faults are named
with the log and the index of the record, and the first of a log is the one that `replay` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from tallystick.node.auditing.driver import LogAudit, Tell, examine_both
from tallystick.node.auditing.pools import Pool
from tallystick.node.auditing.sources import KnownHead, Source
from tallystick.node.errors import ClusterError
from tallystick.node.segments import SEGMENT
from tallystick.protocol.audit import Fault
from tallystick.protocol.audit_closings import Closings, KeptClosing, check_kept
from tallystick.protocol.bundle import decode_keys, follow_keys
from tallystick.protocol.checkpoint import Checkpoint
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.derive import Folder
from tallystick.protocol.errors import FormatError, ProofError, TallyError
from tallystick.protocol.heads import Head, verify_head_cosignature, verify_head_signature
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import origin
from tallystick.protocol.merkle import Frontier
from tallystick.protocol.records import ROLES, Role
from tallystick.protocol.replay import AtStop, LogSummary, Stops, Tallies, open_lines
from tallystick.protocol.statement import raise_difference
from tallystick.protocol.terms import channel_id, check_terms


class Audit:
    """What an audit has established; each attribute is set by the check beside it."""

    source: Source  # 1
    stated: list[Checkpoint]  # 1, whoever signed them
    pool: Pool  # 1
    logs: tuple[LogAudit, LogAudit]  # 3
    summaries: tuple[LogSummary, LogSummary]  # 6
    rings: tuple[Keyring, Keyring]  # 6
    closed: list[Checkpoint]  # 9
    closings: Closings  # 10

    def __init__(
        self, opened: Callable[[], Source], pool_for: Callable[[int], Pool], tell: Tell
    ) -> None:
        self.opened, self.pool_for, self.tell = opened, pool_for, tell

    def whole(self, close: Checkpoint) -> bool:
        """Whether all records that a checkpoint counts are here."""
        return all(
            size <= place.size for size, place in zip(close.sizes, self.source.places, strict=True)
        )

    def head_text(self, side: int, size: int, root: bytes) -> Head:
        """A head of a log."""
        return Head(origin(self.party(side), self.source.channel), size, root)

    def party(self, side: int) -> str:
        """The name of a log's author."""
        terms = self.source.terms
        return (terms.provider if side == 0 else terms.consumer).name


def run_audit(
    opened: Callable[[], Source], pool_for: Callable[[int], Pool], tell: Tell
) -> Iterator[Check]:
    """The checks of what is opened, each as soon as it is done, by the pool for so many records.

    `ClusterError` if the work cannot be done: that says nothing of the records.
    """
    steps = [(name, needs, partial(_pass_on, step)) for name, needs, step in _CHECKS]
    try:
        yield from run_checks(Audit(opened, pool_for, tell), steps)
    except _NotDone as stopped:
        raise stopped.error from None


class _NotDone(Exception):
    """Carries an error past those that are findings."""

    def __init__(self, error: ClusterError) -> None:
        self.error = error


def _pass_on(step: Callable[[Audit], str], known: Audit) -> str:
    try:
        return step(known)
    except ClusterError as error:
        raise _NotDone(error) from error


def _of_log(role: Role, fault: Fault) -> ProofError:
    return ProofError(f"in the {role}'s log, {fault.message}", fault.advice)


def _check_source(known: Audit) -> str:
    """1. What is audited can be opened, and its checkpoints can be read."""
    known.source = known.opened()
    known.stated = [kept.checkpoint() for kept in known.source.closings]
    known.pool = known.pool_for(known.source.records)
    return f"{known.source.said}, {_some(len(known.stated), 'closed period')}"


def _check_terms(known: Audit) -> str:
    """2. The terms make sense, and their SHA-256 is the channel's id."""
    terms = known.source.terms
    check_terms(terms)
    if channel_id(terms) != known.source.channel:
        raise ProofError(f"these are not the terms of the channel {known.source.channel.hex()}")
    return (
        f"channel {known.source.channel.hex()} between {terms.provider.name} (provider)"
        f" and {terms.consumer.name} (consumer)"
    )


def _check_records(known: Audit) -> str:
    """3. Every record is in its canonical form, and each piece begins where the one before ends."""
    source = known.source
    logs = []
    for side, place in enumerate(source.places):
        sizes = {close.sizes[side] for close in known.stated}
        if source.edges is not None:
            sizes |= {size // SEGMENT * SEGMENT for size in sizes}
        sizes |= {head.size for head in source.heads[side]}
        stops = [size for size in sizes if size <= place.size]
        logs.append(LogAudit(source.terms, place, stops, known.pool, known.tell))
    known.logs = (logs[0], logs[1])
    examine_both(known.pool, known.logs, known.tell)
    for log in known.logs:
        if log.joined.broken is not None:
            raise _of_log(log.role, log.joined.broken)
    pieces = sum(len(task.pieces) for log in known.logs for task in log.tasks)
    sizes_said = " and ".join(f"{log.joined.size:,}" for log in known.logs)
    return f"{sizes_said} records, in {_some(pieces, 'piece')} that join"


def _check_files(known: Audit) -> str:
    """4. What segments say of their records, in columns and footers, is what the records say."""
    faults = [fault for log in known.logs for fault in log.containers]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ProofError(faults[0] + more)
    files = sum(log.segments for log in known.logs)
    if not files:
        return "no segments: all records are in the store"
    return f"columns and footers of {_some(files, 'segment')} say what the records say"


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _check_heads(known: Audit) -> str:
    """5. The records have the roots of the heads that closed periods and the newest heads name."""
    count = 0
    for place, close in enumerate(known.stated):
        for side, stated in enumerate(close.heads):
            root = _root_at(known, side, stated.size, place)
            if root != stated.root:
                raise ProofError(
                    f"the {ROLES[side]}'s records give {root.hex()} as the root of"
                    f" {stated.size} records; the checkpoint of {close.period} says"
                    f" {stated.root.hex()}"
                )
            count += 1
    for side, heads in enumerate(known.source.heads):
        for head in heads:
            joined = known.logs[side].joined
            if head.size not in joined.frontiers:
                raise ProofError(
                    f"a head of the {ROLES[side]} counts {head.size} records; {joined.size} are"
                    " here"
                )
            root = joined.frontiers[head.size].root()
            if root != head.root:
                raise ProofError(
                    f"the {ROLES[side]}'s records give {root.hex()} as the root of {head.size}"
                    f" records; the head says {head.root.hex()}"
                )
            count += 1
    unproven = _unproven(known)
    if unproven and known.source.edges is not None:
        raise ProofError(f"no checkpoint counts {unproven}: nobody is known to have signed them")
    said = f"; not co-signed yet: {unproven}" if unproven else ""
    return f"the records give the roots of {_some(count, 'head')}{said}"


def _root_at(known: Audit, side: int, size: int, place: int) -> bytes:
    """The root that the records give at a checkpoint's size, its last ones by its edges."""
    joined, edges = known.logs[side].joined, known.source.edges
    if size in joined.frontiers:
        return joined.frontiers[size].root()
    below = joined.frontiers.get(size // SEGMENT * SEGMENT)
    if edges is None or below is None:
        raise ProofError(
            f"the checkpoint of {known.stated[place].period} counts {size} records of the"
            f" {ROLES[side]}; {joined.size} are here"
        )
    try:
        peaks = below.to_bytes() + b"".join(edges[place][side])
        return Frontier.from_bytes(size, peaks).root()
    except FormatError as error:
        raise ProofError(
            f"the edges of the checkpoint of {known.stated[place].period} do not fit:"
            f" {error.message}"
        ) from None


def _unproven(known: Audit) -> str:
    """What no head covers that both signed, in words."""
    said = []
    for side, log in enumerate(known.logs):
        covered = [head.size for head in known.source.heads[side] if head.cosignature]
        covered += [close.sizes[side] for close in known.stated]
        beyond = log.joined.size - max(covered, default=0)
        if beyond > 0:
            said.append(f"{_some(beyond, 'record')} of the {log.role}")
    return " and ".join(said)


def _check_validity(known: Audit) -> str:
    """6. Each record is valid under the terms and what is before it."""
    summaries = (known.logs[0].summary, known.logs[1].summary)
    for log, summary in zip(known.logs, summaries, strict=True):
        if summary.fault is not None:
            message = f"in the {log.role}'s log, {summary.fault.message}"
            raise ProofError(message, summary.fault.advice)
    known.summaries = summaries
    terms = known.source.terms
    known.rings = (
        Keyring(terms, summaries[0].state.facts.keys),
        Keyring(terms, summaries[1].state.facts.keys),
    )
    corrected = sum(len(log.joined.corrections()) for log in known.logs)
    return f"every record is valid; {_some(corrected, 'correction')}"


def _check_ids(known: Audit) -> str:
    """7. No meter and id is there twice in a log."""
    for log in known.logs:
        if log.repeated is not None:
            raise ProofError(f"in the {log.role}'s log, {log.repeated.message}")
    deltas = " and ".join(f"{log.joined.deltas:,}" for log in known.logs)
    return f"the ids of {deltas} deltas are all different"


def _check_signatures(known: Audit) -> str:
    """8. The newest heads carry their author's signature and their peer's co-signature."""
    if not any(known.source.heads):
        return "none but those on checkpoints"
    said = []
    for side, heads in enumerate(known.source.heads):
        for head in heads:
            _verify_head(known, side, head)
        newest = max((head.size for head in heads if head.cosignature), default=0)
        said.append(f"{newest:,}")
    return f"co-signed up to {' and '.join(said)} records"


def _verify_head(known: Audit, side: int, kept: KnownHead) -> None:
    """By any key that the log knows at the head's size."""
    role, other = ROLES[side], ROLES[1 - side]
    ring = known.rings[side].at(kept.size)
    head = known.head_text(side, kept.size, kept.root)
    what = f"the head of {kept.size} records of the {role}"
    if kept.signature and not any(
        _holds(lambda key=key: verify_head_signature(head, key.key, kept.signature))  # type: ignore[misc]
        for key in ring.keys(role, "log")
    ):
        raise ProofError(f"{what}: its author's signature does not hold")
    name = known.party(1 - side)
    if kept.cosignature and not any(
        _holds(lambda key=key: verify_head_cosignature(head, name, key.key, kept.cosignature))  # type: ignore[misc]
        for key in ring.keys(other, "cosigner")
    ):
        raise ProofError(f"{what}: its co-signature does not hold")


def _holds(verify: Callable[[], object]) -> bool:
    with suppress(ProofError, FormatError):
        verify()
        return True
    return False


def _check_closed(known: Audit) -> str:
    """9. Both signed each closed period, each follows the one before, and the logs say the same."""
    closed: list[Checkpoint] = []
    for kept, stated in zip(known.source.closings, known.stated, strict=True):
        before = closed[-1] if closed else None
        try:
            ring = _ring_at(known, kept, stated.sizes[0])
            closed.append(check_kept(known.source.terms, ring, kept, before))
        except TallyError as error:
            raise ProofError(f"{stated.period}: {error.message}") from None
        if before is not None and any(
            now < then for now, then in zip(stated.sizes, before.sizes, strict=True)
        ):
            raise ProofError(f"{stated.period}: it goes back behind {before.period}")
    for log, summary in zip(known.logs, known.summaries, strict=True):
        for place, close in enumerate(summary.closes):
            if place >= len(closed) or closed[place].digest() != close.checkpoint.digest():
                raise ProofError(
                    f"in the {log.role}'s log, record {close.index} closes"
                    f" {close.checkpoint.period}, which is not what is kept as closed"
                )
    known.closed = closed
    return f"{_some(len(closed), 'closed period')}, signed by both, each after the one before"


def _ring_at(known: Audit, kept: KeptClosing, size: int) -> Keyring:
    """The keys that the provider's log gives at a checkpoint's size; those of its last records come
    from beside the checkpoint if the records are not here.
    """
    ring = known.rings[0].at(size)
    kept_keys = decode_keys(kept.keys)[0] if kept.keys else []
    here = known.logs[0].joined.size
    return follow_keys(ring, (one for one in kept_keys if here <= one[0] < size), "provider")


def _check_derivation(known: Audit) -> str:
    """10. Each closed period's statement is what the records up to its heads give."""
    whole = [close for close in known.closed if known.whole(close)]

    def walk(side: int, stops: Stops, at_stop: AtStop) -> Tallies:
        log = known.logs[side]
        return log.joined.walk(log.corrected, log.peaks, stops, at_stop)

    known.closings = Closings(known.source.terms, whole, known.summaries, walk)
    lines = 0
    for place, close in enumerate(whole):
        kept = known.source.closings[place]
        try:
            known.closings.check(place, kept)
        except TallyError as error:
            raise ProofError(f"{close.period}: {error.message}") from None
        lines += len(kept.lines)
    periods = _some(len(whole), "closed period")
    said = f"the records give the {_some(lines, 'line')} of {periods}"
    left = [close.period for close in known.closed[len(whole) :]]
    return said + (f"; not of {', '.join(left)}, whose last records are not here" if left else "")


def _check_balances(known: Audit) -> str:
    """11. The open balance lines are what the records give."""
    kept = known.source.open_lines
    if kept is None:
        return "none: an archive holds closed periods"
    terms = known.source.terms
    derived = open_lines(
        terms,
        Folder(terms),
        known.closings.sides,
        known.closings.moves,
        (known.source.places[0].size, known.source.places[1].size),
        known.closed,
        known.summaries,
    )
    if derived != list(kept):
        raise_difference(derived, kept)
    return f"the records give the {_some(len(derived), 'open line')} that the home has"


_CHECKS: tuple[Step[Audit], ...] = (
    ("source", (), _check_source),
    ("terms", (1,), _check_terms),
    ("records", (2,), _check_records),
    ("files", (3,), _check_files),
    ("heads", (3,), _check_heads),
    ("validity", (3,), _check_validity),
    ("ids", (3,), _check_ids),
    ("signatures", (6,), _check_signatures),
    ("closed", (6,), _check_closed),
    ("derivation", (7, 9), _check_derivation),
    ("balances", (10,), _check_balances),
)
