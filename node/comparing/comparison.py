"""Comparing a file of one's own with the record, for one period.

The record's side of a meter is the other party's log if that party records it, and our own log
otherwise. Events of the period before and the one after are read too, so that one that a side
counts in the neighbouring period is recognised and not called missing. The events behind each class
go to `FILE.PERIOD.differences.csv`, beside the file.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from tallystick.node.channel import Channel
from tallystick.node.comparing.matching import Event, Finding, Matcher
from tallystick.node.errors import StoreError
from tallystick.node.importing.drafts import read_drafts
from tallystick.node.importing.mapping import Mapping, load_mapping
from tallystick.node.logs import ChannelLog
from tallystick.protocol.compare import MeterComparison, comparison_document, judge
from tallystick.protocol.periods import Period
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Delta, Meter
from tallystick.protocol.statement import meter_units
from tallystick.protocol.terms import meter_named

EXAMPLES = 3  # events that a report shows of each class

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = (
    "meter", "class", "id", "subject", "our_row", "our_time", "our_quantity",
    "record_index", "record_time", "record_quantity", "effect",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found."""

    file: Path
    period: str
    us: str
    them: str
    meters: Sequence[MeterComparison]
    examples: dict[tuple[str, str], list[Finding]]  # (meter, class) to its first events
    rejected: int  # rows of the file that could not be read
    first_reject: str
    events_file: Path | None
    against: str = "the record"

    @property
    def within_tolerance(self) -> bool:
        """Whether the terms tolerate every meter's difference, between what could be read."""
        return all(meter.within_tolerance for meter in self.meters)

    def document(self) -> dict[str, Any]:
        """The comparison as JSON has it."""
        events = str(self.events_file) if self.events_file else None
        return comparison_document(self.meters, events) | {"rejected": self.rejected}


def compare_file(channel: Channel, file: Path, mapping_file: Path, label: str) -> Comparison:
    """Compare a file with the record for one period."""
    mapping = load_mapping(mapping_file)
    calendar = channel.own.folder.calendar
    period = calendar.parse(label)
    reach = (calendar.period_of(period.start_us - 1).start_us, calendar.next(period).end_us)
    meters = [meter_named(channel.terms, mapped.meter) for mapped in mapping.meters]
    with tempfile.TemporaryDirectory(prefix="tallystick-compare-") as spill:
        matcher = Matcher(meters, period.start_us, period.end_us, Path(spill))
        try:
            reading = _Reading(file, mapping, {meter.name: meter for meter in meters}, reach)
            matcher.load("ours", reading.events())
            for log, names in _sources(channel, meters):
                matcher.load("theirs", _record_events(log, names, reach))
            matcher.match()
            return _collect(channel, file, period, meters, matcher, reading)
        except duckdb.Error as error:
            raise StoreError(
                f"the engine that compares stopped: {str(error).splitlines()[0]}",
                f"It needs memory, and room for what does not fit in {tempfile.gettempdir()}",
            ) from error
        finally:
            matcher.close()


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
            yield [
                Event(row, d.id or None, d.meter, d.subject, d.quantity, d.occurred_at)
                for d, row in zip(batch.drafts, batch.draft_rows, strict=True)
                if first <= d.occurred_at < last
            ]


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
    meters: Sequence[Meter],
    matcher: Matcher,
    reading: _Reading,
) -> Comparison:
    units = meter_units(channel.terms)
    comparisons = []
    examples: dict[tuple[str, str], list[Finding]] = {}
    for meter in meters:
        ours, count = matcher.total("ours", meter)
        theirs, deltas = matcher.total("theirs", meter)
        within, rule = judge(meter, ours, theirs, channel.role, max(count, deltas))
        scale = 0 if meter.aggregate == "count" else meter.scale
        comparisons.append(
            MeterComparison(
                meter.name,
                units[meter.name],
                scale,
                ours,
                theirs,
                matcher.classes(meter),
                within,
                rule,
            )
        )
    by_name = {meter.name: meter for meter in meters}
    events_file = file.with_name(f"{file.name}.{period.label.replace(':', '')}.differences.csv")
    written = write_events(events_file, matcher.findings(), by_name, examples)
    return Comparison(
        file,
        period.label,
        channel.own.party.name,
        channel.peer.party.name,
        comparisons,
        examples,
        reading.rejected,
        reading.first_reject,
        events_file if written else None,
    )


def write_events(
    path: Path,
    findings: Iterator[Finding],
    meters: dict[str, Meter],
    examples: dict[tuple[str, str], list[Finding]],
) -> int:
    """Write the events file whole or not at all; how many events, and the first of each class."""
    count = 0
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        part = Path(name)
        try:
            with os.fdopen(handle, "w", newline="", encoding="utf-8") as out:
                writer = csv.writer(out)
                writer.writerow(_COLUMNS)
                for finding in findings:
                    count += 1
                    first = examples.setdefault((finding.meter, finding.kind), [])
                    if len(first) < EXAMPLES:
                        first.append(finding)
                    writer.writerow(_row(finding, meters[finding.meter]))
            if count:
                part.chmod(0o644)
                part.replace(path)
            else:
                path.unlink(missing_ok=True)
        finally:
            part.unlink(missing_ok=True)  # only still there if it did not become the file
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    return count


def _row(finding: Finding, meter: Meter) -> list[object]:
    def amount(value: int | None) -> str:
        return "" if value is None else format_quantity(value, meter.scale)

    effect = {  # a count counts events, and single events do not add up to a maximum
        "sum": amount(finding.effect),
        "count": str(finding.effect),
        "max": "",
    }

    return [
        finding.meter,
        finding.kind,
        finding.id or "",
        finding.subject,
        finding.our_place if finding.our_place is not None else "",
        show_time(finding.our_at),
        amount(finding.our_quantity),
        finding.their_place if finding.their_place is not None else "",
        show_time(finding.their_at),
        amount(finding.their_quantity),
        effect[meter.aggregate],
    ]


def show_time(instant_us: int | None) -> str:
    """An instant in UTC, to the microsecond."""
    if instant_us is None:
        return ""
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat(timespec="microseconds")
