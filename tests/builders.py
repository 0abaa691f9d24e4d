"""Two parties in memory: keys, terms, logs, co-signed heads and checkpoints, for any test.

Everything is deterministic: the same calls give the same bytes. What is built is checked on the
way by the rules themselves, so a test that needs an invalid log assembles its batches by hand.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from nacl.signing import SigningKey

from tallystick.protocol.bundle import BundleContents, write_bundle
from tallystick.protocol.checkpoint import (
    Checkpoint,
    LogHead,
    build_checkpoint,
    checkpoint_note,
    sign_checkpoint,
)
from tallystick.protocol.declarations import commitment, declared, sides_of, totals_of
from tallystick.protocol.derive import period_lines
from tallystick.protocol.heads import Head, SignedHead, cosign_head, sign_head
from tallystick.protocol.keyring import Keyring, make_rotation
from tallystick.protocol.keys import (
    ED25519_COSIGNATURE,
    ED25519_NOTE,
    Identity,
    Vkey,
    origin,
)
from tallystick.protocol.log import LogState, Rules, append
from tallystick.protocol.matters import Matters
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import (
    ROLES,
    Close,
    Correction,
    Declaration,
    DeclaredTotal,
    Delta,
    Job,
    Meter,
    PartyKeys,
    Record,
    Reveal,
    Role,
    Rotation,
    Terms,
    Tolerance,
    batch_bytes,
    encode_record,
    record_digest,
)
from tallystick.protocol.replay import rederive
from tallystick.protocol.statement import Line
from tallystick.protocol.terms import channel_id
from tallystick.protocol.verdict import Verdict, make_verdict, verdict_digest

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
OCTOBER_US = 1_790_805_600_000_000  # 2026-10-01T00:00 in Berlin
NOVEMBER_US = OCTOBER_US + 31 * DAY_US + HOUR_US  # summer time ends in between
DECEMBER_US = NOVEMBER_US + 30 * DAY_US
COSIGNED_AT_SECONDS = 1_793_491_200


def meter(name: str, **changes: object) -> Meter:
    """A meter summing tokens that both record, with these fields changed."""
    fields: dict[str, object] = {
        "name": name,
        "unit": "token",
        "scale": 0,
        "minimum": -(2**62),
        "maximum": 2**62,
        "aggregate": "sum",
        "source": "both",
        "payable": "provider",
        "match_window_us": 2_000_000,
        "tolerance": Tolerance(5000, 1000, "provider", 1000),
    }
    return Meter(**(fields | changes))  # type: ignore[arg-type]


METERS = (
    meter("calls", aggregate="count", payable="minimum", unit="call"),
    meter("gpu-hours", scale=2, source="provider", unit="GPU-hour", tolerance=None),
    meter("peak", aggregate="max", unit="GB", payable="consumer"),
    meter("tokens"),
)


def identity(name: str) -> Identity:
    """A party whose seed is its name."""
    return Identity.from_seed(name, name.encode().ljust(32, b"\0")[:32])


def party_keys(party: Identity) -> PartyKeys:
    """A party as terms name it."""
    return PartyKeys(party.name, party.log_key, party.cosigner_key)


def make_terms(
    provider: Identity,
    consumer: Identity,
    meters: Iterable[Meter] = METERS,
    calendar: str = "month",
    time_zone: str = "Europe/Berlin",
) -> Terms:
    """Terms between two parties."""
    return Terms(
        1,
        party_keys(provider),
        party_keys(consumer),
        calendar,  # type: ignore[arg-type]
        time_zone,
        3 * 86_400,
        15 * 86_400,
        29 * 86_400,
        tuple(meters),
        b"sixteen bytes...",
    )


@dataclass
class MemoryLog(Matters):
    """One party's log in memory, as the batches it was appended in."""

    terms: Terms
    role: Role
    author: Identity
    peer: Identity
    batches: list[bytes] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        Matters.__init__(self)
        self.channel_id = channel_id(self.terms)
        self.state = LogState.empty(self.channel_id)
        self._rules = Rules(self.terms, self.role)
        self._now: dict[tuple[str, str], tuple[Delta, int | None]] = {}
        self.append(self.terms)

    def source(self) -> list[bytes]:
        """The log's batches, as a `BatchSource`."""
        return self.batches

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        """See `LogPast`."""
        return self._now.get((meter, id))

    def append_unchecked(self, *records: Record) -> None:
        """Append one batch, whatever the rules say."""
        parts = [encode_record(record) for record in records]
        self.batches.append(batch_bytes(parts))
        self.records += records
        now = self.state
        self.state = append(now, parts, now.facts).state

    def append(self, *records: Record) -> None:
        """Append one batch of valid records."""
        facts = self._rules.check_batch(self.state, records, self)
        self.append_unchecked(*records)
        self.state = replace(self.state, facts=facts)
        for index, record in enumerate(records, self.state.size - len(records)):
            self.note(index, record)
            if isinstance(record, Delta):
                assert (record.meter, record.id) not in self._now
                self._now[record.meter, record.id] = (record, record.quantity)
            elif isinstance(record, Correction):
                delta, _ = self._now[record.meter, record.id]
                self._now[record.meter, record.id] = (delta, record.quantity)

    def delta(
        self,
        id: str,
        meter: str,
        quantity: int,
        occurred_at: int = OCTOBER_US,
        subject: str = "project-7",
    ) -> None:
        """Append one delta, recorded a second after whatever is there."""
        recorded_at = self.state.facts.recorded_at + 1_000_000
        self.append(Delta(id, meter, subject, quantity, occurred_at, recorded_at, None))

    def correct(self, id: str, meter: str, quantity: int | None) -> None:
        """Append one correction."""
        recorded_at = self.state.facts.recorded_at + 1_000_000
        self.append(Correction(id, meter, quantity, "counted twice", recorded_at))

    def head(self) -> Head:
        """The log's head now."""
        name = origin(self.author.name, self.channel_id)
        return Head(name, self.state.size, self.state.frontier.root())

    def head_note(self) -> bytes:
        """The head's note now, signed by the author and co-signed by the peer."""
        ring, other = self.keyring, OTHER[self.role]
        log = self.author.signer_of("log", ring.keys(self.role, "log")[-1].key)
        cosigner = self.peer.signer_of("cosigner", ring.keys(other, "cosigner")[-1].key)
        return cosigned(self.head(), log, self.peer.name, cosigner)

    @property
    def keyring(self) -> Keyring:
        """Both parties' keys as this log knows them."""
        return Keyring(self.terms, self.state.facts.keys)

    def declare(self, period: str, totals: Mapping[str, int]) -> Declaration:
        """Append a declaration of these totals, whose salt is their hash."""
        shown = totals_of(self.terms, totals)
        made = commitment(self.terms, self.role, period, salt_of(shown), shown)
        record = Declaration(period, made, self.state.facts.recorded_at + 1)
        self.append(record)
        return record

    def reveal(
        self, declaration: Declaration, peer: Declaration, totals: Mapping[str, int]
    ) -> None:
        """Append the reveal that opens a declaration and names the peer's."""
        shown = totals_of(self.terms, totals)
        names = (record_digest(declaration), record_digest(peer))
        at = self.state.facts.recorded_at + 1
        self.append(Reveal(*names, salt_of(shown), shown, at))

    def rotations(self) -> list[tuple[int, bytes]]:
        """The log's rotation records and their indexes, as a bundle has them."""
        return [
            (index, encode_record(record))
            for index, record in enumerate(self.records)
            if isinstance(record, Rotation)
        ]


def salt_of(totals: Sequence[DeclaredTotal]) -> bytes:
    """The salt that declarations of tests have: it follows from the totals."""
    return hashlib.sha256(repr(totals).encode()).digest()


OTHER: dict[Role, Role] = {"provider": "consumer", "consumer": "provider"}


def cosigned(head: Head, log: SigningKey, peer: str, cosigner: SigningKey) -> bytes:
    """A head's note with the author's signature and the peer's co-signature."""
    signed = SignedHead(
        head, sign_head(head, log), cosign_head(head, cosigner, COSIGNED_AT_SECONDS)
    )
    vkey = Vkey(head.origin, ED25519_NOTE, bytes(log.verify_key))
    return signed.note([vkey], [Vkey(peer, ED25519_COSIGNATURE, bytes(cosigner.verify_key))])


def next_rotation(
    ring: Keyring, author: Identity, role: Role, job: Job, at_us: int, overlap_us: int = DAY_US
) -> Rotation:
    """The record by which a party takes its next key for a job."""
    number = ring.number(role, job) + 1
    new = author.signer(job, number)
    certificate = b"a certificate" if job == "transport" else b""
    key, until = bytes(new.verify_key), at_us + overlap_us
    unsigned = Rotation(role, job, number, key, until, bytes(64), certificate, at_us)
    signer = author.signer_of("log", ring.keys(role, "log")[-1].key)
    return make_rotation(ring.terms, unsigned, signer, None if certificate else new)


@dataclass(frozen=True)
class Closed:
    """A closed period: the checkpoint, its note by both, and what a bundle of it holds."""

    checkpoint: Checkpoint
    note: bytes
    lines: list[Line]
    verdict: Verdict
    contents: BundleContents


class Channel:
    """Two parties under terms, each with its log."""

    def __init__(
        self,
        meters: Iterable[Meter] = METERS,
        calendar: str = "month",
        parties: tuple[str, str] = ("acme.example", "beta.example"),
    ) -> None:
        self.provider, self.consumer = identity(parties[0]), identity(parties[1])
        self.terms = make_terms(self.provider, self.consumer, meters, calendar)
        self.id = channel_id(self.terms)
        self.provider_log = MemoryLog(self.terms, "provider", self.provider, self.consumer)
        self.consumer_log = MemoryLog(self.terms, "consumer", self.consumer, self.provider)
        self.logs = (self.provider_log, self.consumer_log)
        self.closed: list[Closed] = []
        self.with_verdicts = True  # False: close as was done before there were any

    def both(self, id: str, meter: str, quantity: int, occurred_at: int = OCTOBER_US) -> None:
        """Both record the same event."""
        for log in self.logs:
            log.delta(id, meter, quantity, occurred_at)

    def derive(self) -> list[Line]:
        """All lines of open periods now."""
        a, b = self.logs
        sizes = (a.state.size, b.state.size)
        return rederive(self.terms, self.id, a.source, b.source, sizes)

    def declare(
        self, period: str, provider: Mapping[str, int], consumer: Mapping[str, int]
    ) -> None:
        """Both commit to their totals of a period, then both reveal them."""
        a, b = self.logs
        first, second = a.declare(period, provider), b.declare(period, consumer)
        a.reveal(first, second, provider)
        b.reveal(second, first, consumer)

    def verdict(self, period: str, lines: Sequence[Line]) -> Verdict:
        """The verdict on a period with these lines, as the logs are now."""
        a, b = (log.matters(log.state.size) for log in self.logs)
        sides = declared(*sides_of(self.terms, period, a, b))
        return make_verdict(self.terms, period, lines, sides[0].totals, sides[1].totals)

    def checkpoint(self, instant_us: int, lines: Sequence[Line]) -> Checkpoint:
        """The checkpoint, at the logs' sizes now, of an instant's period with these lines."""
        calendar = Calendar(self.terms.calendar, self.terms.time_zone)
        a, b = (
            LogHead(log.author.name, log.state.size, log.state.frontier.root()) for log in self.logs
        )
        previous = self.closed[-1].checkpoint.digest() if self.closed else b""
        period = calendar.period_of(instant_us)
        verdict = b""
        if self.with_verdicts:
            verdict = verdict_digest(self.verdict(period.label, lines))
        return build_checkpoint(self.terms, self.id, period, previous, (a, b), lines, verdict)

    def sign(self, checkpoint: Checkpoint) -> bytes:
        """The checkpoint's note, signed by both."""
        signatures = []
        for log in self.logs:
            key = log.keyring.keys(log.role, "log")[-1].key
            signer = log.author.signer_of("log", key)
            signatures.append(sign_checkpoint(checkpoint, log.author.name, signer))
        return checkpoint_note(checkpoint, signatures)

    def rotate(self, role: Role, job: Job, overlap_us: int = DAY_US) -> Rotation:
        """A party takes its next key for a job, and the peer repeats it."""
        log, other = self.logs if role == "provider" else self.logs[::-1]
        record = next_rotation(
            log.keyring, log.author, role, job, log.state.facts.recorded_at + 1, overlap_us
        )
        log.append(record)
        now = max(other.state.facts.recorded_at, record.recorded_at)
        other.append(msgspec.structs.replace(record, recorded_at=now))
        return record

    def close(self, instant_us: int = OCTOBER_US, record_in: Sequence[Role] = ()) -> Closed:
        """Close the period of an instant; the logs of these roles get the Close record."""
        calendar = Calendar(self.terms.calendar, self.terms.time_zone)
        lines = period_lines(self.derive(), calendar.period_of(instant_us).label)
        checkpoint = self.checkpoint(instant_us, lines)
        note = self.sign(checkpoint)
        a, b = self.logs
        verdict = self.verdict(checkpoint.period, lines)
        contents = BundleContents(
            note,
            encode_record(self.terms),
            a.head_note(),
            b.head_note(),
            tuple(lines),
            verdict if self.with_verdicts else None,
            (a.rotations(), b.rotations()),
        )
        closed = Closed(checkpoint, note, lines, verdict, contents)
        self.closed.append(closed)
        for log in self.logs:
            if log.role in record_in:
                log.append(Close(note, log.state.facts.recorded_at + 1))
        return closed

    def bundle(self, closed: Closed, full: bool = False) -> bytes:
        """The bytes of a closed period's bundle."""
        out = io.BytesIO()
        batches = [log.source() if full else None for log in self.logs]
        write_bundle(out, closed.contents, *batches)
        return out.getvalue()


def busy_channel() -> Channel:
    """A channel with two closed months, a late delta, corrections of each kind, declarations of
    October with every result, and both closes.

    October and November are closed; `channel.closed` has them.
    """
    channel = Channel()
    a, b = channel.logs
    for i in range(6):
        channel.both(f"t{i}", "tokens", 100 + i, OCTOBER_US + i * DAY_US)
        channel.both(f"c{i}", "calls", 7, OCTOBER_US + i * HOUR_US)
        channel.both(f"p{i}", "peak", 10 * i, OCTOBER_US + i)
    a.delta("g0", "gpu-hours", 1250)
    a.delta("only-provider", "tokens", 3)
    a.correct("t0", "tokens", 90)
    b.correct("p5", "peak", None)
    a.correct("c0", "calls", None)
    channel.declare(
        "2026-10",
        {"calls": 5, "gpu-hours": 1250, "peak": 50, "tokens": 608},
        {"calls": 6, "gpu-hours": 1200, "tokens": 608},
    )
    channel.close(OCTOBER_US, ["provider", "consumer"])
    a.delta("late", "tokens", 5, OCTOBER_US + DAY_US)
    b.delta("late", "tokens", 5, OCTOBER_US + DAY_US)
    b.correct("p4", "peak", 15)
    channel.both("n0", "tokens", 40, NOVEMBER_US)
    a.delta("g1", "gpu-hours", -50, NOVEMBER_US)
    channel.close(NOVEMBER_US, ["provider"])
    a.correct("t1", "tokens", None)
    channel.both("d0", "tokens", 1, DECEMBER_US)
    return channel


def rotated_channel() -> Channel:
    """A channel in which both parties changed every key once, with a period closed before and one
    after; `channel.closed` has them.
    """
    channel = Channel()
    channel.both("t0", "tokens", 100)
    channel.close(OCTOBER_US, ["provider", "consumer"])
    for role in ROLES:
        for job in ("log", "cosigner", "transport"):
            channel.rotate(role, job)  # type: ignore[arg-type]
    channel.both("n0", "tokens", 40, NOVEMBER_US)
    channel.close(NOVEMBER_US, ["provider"])
    return channel
