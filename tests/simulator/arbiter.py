"""After a run: whether disputes and declarations stand as both logs say, with nothing lost.

Where the nodes and this page use one rule, the rule is written here again in a few lines, from what
the terms promise people and not from the nodes' code.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.party import Party, World
from simulator.rest import honest_channels, name_of, unplaced_on_disk
from tallystick.node import certifying, declaring, disputing, lapsing, proving, statuses, verdicts
from tallystick.node.attesting import first_attested
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.logs import ChannelLog
from tallystick.protocol.checkpoint import Checkpoint, parse_checkpoint
from tallystick.protocol.declarations import declared, next_opening, sides_of
from tallystick.protocol.derive import period_lines
from tallystick.protocol.disputes import Standing, standings
from tallystick.protocol.errors import InputError
from tallystick.protocol.matters import attested_at_s
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import (
    Answer,
    Close,
    Declaration,
    Dispute,
    Epoch,
    Lapse,
    Matter,
    Record,
    Reveal,
    batch_bytes,
    encode_record,
    record_digest,
)
from tallystick.protocol.replay import (
    LogSummary,
    examine_log,
    merge_closes,
    replay,
    replay_sides,
)
from tallystick.protocol.statement import decode_line
from tallystick.protocol.status import Grounds, line_statuses
from tallystick.protocol.verdict import Totals, encode_verdict, make_verdict
from tallystick.protocol.verify import verify_bundle
from tallystick.protocol.verify_certificate import verify_certificate

MATTERS = 11  # what disputes and declarations promise, beside the design's invariants
DECLARATIONS = 12
LAPSES = 13
CLOSED = 7

SLACK_SECONDS = 30  # after a time is over, until its lapse is there on an undisturbed channel

Said = list[tuple[int, Record]]


@dataclass
class Copy:
    """A log's records as a node holds them."""

    records: list[Record]

    @property
    def said(self) -> Said:
        """The closes and matters, by index."""
        found = enumerate(self.records)
        return [(index, one) for index, one in found if isinstance(one, Close | Matter)]

    def source(self) -> list[bytes]:
        """The log as one batch."""
        return [batch_bytes([encode_record(record) for record in self.records])]


class Arbiter:
    """What one party holds of a channel, held against its records and against the other's."""

    def __init__(self, world: World, party: Party, channel: Channel, closer: Closer) -> None:
        self.world, self.party = world, party
        self.channel, self.closer = channel, closer
        logs = (channel.provider_log, channel.consumer_log)
        self.copies = [
            Copy([r for _, records in log.records(0, log.durable_size) for r in records])
            for log in logs
        ]
        self.sizes = (logs[0].durable_size, logs[1].durable_size)
        self.own = self.copies[channel.role == "consumer"]
        self.other = self.copies[channel.role == "provider"]

    def violated(self, invariant: int, what: str) -> None:
        """Note that something does not hold."""
        self.world.watch.violated(invariant, f"{self.party.name}: {what}")

    def judge(self) -> None:
        """Everything that one side shows."""
        self._judge_said()
        self._judge_lapses()
        self._judge_reveals()
        summaries = self._examined()
        self._judge_standings(summaries)
        self._judge_closed(summaries)
        self._judge_open(summaries)

    def _examined(self) -> tuple[LogSummary, LogSummary]:
        channel = self.channel
        a, b = (
            examine_log(channel.terms, role, channel.id, copy.source, len(copy.records))
            for role, copy in zip(("provider", "consumer"), self.copies, strict=True)  # type: ignore[arg-type]
        )
        return a, b

    # What people said

    def _judge_said(self) -> None:
        """What was acknowledged is in the log once, as it was said."""
        counts = Counter(name_of(r) for r in self.own.records if isinstance(r, Matter))
        by_name = {name_of(r): r for r in self.own.records if isinstance(r, Matter)}
        unplaced = {name_of(r) for r in unplaced_on_disk(self.party, self.channel.own.number)}
        unplaced -= {name for name in unplaced if self._has_place(name)}
        for (at, name), said in self.party.said.items():
            if at != self.channel.id:
                continue
            count = counts.pop(name, 0)
            gone = said.acknowledged and not said.excused and name not in unplaced
            if count > 1 or (count == 0 and gone):
                self.violated(MATTERS, f"acknowledged {said.record} is there {count} times")
            if count and type(by_name[name]) is not type(said.record):
                self.violated(MATTERS, f"{name} is there as {by_name[name]}")
        for name, count in counts.items():
            if name and not isinstance(by_name[name], Declaration):
                self.violated(MATTERS, f"nobody said {by_name[name]}, which is there {count} times")

    def _has_place(self, name: str) -> bool:
        """Whether what was said could still be said: the dispute that it is about is there."""
        said = self.party.said.get((self.channel.id, name))
        about = getattr(said.record, "dispute", b"") if said is not None else b""
        disputes = (r for copy in self.copies for r in copy.records if isinstance(r, Dispute))
        return not about or about in map(record_digest, disputes)

    # Silence

    def _judge_lapses(self) -> None:
        """A record lapses once, of nothing but silence, and then it does."""
        said = dict(self.own.said)
        lapses = {i: one for i, one in self.own.said if isinstance(one, Lapse)}
        for index, count in Counter(one.index for one in lapses.values()).items():
            if count > 1:
                self.violated(LAPSES, f"record {index} lapsed {count} times")
        for lapse in lapses.values():
            waiting = said[lapse.index]
            for answer in self._contradicting(waiting, self.other.records[: lapse.peer_size]):
                self.violated(LAPSES, f"{waiting} lapsed, and {answer} was there before")
        if not self._steady():
            return
        for due in lapsing.dues(self.channel, {}):
            if due.until_s + SLACK_SECONDS < self.party.clock_us() / 1e6:
                self.violated(LAPSES, f"record {due.index} is due since {due.until_s}")

    def _contradicting(self, waiting: Record, records: Sequence[Record]) -> list[Record]:
        """What the other party said against a record."""
        if isinstance(waiting, Dispute):
            about = record_digest(waiting)
        elif isinstance(waiting, Answer):
            about = waiting.dispute
        else:
            return []
        return [one for one in records if isinstance(one, Answer) and one.dispute == about]

    def _steady(self) -> bool:
        """Whether neither party's clock was ever turned, and neither lost anything."""
        peer = self.world.parties[self.channel.peer_keys.name]
        return not (self.party.turned or peer.turned)

    # Disputes

    def _judge_standings(self, summaries: tuple[LogSummary, LogSummary]) -> None:
        """Where disputes stand is what the records alone say, and no silence decides over words."""
        channel = self.channel
        shown = disputing.standing_all(channel)
        folder = channel.own.folder
        sources = (self.copies[0].source, self.copies[1].source)
        closes = merge_closes(*summaries)
        _, moves = replay_sides(folder, sources, self.sizes, closes, summaries)
        a, b = (summary.matters for summary in summaries)
        if shown != standings(channel.terms, folder.calendar, a, b, moves):
            self.violated(7, "disputes stand otherwise than its records say")
        for one in shown:
            if one.lapse is not None:
                self._judge_decided(one)
                self._judge_certificate(one)
        for row in self.closer.rows:
            for theirs in (False, True):
                self._judge_accepted(row.period, theirs=theirs)

    def _judge_decided(self, one: Standing) -> None:
        """What a lapse decided, nobody had contradicted in time."""
        assert one.lapse is not None
        terms = self.channel.terms
        where = {"provider": self.copies[0], "consumer": self.copies[1]}
        lapse = where[one.lapse[0]].records[one.lapse[1]]
        late = next(role for role in where if role != one.lapse[0])
        assert isinstance(lapse, Lapse)
        seconds = terms.answer_seconds if one.state == "upheld" else terms.dispute_seconds
        over_us = (attested_at_s(lapse.start) + seconds) * 1_000_000
        for index, record in where[late].said:
            if one.state == "barred":
                against = isinstance(record, Dispute) and record_digest(record) == one.digest
            else:
                against = isinstance(record, Answer) and record.dispute == one.digest
            if against and (index < lapse.peer_size or record.recorded_at <= over_us):
                self.violated(LAPSES, f"{one.dispute} is {one.state}, but {record} was in time")

    def _judge_certificate(self, one: Standing) -> None:
        assert one.lapse is not None
        log = disputing.log_of(self.channel, one.lapse[0])
        try:
            made = certifying.of_dispute(self.channel, one)
        except InputError as error:
            self.violated(LAPSES, f"no certificate of {one.dispute}: {error}")
            return
        self._compare_certificates(log, one.lapse[1], made)

    def _judge_accepted(self, label: str, *, theirs: bool) -> None:
        log = self.channel.peer if theirs else self.channel.own
        index = disputing.close_of(log, label)
        lapse = None if index is None else log.ended_by(index)
        if lapse is not None:
            made = certifying.of_period(self.channel, label, theirs=theirs)
            self._compare_certificates(log, lapse, made)

    def _compare_certificates(self, log: ChannelLog, lapse: int, made: bytes) -> None:
        """A certificate holds, and is the same file where both hold the same co-signature."""
        for check in verify_certificate(made):
            if not check.ok:
                self.violated(LAPSES, f"certificate of {lapse}: {check.name}: {check.detail}")
        head = first_attested(log, lapse)
        assert head is not None
        name = (self.channel.id, log.role, lapse, head.cosignature)
        if self.world.certificates.setdefault(name, made) != made:
            self.violated(LAPSES, f"the certificates of {log.role} {lapse} are two files")

    # Declarations

    def _judge_reveals(self) -> None:
        """Nothing is open before both declared, and what may be open by now is."""
        channel = self.channel
        theirs = {record_digest(r) for r in self.other.records if isinstance(r, Declaration)}
        both_lost = any(isinstance(r, Epoch) for r in self.other.records)
        for record in self.own.records:
            named = not isinstance(record, Reveal) or record.peer_declaration in theirs
            if not named and not both_lost:
                self.violated(DECLARATIONS, "it revealed, and the peer has not declared")
        made = [r for r in self.own.records if isinstance(r, Declaration)]
        kept = declaring.openable(channel)
        opened = {r.declaration: r for r in self.own.records if isinstance(r, Reveal)}
        closed = {row.period for row in self.closer.rows}
        for record in made:
            digest = record_digest(record)
            said = self.party.said.get((channel.id, record.commitment.hex()))
            reveal = opened.get(digest)
            totals = said.totals if said is not None else ()
            if reveal is not None and totals and reveal.totals != totals:
                self.violated(DECLARATIONS, f"{record} was opened with {reveal.totals}")
            lost = reveal is None and record.period not in closed and digest not in kept
            if lost and not self.party.restored:
                self.violated(DECLARATIONS, f"{record} cannot be opened any more")
        for label in {record.period for record in made} - closed:
            sides = verdicts.commitments_of(channel, label, self.sizes)
            own, peer = sides if channel.role == "provider" else sides[::-1]
            sizes = (channel.own.cosigned_size, channel.peer.cosigned_size)
            if next_opening(own, peer, sizes, kept.keys()) is not None:
                self.violated(DECLARATIONS, f"what was declared of {label} is not revealed")

    # Numbers

    def _judge_open(self, summaries: tuple[LogSummary, LogSummary]) -> None:
        """Verdicts and statuses of what is open are those that the records give."""
        channel, closer, terms = self.channel, self.closer, self.channel.terms
        checkpoints = [self._checkpoint(row.note) for row in closer.rows]
        sources = (self.copies[0].source, self.copies[1].source)
        lines = replay(terms, *sources, self.sizes, checkpoints, summaries)
        declarations: dict[str, tuple[Totals, Totals]] = {}
        for row, checkpoint in zip(closer.rows, checkpoints, strict=True):
            heads = checkpoint.sizes
            declarations[row.period] = self._declared(row.period, heads)
        closed = set(declarations)
        labels = {r.period for copy in self.copies for _, r in copy.said if _declares(r)}
        for label in sorted(labels - closed):
            declarations[label] = self._declared(label, self.sizes)
            of_period = period_lines(lines, label)
            verdict = make_verdict(terms, label, of_period, *declarations[label])
            if verdict != verdicts.verdict_on(channel, label, of_period, self.sizes):
                self.violated(7, f"the verdict on {label} is not what its records give")
        every = closer.all_lines()
        grounds = Grounds(terms, closed, set(), declarations)
        if statuses.statuses_of(channel, closer, every) != line_statuses(every, grounds):
            self.violated(7, "its lines' statuses are not what its records give")

    def _judge_closed(self, summaries: tuple[LogSummary, LogSummary]) -> None:
        """Every checkpoint's lines and verdict are those of the records that it names."""
        channel, rows = self.channel, self.closer.rows
        checkpoints = [self._checkpoint(row.note) for row in rows]
        sources = (self.copies[0].source, self.copies[1].source)
        for place, (row, checkpoint) in enumerate(zip(rows, checkpoints, strict=True)):
            sizes = checkpoint.sizes
            lines = period_lines(
                replay(channel.terms, *sources, sizes, checkpoints[:place], summaries), row.period
            )
            if lines != [decode_line(data) for data in row.lines]:
                self.violated(CLOSED, f"{row.period} was closed on lines not of its records")
            totals = self._declared(row.period, sizes)
            verdict = make_verdict(channel.terms, row.period, lines, *totals)
            if encode_verdict(verdict) != row.verdict:
                self.violated(CLOSED, f"{row.period} was closed on another verdict")
        if rows:
            self._judge_bundle()

    def _judge_bundle(self) -> None:
        file = io.BytesIO()
        try:
            proving.bundle(self.channel, self.closer.rows[-1], file, full=True)
        except InputError as error:
            # A copy of a home may be of the moment before the co-signature of that head came.
            if not self.party.restored:
                self.violated(CLOSED, f"no bundle: {error}")
            return
        file.seek(0)
        for check in verify_bundle(file):
            if check.ok is False:
                self.violated(CLOSED, f"its bundle: {check.name}: {check.detail}")

    def _declared(self, label: str, sizes: tuple[int, int]) -> tuple[Totals, Totals]:
        cut = [
            [one for one in copy.said if one[0] < size]
            for copy, size in zip(self.copies, sizes, strict=True)
        ]
        provider, consumer = declared(*sides_of(self.channel.terms, label, cut[0], cut[1]))
        return provider.totals, consumer.totals

    def _checkpoint(self, note: bytes) -> Checkpoint:
        return parse_checkpoint(parse_note(note).text)


def _declares(record: Record) -> bool:
    return isinstance(record, Declaration)


def arbitrate(world: World) -> None:
    """Check every honest channel of a world that has come to rest, from both sides."""
    for party, channel, closer in honest_channels(world):
        Arbiter(world, party, channel, closer).judge()
        other = world.parties[channel.peer_keys.name]
        if other.process is None or channel.id not in other.process.books.channels:
            continue
        theirs, other_closer = other.process.books.channels[channel.id]
        pairs = (
            ("standings", disputing.standing_all(channel), disputing.standing_all(theirs)),
            ("statuses", _statuses(channel, closer), _statuses(theirs, other_closer)),
        )
        for what, here, there in pairs:
            if here != there:
                world.watch.violated(7, f"{party.name} and {other.name} show other {what}")


def _statuses(channel: Channel, closer: Closer) -> list[str]:
    return list(statuses.statuses_of(channel, closer, closer.all_lines()))
