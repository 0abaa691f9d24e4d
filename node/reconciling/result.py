"""The result of a session as a comparison: the rows that differ, explained as `compare` does.

Each side explains its own rows against the peer's, so ours minus theirs here is theirs minus ours
there. The other side's total is not exchanged: it follows from our total and the rows that differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tallystick.node.channel import Channel
from tallystick.node.comparing.comparison import Comparison, write_events
from tallystick.node.comparing.matching import Event, Finding, Matcher
from tallystick.node.reconciling import kept
from tallystick.protocol.compare import CLASSES, ClassTotal, MeterComparison, judge
from tallystick.protocol.records import Meter
from tallystick.protocol.statement import meter_units
from tallystick.protocol.terms import meter_named

_REPEATS = "\x1f"  # between an id and the number of its copy: in no id


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
            sides = (_side(folder, "ours"), _side(folder, "theirs"))
            matcher.load("ours", [sides[0].events])
            matcher.load("theirs", [sides[1].events])
            matcher.match()
            repeats = (sides[0].repeats, sides[1].repeats)
            findings = [_classed(finding, repeats) for finding in matcher.findings()]
            compared = list(_meters(channel, meters, matcher, ended, findings))
            examples: dict[tuple[str, str], list[Finding]] = {}
            file = folder / "differences.csv"
            by_name = {meter.name: meter for meter in meters}
            written = write_events(file, iter(findings), by_name, examples)
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


class _Side(NamedTuple):
    """A side's kept rows as events, and the places of those that repeat another."""

    events: list[Event]
    repeats: set[int]


def _side(folder: Path, whose: str) -> _Side:
    """The rows that both have come first, so that what repeats them comes after."""
    rows = [row for row in kept.rows_of(folder) if row.why == "both" or row.whose == whose]
    rows.sort(key=lambda row: (row.why != "both", row.copy))
    events = [
        Event(place, _event_id(row), row.meter, row.subject, row.quantity, row.occurred_at)
        for place, row in enumerate(rows, 1)
    ]
    return _Side(events, {place for place, row in enumerate(rows, 1) if row.copy})


def _event_id(row: kept.KeptRow) -> str | None:
    """A row's id; one that repeats another has its copy's number in it, so that ids are unique."""
    if not row.id:
        return None
    return f"{row.id}{_REPEATS}{row.copy}" if row.copy else row.id


def _classed(finding: Finding, repeats: tuple[set[int], set[int]]) -> Finding:
    """A finding under its own id; what only one side has and repeats another row is a duplicate."""
    ours, theirs = repeats
    missing = (finding.kind == "missing-there" and finding.our_place in ours) or (
        finding.kind == "missing-here" and finding.their_place in theirs
    )
    id_ = finding.id.partition(_REPEATS)[0] if finding.id else finding.id
    return finding._replace(kind="duplicate" if missing else finding.kind, id=id_)


def _meters(
    channel: Channel,
    meters: Sequence[Meter],
    matcher: Matcher,
    ended: kept.Ended,
    findings: Sequence[Finding],
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
            matcher.classes(meter) if meter.aggregate == "max" else _classes(meter, findings),
            within,
            rule,
        )


def _classes(meter: Meter, findings: Sequence[Finding]) -> dict[str, ClassTotal]:
    """What each class contributes to a sum or a count, in the order of a report."""
    effects: dict[str, list[int]] = {}
    for finding in findings:
        if finding.meter == meter.name:
            effects.setdefault(finding.kind, []).append(finding.effect)
    return {
        kind: ClassTotal(sum(effects[kind]), len(effects[kind]))
        for kind in CLASSES
        if kind in effects
    }
