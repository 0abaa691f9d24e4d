"""The result of a session as a comparison: the rows that differ, explained as `compare` does.

Each side explains its own rows against the peer's, so ours minus theirs here is theirs minus ours
there. The other side's total is not exchanged: it follows from our total and the rows that differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tallystick.node.channel import Channel
from tallystick.node.comparing.comparison import noted
from tallystick.node.comparing.events import write_differences
from tallystick.node.comparing.explaining import explained
from tallystick.node.comparing.result import Comparison, Example, Finding
from tallystick.node.comparing.tables import SIDES, Event
from tallystick.node.reconciling import kept
from tallystick.protocol.compare import MeterComparison, judge
from tallystick.protocol.periods import Period
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
    period = Period(about.period, about.start_us, about.end_us)
    examples: dict[Example, list[Finding]] = {}
    file = folder / "differences.csv"
    ours, theirs = _side(folder, "ours"), _side(folder, "theirs")
    with (
        tempfile.TemporaryDirectory(prefix="tallystick-reconcile-") as spill,
        explained(meters, period, [_events(ours)], [_events(theirs)], Path(spill)) as explainer,
    ):
        comparisons, causes = explainer.comparisons(channel.role)
        found = noted(_placed(explainer.findings(), ours, theirs), examples)
        written = write_differences(file, found, explainer.meters, of_exports=True)
        pairing = {meter.name: explainer.pairing(meter) for meter in meters}
        counts = {m.name: max(explainer.total(s, m)[1] for s in SIDES) for m in meters}
    comparison = Comparison(
        Path(about.file),
        about.period,
        channel.own.party.name,
        about.peer,
        [_whole(channel, one, ended, counts[one.meter]) for one in comparisons],
        examples,
        about.rejected,
        about.first_reject,
        file if written else None,
        causes,
        pairing,
        against=f"the export of {about.peer}",
        of_exports=True,
    )
    return Result(folder, ended, comparison)


def _side(folder: Path, whose: str) -> list[tuple[int, kept.KeptRow]]:
    """A side's kept rows and their lines in the file of them, those that both have first, so that
    what repeats them comes after.
    """
    lines = enumerate(kept.rows_of(folder), 1)
    rows = [one for one in lines if one[1].why == "both" or one[1].whose == whose]
    rows.sort(key=lambda one: (one[1].why != "both", one[1].copy))
    return rows


def _events(rows: list[tuple[int, kept.KeptRow]]) -> list[Event]:
    return [
        Event(place, row.id or None, row.meter, row.subject, row.quantity, row.occurred_at)
        for place, (_, row) in enumerate(rows, 1)
    ]


def _placed(
    findings: Iterable[Finding],
    ours: list[tuple[int, kept.KeptRow]],
    theirs: list[tuple[int, kept.KeptRow]],
) -> Iterator[Finding]:
    """The findings with places that people can look up: of ours the row in our export, of theirs,
    which is not here, the line in the file of kept rows.
    """
    for found in findings:
        here, there = found.our_place, found.their_place
        yield found._replace(
            our_place=None if here is None else ours[here - 1][1].file_row,
            their_place=None if there is None else theirs[there - 1][0],
        )


def _whole(
    channel: Channel, found: MeterComparison, ended: kept.Ended, count: int
) -> MeterComparison:
    """A comparison of the kept rows with what both sides have beside them added to the totals."""
    meter, shared = meter_named(channel.terms, found.meter), ended.shared[found.meter]
    more = {"sum": shared.quantity, "count": shared.rows, "max": 0}[meter.aggregate]
    ours, theirs = found.ours + more, found.theirs + more
    within, rule = judge(meter, ours, theirs, channel.role, shared.rows + count)
    return replace(
        found,
        unit=meter_units(channel.terms)[meter.name],
        ours=ours,
        theirs=theirs,
        within_tolerance=within,
        rule=rule,
    )
