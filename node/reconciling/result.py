"""The result of a session as a comparison: the rows that differ, explained as `compare` does.

Each side explains its own rows against the peer's, so ours minus theirs here is theirs minus ours
there. The other side's total is not exchanged: it follows from our total and the rows that differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.node.channel import Channel
from tallystick.node.comparing.comparison import Comparison, write_events
from tallystick.node.comparing.matching import Event, Finding, Matcher
from tallystick.node.reconciling import kept
from tallystick.protocol.compare import MeterComparison, judge
from tallystick.protocol.records import Meter
from tallystick.protocol.statement import meter_units
from tallystick.protocol.terms import meter_named


@dataclass(frozen=True, slots=True)
class Result:
    """A session's result: the comparison, and what was exchanged to find it."""

    folder: Path
    ended: kept.Ended
    comparison: Comparison

    def document(self) -> dict[str, Any]:
        """The result as JSON has it: compare's document, and the session's own figures."""
        ended = self.ended
        return self.comparison.document() | {
            "session": ended.session,
            "peer": ended.about.peer,
            "period": ended.about.period,
            "by": ended.about.by,
            "rows_ours": ended.about.rows,
            "rows_theirs": ended.rows_theirs,
            "opened_ours": ended.opened_ours,
            "opened_theirs": ended.opened_theirs,
            "cells": ended.cells,
            "bytes_sent": ended.bytes_sent,
            "bytes_received": ended.bytes_received,
            "seconds": ended.seconds,
            "rows_file": str(self.folder / "rows.jsonl"),
        }


def result_of(channel: Channel, folder: Path) -> Result:
    """The result of a kept session."""
    ended = kept.load(folder)
    about = ended.about
    meters = [meter_named(channel.terms, name) for name in about.meters]
    with tempfile.TemporaryDirectory(prefix="tallystick-reconcile-") as spill:
        matcher = Matcher(meters, about.start_us, about.end_us, Path(spill))
        try:
            matcher.load("ours", [_events(folder, "ours")])
            matcher.load("theirs", [_events(folder, "theirs")])
            matcher.match()
            compared = list(_meters(channel, meters, matcher, ended))
            examples: dict[tuple[str, str], list[Finding]] = {}
            file = folder / "differences.csv"
            by_name = {meter.name: meter for meter in meters}
            written = write_events(file, matcher.findings(), by_name, examples)
        finally:
            matcher.close()
    comparison = Comparison(
        Path(about.file),
        about.period,
        channel.own.party.name,
        about.peer,
        compared,
        examples,
        about.rejected,
        about.first_reject,
        file if written else None,
        f"the rows of {about.peer}",
    )
    return Result(folder, ended, comparison)


def _events(folder: Path, whose: str) -> list[Event]:
    """A side's kept rows, those that both have first, so that what repeats them comes after."""
    rows = [row for row in kept.rows_of(folder) if row.why == "both" or row.whose == whose]
    rows.sort(key=lambda row: (row.why != "both", row.copy))
    return [
        Event(place, row.id or None, row.meter, row.subject, row.quantity, row.occurred_at)
        for place, row in enumerate(rows, 1)
    ]


def _meters(
    channel: Channel, meters: Sequence[Meter], matcher: Matcher, ended: kept.Ended
) -> Iterator[MeterComparison]:
    units = meter_units(channel.terms)
    for meter in meters:
        shared = ended.shared[meter.name]
        more = {"sum": shared.quantity, "count": shared.rows, "max": 0}[meter.aggregate]
        ours, our_count = matcher.total("ours", meter)
        theirs, their_count = matcher.total("theirs", meter)
        count = shared.rows + max(our_count, their_count)
        within, rule = judge(meter, ours + more, theirs + more, channel.role, count)
        yield MeterComparison(
            meter.name,
            units[meter.name],
            0 if meter.aggregate == "count" else meter.scale,
            ours + more,
            theirs + more,
            matcher.classes(meter),
            within,
            rule,
        )
