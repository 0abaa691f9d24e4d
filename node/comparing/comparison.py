"""Comparing a file of one's own with the record, for one period.

The record's side of a meter is the other party's log if that party records it, and our own log
otherwise. Events of the period before and the one after are read too, so that one that a side
counts in the neighbouring period is recognised and not called missing. The events behind each class
go to `FILE.PERIOD.differences.csv`, beside the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from tallystick.node.channel import Channel
from tallystick.node.comparing.events import write_csv, write_differences, write_parquet
from tallystick.node.comparing.explaining import Explainer
from tallystick.node.comparing.findings import Finding
from tallystick.node.comparing.result import Comparison, Example
from tallystick.node.comparing.tables import Event
from tallystick.node.comparing.timeline import spans_of, timelines
from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import read_drafts
from tallystick.node.importing.mapping import Mapping, load_mapping
from tallystick.node.logs import ChannelLog
from tallystick.protocol.periods import Period
from tallystick.protocol.records import Delta, Meter
from tallystick.protocol.statement import meter_units
from tallystick.protocol.terms import meter_named

EXAMPLES = 3  # events that a report shows of each class


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted beside the report: files of all events, and time-lines."""

    csv: Path | None = None
    parquet: Path | None = None
    timelines: bool = False


def compare_file(
    channel: Channel, file: Path, mapping_file: Path, label: str, wanted: Wanted | None = None
) -> Comparison:
    """Compare a file with the record for one period."""
    mapping = load_mapping(mapping_file)
    calendar = channel.own.folder.calendar
    period = calendar.parse(label)
    reach = (calendar.period_of(period.start_us - 1).start_us, calendar.next(period).end_us)
    meters = [meter_named(channel.terms, mapped.meter) for mapped in mapping.meters]
    with tempfile.TemporaryDirectory(prefix="tallystick-compare-") as spill:
        explainer = Explainer(
            meters, period.start_us, period.end_us, Path(spill), calendar.time_zone
        )
        try:
            reading = _Reading(file, mapping, {meter.name: meter for meter in meters}, reach)
            explainer.load("ours", reading.events())
            for log, names in _sources(channel, meters):
                explainer.load("theirs", _record_events(log, names, reach))
            explainer.explain()
            return _collect(channel, file, period, explainer, reading, wanted or Wanted())
        except duckdb.Error as error:
            raise StoreError(
                f"the engine that compares stopped: {str(error).splitlines()[0]}",
                f"It needs memory, and room for what does not fit in {tempfile.gettempdir()}",
            ) from error
        finally:
            explainer.close()


class _Reading:
    """The file's events, and what could not be read of it."""

    def __init__(
        self, file: Path, mapping: Mapping, meters: dict[str, Meter], reach: tuple[int, int]
    ) -> None:
        self._file, self._mapping, self._meters, self._reach = file, mapping, meters, reach
        self.rejected = 0
        self.first_reject = ""

    def events(self) -> Iterator[list[Event]]:
        first, last = self._reach
        for batch in read_drafts(self._file, self._mapping, self._meters):
            self.rejected += len(batch.rejects)
            if batch.rejects and not self.first_reject:
                reject = batch.rejects[0]
                self.first_reject = f"row {reject.row}, {reject.column}: {reject.reason}"
            nothing: list[str | None] = [None] * len(batch.drafts)
            rows = zip(
                batch.drafts,
                batch.draft_rows,
                batch.outcomes or nothing,
                batch.sessions or nothing,
                strict=True,
            )
            yield [
                Event(
                    row, d.id or None, d.meter, d.subject, d.quantity, d.occurred_at,
                    outcome or None, session or None,
                )
                for d, row, outcome, session in rows
                if first <= d.occurred_at < last
            ]  # fmt: skip


def _sources(channel: Channel, meters: Sequence[Meter]) -> Iterator[tuple[ChannelLog, set[str]]]:
    """The logs that hold the record's side, with the meters for which they do."""
    theirs = {m.name for m in meters if m.source in (channel.peer.role, "both")}
    for log, names in (
        (channel.peer, theirs),
        (channel.own, {meter.name for meter in meters} - theirs),
    ):
        if names:
            yield log, names


def _record_events(
    log: ChannelLog, names: set[str], reach: tuple[int, int]
) -> Iterator[list[Event]]:
    """The record's events, with their corrected quantities; voided ones are left out."""
    corrected = log.corrected()
    first, last = reach
    for start, records in log.records(0, log.durable_size):
        batch = []
        for index, record in enumerate(records, start):
            if type(record) is not Delta or record.meter not in names:
                continue
            if not first <= record.occurred_at < last:
                continue
            quantity: int | None = record.quantity
            if corrected:
                quantity = corrected.get((record.meter, record.id), record.quantity)
            if quantity is not None:
                batch.append(
                    Event(
                        index,
                        record.id,
                        record.meter,
                        record.subject,
                        quantity,
                        record.occurred_at,
                    )
                )
        yield batch


def _collect(
    channel: Channel,
    file: Path,
    period: Period,
    explainer: Explainer,
    reading: _Reading,
    wanted: Wanted,
) -> Comparison:
    """What the engine found, with its files written."""
    meters = list(explainer.meters.values())
    units = meter_units(channel.terms)
    comparisons, causes = explainer.comparisons(channel.role)
    examples: dict[Example, list[Finding]] = {}
    events_file = file.with_name(f"{file.name}.{period.label.replace(':', '')}.differences.csv")
    found = _noted(explainer.findings(), examples)
    written = write_differences(events_file, found, explainer.meters)
    if wanted.csv:
        write_csv(wanted.csv, explainer.findings(), explainer.meters)
    if wanted.parquet:
        write_parquet(wanted.parquet, explainer.findings(), explainer.meters)
    lines = {}
    if wanted.timelines:
        spans = spans_of(channel.own.folder.calendar, period)
        lines = timelines(explainer.db, meters, spans)
    return Comparison(
        file,
        period.label,
        channel.own.party.name,
        channel.peer.party.name,
        [replace(found, unit=units[found.meter]) for found in comparisons],
        examples,
        reading.rejected,
        reading.first_reject,
        events_file if written else None,
        causes,
        {meter.name: explainer.pairing(meter) for meter in meters},
        lines,
    )


def _noted(
    findings: Iterable[Finding], examples: dict[Example, list[Finding]]
) -> Iterator[Finding]:
    """The findings, the first of each step noted on the way."""
    for finding in findings:
        first = examples.setdefault((finding.meter, finding.kind, finding.cause), [])
        if len(first) < EXAMPLES:
            first.append(finding)
        yield finding
