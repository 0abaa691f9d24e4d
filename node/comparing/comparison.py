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

from tallystick.node.channel import Channel
from tallystick.node.comparing.events import write_csv, write_differences, write_parquet
from tallystick.node.comparing.explaining import Explainer
from tallystick.node.comparing.result import Comparison, Example, Finding
from tallystick.node.comparing.sources import Export, record_tables, without_collector
from tallystick.node.comparing.tables import Progress, told_plainly
from tallystick.node.comparing.timeline import spans_of, timelines
from tallystick.node.importing.mapping import load_mapping
from tallystick.node.logs import ChannelLog
from tallystick.node.verdicts import judged_deltas
from tallystick.protocol.compare import MeterComparison, judge
from tallystick.protocol.periods import Period
from tallystick.protocol.records import Meter
from tallystick.protocol.statement import meter_units
from tallystick.protocol.terms import meter_named

MANY_BYTES = 32 * 1024 * 1024
MANY_RECORDS = 300_000
EXAMPLES = 3  # events that a report shows of each class


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted beside the report: files of all events, and time-lines."""

    csv: Path | None = None
    parquet: Path | None = None
    timelines: bool = False


def compare_file(
    channel: Channel,
    file: Path,
    mapping_file: Path,
    label: str,
    wanted: Wanted | None = None,
    progress: Progress = lambda step, done, of: None,
) -> Comparison:
    """Compare a file with the record for one period."""
    mapping = load_mapping(mapping_file)
    calendar = channel.own.folder.calendar
    period = calendar.parse(label)
    reach = (calendar.period_of(period.start_us - 1).start_us, calendar.next(period).end_us)
    meters = [meter_named(channel.terms, mapped.meter) for mapped in mapping.meters]
    sources = list(_sources(channel, meters))
    with (
        tempfile.TemporaryDirectory(prefix="tallystick-compare-") as folder,
        told_plainly(Path(tempfile.gettempdir())),
    ):
        place = Path(folder) if _are_many(file, [log for log, _ in sources]) else None
        explainer = Explainer(meters, period.start_us, period.end_us, place, calendar.time_zone)
        explainer.progress = progress
        try:
            reading = Export(file, mapping, explainer.meters, reach)
            with without_collector():
                explainer.load_columns("ours", reading.tables(progress))
                for log, names in sources:
                    tables = record_tables(log, names, reach, progress)
                    explainer.load_columns("theirs", tables)
            explainer.explain()
            progress("writing the events", 0, 0)
            return _collect(channel, file, period, explainer, reading, wanted or Wanted())
        finally:
            explainer.close()


def _are_many(file: Path, logs: Sequence[ChannelLog]) -> bool:
    """Whether there are so many events that they had better be on the disk."""
    size = file.stat().st_size if file.exists() else 0
    return size > MANY_BYTES or any(log.durable_size > MANY_RECORDS for log in logs)


def _sources(channel: Channel, meters: Sequence[Meter]) -> Iterator[tuple[ChannelLog, set[str]]]:
    """The logs that hold the record's side, with the meters for which they do."""
    theirs = {m.name for m in meters if m.source in (channel.peer.role, "both")}
    for log, names in (
        (channel.peer, theirs),
        (channel.own, {meter.name for meter in meters} - theirs),
    ):
        if names:
            yield log, names


def _collect(
    channel: Channel,
    file: Path,
    period: Period,
    explainer: Explainer,
    reading: Export,
    wanted: Wanted,
) -> Comparison:
    """What the engine found, with its files written."""
    meters = list(explainer.meters.values())
    comparisons, causes = explainer.comparisons(channel.role)
    examples: dict[Example, list[Finding]] = {}
    events_file = file.with_name(f"{file.name}.{period.label.replace(':', '')}.differences.csv")
    found = noted(explainer.findings(), examples)
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
        _judged(channel, period, comparisons),
        examples,
        reading.rejected,
        reading.first_reject,
        events_file if written else None,
        causes,
        {meter.name: explainer.pairing(meter) for meter in meters},
        {meter.name: meter.scale for meter in meters},
        lines,
    )


def _judged(
    channel: Channel, period: Period, comparisons: Sequence[MeterComparison]
) -> list[MeterComparison]:
    """The comparisons with their lines' units, judged on the deltas that both parties judge on."""
    units = meter_units(channel.terms)
    deltas = judged_deltas(channel, period)
    judged = []
    for found in comparisons:
        meter = meter_named(channel.terms, found.meter)
        within, rule = judge(meter, found.ours, found.theirs, channel.role, deltas[meter.name])
        judged.append(replace(found, unit=units[meter.name], within_tolerance=within, rule=rule))
    return judged


def noted(findings: Iterable[Finding], examples: dict[Example, list[Finding]]) -> Iterator[Finding]:
    """The findings, the first of each step noted on the way."""
    for finding in findings:
        first = examples.setdefault((finding.meter, finding.kind, finding.cause), [])
        if len(first) < EXAMPLES:
            first.append(finding)
        yield finding
