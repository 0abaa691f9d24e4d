"""Verify a bundle: numbered checks, from bytes that anyone may have made to what they prove.

Each check is one short function with the same number in `docs/formats.md`; `checks` runs them. What
is proved is what the two keys in the bundle's own terms signed: whether those are the right keys is
for whoever knows the channel's id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from tallystick.protocol.bundle import (
    CHECKPOINT,
    CONSUMER_HEAD,
    KEYS,
    PROVIDER_HEAD,
    README,
    STATEMENT_CSV,
    STATEMENT_JSON,
    TERMS,
    TERMS_TEXT,
    TIMESTAMP,
    VERDICT,
    Bundle,
    BundledLog,
    decode_keys,
    follow_keys,
    open_bundle,
    readme_text,
    terms_text,
)
from tallystick.protocol.checkpoint import (
    Checkpoint,
    meter_totals,
    verify_closing,
)
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.declarations import declared, sides_of
from tallystick.protocol.derive import period_lines
from tallystick.protocol.errors import ProofError
from tallystick.protocol.extras import NOTHING, Trust, check_time, check_witnesses, has_lines
from tallystick.protocol.heads import Head, parse_head_note
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.notes import parse_note
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import ROLES, Role, Terms, decode_record
from tallystick.protocol.rendering import (
    parse_statement_json,
    parse_verdict_json,
    statement_csv,
    statement_json,
    verdict_json,
)
from tallystick.protocol.replay import LogSummary, merge_closes, replay, survey_log
from tallystick.protocol.statement import Line, raise_difference, statement_root
from tallystick.protocol.terms import channel_id, check_terms
from tallystick.protocol.verdict import (
    MeterVerdict,
    Verdict,
    declared_of,
    first_differing,
    make_verdict,
    verdict_digest,
)


class _Known:
    """What the checks have established so far; each attribute is set by the check beside it."""

    bundle: Bundle  # 1
    compact = False  # 1
    logs: tuple[BundledLog, BundledLog]  # 1
    terms: Terms  # 2
    channel_id: bytes  # 2
    rings: tuple[Keyring, Keyring]  # 3, as each log knows the keys at its head
    checkpoint: Checkpoint  # 3
    lines: list[Line]  # 5
    verdict: Verdict | None  # 7
    summaries: tuple[LogSummary, LogSummary]  # 8
    closes: list[Checkpoint]  # 9

    def __init__(self, file: BinaryIO, trust: Trust) -> None:
        self.file = file
        self.trust = trust


def verify_bundle(file: BinaryIO, trust: Trust = NOTHING) -> list[Check]:
    """Run every check on a seekable file. No input bytes make this raise; only the disk may.

    A compact bundle has seven checks, a full one twelve; one with extras, or of which `trust` asks
    for them, has up to two more. The bundle holds when all of them are ok.
    """
    return list(iterate_checks(file, trust))


def iterate_checks(file: BinaryIO, trust: Trust = NOTHING) -> Iterator[Check]:
    """The checks of `verify_bundle`, each as soon as it is done."""
    known = _Known(file, trust)
    failed: dict[int, int] = {}
    last = len(_CHECKS)
    for check in run_checks(known, _CHECKS, failed):
        yield check
        if known.compact and check.number == _LAST_OF_COMPACT:
            last = check.number
            break
    yield from run_checks(known, _extras_of(known), failed, last + 1)


def _extras_of(known: _Known) -> list[Step[_Known]]:
    """The checks of what a bundle may have besides, if it has it or somebody asks for it."""
    members = known.bundle.members if hasattr(known, "bundle") else {}
    heads = [members[name] for name in _HEADS if name in members]
    steps: list[Step[_Known]] = []
    if known.trust.policy is not None or any(map(has_lines, heads)):
        steps.append(("witnesses", (4,), _check_witnesses))
    if known.trust.certificates is not None or TIMESTAMP in members:
        steps.append(("time", (3,), _check_time))
    return steps


def _check_archive(known: _Known) -> str:
    """1. The file is a bundle's container in its one form, and every member's CRC fits."""
    known.bundle = open_bundle(known.file)
    if known.bundle.logs is None:
        known.compact = True
        return f"{len(known.bundle.members)} members, compact"
    known.logs = known.bundle.logs
    return f"{len(known.bundle.members) + 2} members, full"


def _check_terms(known: _Known) -> str:
    """2. The terms are one canonical record and make sense; their SHA-256 is the channel's id."""
    record = decode_record(known.bundle.members[TERMS])
    if not isinstance(record, Terms):
        raise ProofError(f"{TERMS} holds a record of another kind")
    check_terms(record)
    known.terms, known.channel_id = record, channel_id(record)
    return (
        f"channel {known.channel_id.hex()} between {record.provider.name} (provider)"
        f" and {record.consumer.name} (consumer)"
    )


def _check_checkpoint(known: _Known) -> str:
    """3. Both parties' log keys signed the checkpoint, for this channel and a period of it."""
    known.rings = _rings(known)
    checkpoint = verify_closing(known.bundle.members[CHECKPOINT], known.rings[0])
    terms_digest = hashlib.sha256(known.bundle.members[TERMS]).digest()
    if checkpoint.terms_digest != terms_digest:
        raise ProofError("the checkpoint was signed under other terms")
    period = Calendar(known.terms.calendar, known.terms.time_zone).parse(checkpoint.period)
    stated = (checkpoint.time_zone, checkpoint.start_us, checkpoint.end_us)
    if stated != (known.terms.time_zone, period.start_us, period.end_us):
        raise ProofError(
            f"{checkpoint.period} does not begin and end in {known.terms.time_zone} as the"
            " checkpoint says"
        )
    known.checkpoint = checkpoint
    changed = len(known.rings[0].announced)
    after = f"; changes of keys before it: {changed}" if changed else ""
    return f"{checkpoint.period}, {checkpoint.digest().hex()}, signed by both{after}"


def _rings(known: _Known) -> tuple[Keyring, Keyring]:
    """The terms' keys and those that followed them, as each log says up to its head."""
    data, ring = known.bundle.members.get(KEYS), Keyring(known.terms)
    provider, consumer = decode_keys(data) if data else ([], [])
    return follow_keys(ring, provider, "provider"), follow_keys(ring, consumer, "consumer")


def _check_heads(known: _Known) -> str:
    """4. Each head has its author's signature and its peer's co-signature, and is the
    checkpoint's.
    """
    stated = known.checkpoint.heads
    for name, role, ring, expected in zip(_HEADS, ROLES, known.rings, stated, strict=True):
        head = _head(known.bundle.members[name], ring, role)
        if (head.size, head.root) != (expected.size, expected.root):
            raise ProofError(
                f"{name} is signed for {head.size} records, root {head.root.hex()};"
                f" the checkpoint says {expected.size}, root {expected.root.hex()}"
            )
    sizes = [head.size for head in known.checkpoint.heads]
    return f"{sizes[0]} and {sizes[1]} records, each signed and co-signed"


def _head(data: bytes, ring: Keyring, role: Role) -> Head:
    """The head of a note by keys of the ring: those that its signature lines name."""
    ids = {signature.key_id for signature in parse_note(data).signatures}
    logs = ring.log_vkeys(role)
    cosigners = ring.cosigner_vkeys("consumer" if role == "provider" else "provider")
    log = next((vkey for vkey in logs if vkey.id in ids), logs[0])
    cosigner = next((vkey for vkey in cosigners if vkey.id in ids), cosigners[0])
    return parse_head_note(data, log, cosigner).head


def _check_statement(known: _Known) -> str:
    """5. The statement's lines have the signed root, and every rendering shows the same."""
    members, checkpoint = known.bundle.members, known.checkpoint
    lines = parse_statement_json(members[STATEMENT_JSON])
    if len(lines) != checkpoint.lines or statement_root(lines) != checkpoint.statement_root:
        raise ProofError(
            f"the {len(lines)} lines of {STATEMENT_JSON} do not have the statement's root"
            f" that both signed over {checkpoint.lines} lines"
        )
    if lines != sorted(lines, key=lambda line: line.sort_key):
        raise ProofError("the statement's lines are not in order")
    if any(line.period != checkpoint.period for line in lines):
        raise ProofError(
            f"a line of the statement counts in another period, not in {checkpoint.period}"
        )
    for name, written in (
        (STATEMENT_JSON, statement_json(checkpoint, lines)),
        (STATEMENT_CSV, statement_csv(lines)),
        (TERMS_TEXT, terms_text(known.terms)),
        (README, readme_text(members)),
    ):
        if members[name] != written:
            raise ProofError(_where(name, members[name], written))
    known.lines = lines
    return f"{len(lines)} lines, root {checkpoint.statement_root.hex()}"


def _where(name: str, found: bytes, expected: bytes) -> str:
    """Where a member begins to differ from what the signed content gives."""
    pairs = enumerate(zip(found, expected, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(expected)))
    row = expected.count(b"\n", 0, at) + 1
    return f"{name} is not what the signed content gives, from line {row} (byte {at}) on"


def _check_totals(known: _Known) -> str:
    """6. Each meter's payable quantities add up to the total that both signed."""
    meters = {meter.name for meter in known.terms.meters}
    strange = next((line.meter for line in known.lines if line.meter not in meters), None)
    if strange is not None:
        raise ProofError(f"a line of the statement is of {strange}, which the terms do not have")
    totals = meter_totals(known.terms, known.lines)
    if totals != known.checkpoint.totals:
        pairs = zip(totals, known.checkpoint.totals, strict=False)
        for computed, signed in pairs:
            if computed != signed:
                raise ProofError(f"the lines add up to {computed!r}; both signed {signed!r}")
        raise ProofError(f"{len(known.checkpoint.totals)} totals for {len(totals)} meters")
    return "; ".join(totals)


def _check_verdict(known: _Known) -> str:
    """7. The verdict is the one that both signed, and what the terms say of its declared totals and
    the statement's lines; a checkpoint from before there were verdicts has none.
    """
    data, signed = known.bundle.members.get(VERDICT), known.checkpoint.verdict
    known.verdict = None
    if data is None and not signed:
        return "none: the checkpoint is from before there were verdicts"
    if data is None or not signed:
        raise ProofError(f"{VERDICT} and the checkpoint's line of it are not both there")
    verdict = parse_verdict_json(data)
    if verdict_json(verdict) != data:
        raise ProofError(_where(VERDICT, data, verdict_json(verdict)))
    if verdict_digest(verdict) != signed:
        raise ProofError(f"{VERDICT} is not the verdict whose digest both signed")
    totals = declared_of(known.terms, verdict)
    made = make_verdict(known.terms, known.checkpoint.period, known.lines, *totals)
    if made != verdict:
        _raise_other_verdict(made, verdict)
    known.verdict = verdict
    return "; ".join(f"{row.meter} {row.result}" for row in verdict.meters)


def _raise_other_verdict(made: Verdict, stated: Verdict) -> NoReturn:
    if made.period != stated.period:
        raise ProofError(f"{VERDICT} is of {stated.period}")
    left, right = first_differing(made, stated)
    assert left is not None and right is not None, "both have the terms' meters"
    raise ProofError(
        f"for {left.meter}, the checks give {_row(left)}; {VERDICT} says {_row(right)}"
    )


def _row(row: MeterVerdict) -> str:
    return (
        f"{row.result} (declared {row.provider or 'nothing'} and {row.consumer or 'nothing'},"
        f" payable {row.payable}, disputed {row.disputed})"
    )


def _check_records(known: _Known) -> str:
    """8. The records are canonical, and their chain and tree have the heads' sizes and roots."""
    found = []
    for log, role, head in zip(known.logs, ROLES, known.checkpoint.heads, strict=True):
        if log.count != head.size:
            raise ProofError(f"{log.count} records of the {role}; its head counts {head.size}")
        summary = survey_log(known.terms, role, known.channel_id, log.batches, head.size)
        root = summary.state.frontier.root()
        if root != head.root:
            raise ProofError(
                f"the {role}'s records have the root {root.hex()}; its head says {head.root.hex()}"
            )
        found.append(summary)
    known.summaries = (found[0], found[1])
    return f"{known.logs[0].count} and {known.logs[1].count} records give both heads' roots"


def _check_validity(known: _Known) -> str:
    """9. Each record is valid under the terms and what is before it; ids are unique."""
    for role, summary in zip(ROLES, known.summaries, strict=True):
        if summary.fault is not None:
            raise ProofError(f"in the {role}'s log, {summary.fault.message}", summary.fault.advice)
    for role, summary, ring in zip(ROLES, known.summaries, known.rings, strict=True):
        if summary.state.facts.keys != ring.announced:
            raise ProofError(f"{KEYS} does not hold the changes of keys in the {role}'s log")
    known.closes = merge_closes(*known.summaries)
    corrected = sum(len(summary.corrected) for summary in known.summaries)
    return f"every record is valid; {corrected} deltas are corrected"


def _check_derivation(known: _Known) -> str:
    """10. Deriving from the records gives exactly the statement's lines, and leaves none before."""
    a, b = known.summaries
    lines = replay(
        known.terms,
        known.logs[0].batches,
        known.logs[1].batches,
        (a.state.size, b.state.size),
        known.closes,
        known.summaries,
    )
    derived = period_lines(lines, known.checkpoint.period)
    if derived != known.lines:
        raise_difference(derived, known.lines)
    calendar = Calendar(known.terms.calendar, known.terms.time_zone)
    for line in lines:
        if calendar.parse(line.period).end_us <= known.checkpoint.start_us:
            raise ProofError(
                f"the records give a line of {line.meter} in {line.period}, which was never closed"
            )
    return f"the records give the same {len(derived)} lines"


def _check_previous(known: _Known) -> str:
    """11. The checkpoint follows the newest one that the logs know, or is the first."""
    newest = known.closes[-1] if known.closes else None
    if known.checkpoint.previous != (b"" if newest is None else newest.digest()):
        said = known.checkpoint.previous.hex() or "none"
        raise ProofError(
            f"the checkpoint says that it follows {said}; the newest in the logs is"
            f" {'none' if newest is None else newest.digest().hex()}"
        )
    if newest is None:
        return "the channel's first"
    if known.checkpoint.start_us < newest.end_us:
        raise ProofError(f"{known.checkpoint.period} was closed before, with {newest.period}")
    return f"it follows {newest.period}, {newest.digest().hex()}"


def _check_declarations(known: _Known) -> str:
    """12. What the verdict says was declared is what counts of the logs' declarations."""
    if known.verdict is None:
        return "no verdict"
    a, b = sides_of(
        known.terms,
        known.checkpoint.period,
        known.summaries[0].matters,
        known.summaries[1].matters,
    )
    provider, consumer = (side.totals for side in declared(a, b))
    made = make_verdict(known.terms, known.checkpoint.period, known.lines, provider, consumer)
    if made != known.verdict:
        _raise_other_verdict(made, known.verdict)
    sides = zip(known.checkpoint.heads, (provider, consumer), strict=True)
    said = [f"{head.party} declared {'totals' if totals else 'nothing'}" for head, totals in sides]
    return f"the records give the same verdict; {', '.join(said)}"


def _check_witnesses(known: _Known) -> str:
    """Which witnesses co-signed the heads, and whether the reader's policy asks for more."""
    members = known.bundle.members
    heads = [
        (f"the {role}'s head", members[name]) for role, name in zip(ROLES, _HEADS, strict=True)
    ]
    return check_witnesses(heads, known.trust)


def _check_time(known: _Known) -> str:
    """An authority's timestamp is over the checkpoint's note."""
    members = known.bundle.members
    return check_time(members.get(TIMESTAMP), members[CHECKPOINT], known.trust)


_HEADS = (PROVIDER_HEAD, CONSUMER_HEAD)
_CHECKS: tuple[Step[_Known], ...] = (
    ("archive", (), _check_archive),
    ("terms", (1,), _check_terms),
    ("checkpoint", (1, 2), _check_checkpoint),
    ("heads", (3,), _check_heads),
    ("statement", (3,), _check_statement),
    ("totals", (5,), _check_totals),
    ("verdict", (6,), _check_verdict),
    ("records", (3,), _check_records),
    ("validity", (8,), _check_validity),
    ("derivation", (5, 9), _check_derivation),
    ("previous", (9,), _check_previous),
    ("declarations", (7, 9), _check_declarations),
)
_LAST_OF_COMPACT = 7  # checks after it need the records
