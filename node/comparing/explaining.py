"""Explaining: from two lists of events to causes, classes and what stays unexplained.

Causes are guessed from pairs that are sure (`causes.hints`), pairing sees both lists without them,
what then has no partner tells the rest of the causes, and the effects of all are exact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy

from tallystick.node.comparing.causes import (
    alone,
    effects,
    hints,
    names,
    preparing,
    profiles,
    sums,
    telling,
    totals,
)
from tallystick.node.comparing.causes.clocks import Clocks, find_clocks
from tallystick.node.comparing.causes.factors import find_factors
from tallystick.node.comparing.causes.found import Found
from tallystick.node.comparing.causes.roundings import find_rounded_parts, find_roundings
from tallystick.node.comparing.matching import Matcher
from tallystick.node.comparing.result import CONFIDENCES
from tallystick.node.comparing.tables import Event
from tallystick.protocol.compare import Cause, MeterComparison
from tallystick.protocol.periods import Period
from tallystick.protocol.records import Meter, Role

BATCH_EVENTS = 8192


class Explainer(Matcher):
    """Two lists of events, and what explains that they differ. Close it when done."""

    found: Found
    _our_meter: str

    def explain(self) -> None:
        """Find the causes, pair, and give every difference its class and cause."""
        self.progress("looking for causes", 0, 0)
        self.found = Found()
        meter_names = names.find_meter_names(self)
        names.set_riders_aside(self, meter_names)
        self.db.execute("CREATE TABLE sum_parts (whole BIGINT, part BIGINT)")
        renamed = [n for n in meter_names if n.form != "split"]
        our_meter = _cases("meter", {n.other: n.name for n in renamed if n.side == "ours"})
        self._our_meter = our_meter
        preparing.strip_attempts(self)
        preparing.set_copies_aside(self, {"ours": our_meter, "theirs": "meter"})
        self._show([])
        self._guess(hints.find_hints(self.db), meter_names)
        self._adjust()
        self.pair()
        self._find_differences()

    def _guess(self, told: hints.Hints, meter_names: Sequence[names.MeterNames]) -> None:
        """Find the causes that pairs tell, sums for pairs where one side has sums."""
        found, by_id = self.found, told.by_id
        for meter_name in meter_names:
            cause = telling.of_meter_names(meter_name, by_id)
            found.meter_names.append((meter_name, found.add(cause)))
        window_us = max((m.match_window_us for m in self.meters.values()), default=0)
        if not by_id:
            found.sums = self._sums(window_us)
        self._add_clocks(found.sums.clocks if found.sums else find_clocks(told, window_us), by_id)
        if not found.sums:
            found.subjects = names.subject_names(told)
        if not by_id:
            self._show(found.subjects)
            shift = effects.shift_sql(found, "instant", "instant")
            found.subjects += profiles.match_profiles(self, shift)
        self._show(found.subjects)
        for cause in telling.of_subjects(found.subjects, by_id, tuple(self.meters)):
            found.add(cause)
        per = "event"
        if found.sums:
            shift = effects.shift_sql(found, "p.instant", "p.instant")
            sums.group_parts(self, found.sums, shift, window_us)
            told, per = sums.sum_hints(self, found.sums), found.sums.grain
        self._add_quantities(told, per)

    def _sums(self, window_us: int) -> sums.Sums | None:
        found = sums.find_sums(self, window_us)
        if found is None and (subjects := profiles.match_profiles(self, "0")):
            self._show(subjects)
            found = sums.find_sums(self, window_us)
            self._show([])
        return found

    def _add_clocks(self, clocks: Clocks | None, by_id: bool) -> None:
        found, concerned = self.found, tuple(self.meters)
        found.clocks = clocks
        if clocks:
            for stretch in clocks.stretches:
                cause = telling.of_stretch(stretch, clocks, by_id, concerned)
                found.offsets.append((stretch, found.add(cause)))
            if clocks.lag or clocks.cut_off:
                found.late = found.add(telling.of_lateness(clocks, by_id, concerned))

    def _add_quantities(self, told: hints.Hints, per: str) -> None:
        found, by_id = self.found, told.by_id
        adding = {name for name, meter in self.meters.items() if meter.aggregate != "count"}
        summed = told.only(numpy.isin(told.our_meters.astype(str), sorted(adding)))
        for factor in find_factors(summed):
            cause = telling.of_factor(factor, by_id, factor.meter)
            found.factors.append((factor, found.add(cause)))
        factors = [f for f, _ in found.factors]
        roundings = list(find_roundings(summed, factors, per))
        if found.sums:
            known = {rounding.meter for rounding in roundings}
            roundings += find_rounded_parts(self, found.sums.side, summed, factors, known)
        for rounding in roundings:
            scale = self.meters[rounding.meter].scale
            cause = telling.of_rounding(rounding, by_id, rounding.meter, scale)
            found.roundings.append((rounding, found.add(cause)))

    def _show(self, subjects: Sequence[names.Renaming]) -> None:
        """Let hints see both sides with their common names."""
        ours, theirs = _common_names(subjects)
        preparing.show(self, "ours", self._our_meter, _cases("subject", ours))
        preparing.show(self, "theirs", "meter", _cases("subject", theirs))

    def _adjust(self) -> None:
        """Let pairing see their events as our system would have noted them."""
        found = self.found
        ours, theirs = _common_names(found.subjects)
        low, high = effects.late_bounds(found)
        lag = found.clocks.lag if found.clocks else None
        middle = (lag.mean_us if lag.side == "ours" else -lag.mean_us) if lag else 0
        shift = effects.shift_sql(found, "instant", f"(instant + {middle})")
        if found.late is not None:
            reach = min(max(abs(low - middle), abs(high - middle)), effects.REACH_MAX_US)
            self.db.execute(f"UPDATE kinds SET reach = greatest(reach, {reach})")
        quantity, coarse = effects.seen_quantities(found)
        whole, part = ("ours", "theirs") if found.sums and found.sums.side == "ours" else (
            "theirs", "ours")  # fmt: skip
        aside = {whole: "whole", part: "part"}
        preparing.show(
            self, "ours", self._our_meter, _cases("subject", ours), coarse, "instant",
            aside["ours"],
        )  # fmt: skip
        preparing.show(
            self, "theirs", "meter", _cases("subject", theirs), quantity,
            f"instant + {shift} + {middle}", aside["theirs"],
        )  # fmt: skip

    def pair(self) -> None:
        """Pair what is left, and group the sums that are known."""
        super().pair()
        if self.found.sums:
            self.db.execute(
                "INSERT INTO groups SELECT ?, whole, part, ?, 'likely' FROM sum_parts",
                [self.found.sums.side, self.found.sums.grain],
            )

    def _find_differences(self) -> None:
        """All findings, with their causes."""
        self.progress("adding up", 0, 0)
        effects.find_effects(self, self.found)
        alone.explain_alone(self, self.found)

    def comparisons(self, our_role: Role) -> tuple[list[MeterComparison], list[Cause]]:
        """Each meter's sum of classes, and the causes in their order."""
        return totals.summed_up(self, self.found, our_role)

    def pairing(self, meter: Meter) -> dict[str, int]:
        """How many pairs and sums with an event in the period are how sure, and what has none."""
        counts = dict.fromkeys((*CONFIDENCES, "unpaired_ours", "unpaired_theirs"), 0)
        found = self.db.execute(
            f"""
            SELECT confidence, count(*) FROM pairs JOIN ours o ON o.event = pairs.ours
                JOIN theirs t ON t.event = pairs.theirs
                WHERE o.meter = $meter AND ({self._inside("o")} OR {self._inside("t")}) GROUP BY 1
            UNION ALL SELECT confidence, count(DISTINCT whole) FROM groups g
                JOIN (SELECT 'ours' AS side, * FROM ours UNION ALL SELECT 'theirs', * FROM theirs) w
                    ON w.side = g.side AND w.event = whole
                WHERE meter = $meter AND {self._inside("w")} GROUP BY 1
            UNION ALL SELECT CASE WHEN ours IS NULL THEN 'unpaired_theirs' ELSE 'unpaired_ours' END,
                count(DISTINCT coalesce(ours, theirs)) FROM findings
                WHERE meter = $meter AND confidence IS NULL GROUP BY 1
            """,
            {"meter": meter.name},
        ).fetchall()
        for name, count in found:
            counts[name] += count
        return counts

    def pairs(self) -> Iterator[tuple[str, int, int, str]]:
        """Meter, our place, their place and how sure, of all pairs and all parts of sums."""
        with self.db.cursor() as cursor:
            cursor.execute(
                """
                SELECT o.meter, o.place, t.place, confidence FROM pairs
                JOIN ours o ON o.event = ours JOIN theirs t ON t.event = theirs
                UNION ALL SELECT w.meter, w.place, p.place, confidence FROM groups g
                JOIN ours w ON w.event = whole JOIN theirs p ON p.event = part
                WHERE g.side = 'ours'
                UNION ALL SELECT w.meter, p.place, w.place, confidence FROM groups g
                JOIN theirs w ON w.event = whole JOIN ours p ON p.event = part
                WHERE g.side = 'theirs'
                """
            )
            while rows := cursor.fetchmany(50_000):
                yield from rows


def _common_names(
    subjects: Sequence[names.Renaming],
) -> tuple[dict[str, str], dict[str, str]]:
    """Our subjects and theirs to a name that both have instead."""
    ours: dict[str, str] = {}
    theirs: dict[str, str] = {}
    for number, renaming in enumerate(subjects):
        ours |= dict.fromkeys(renaming.ours, f"\x1f{number}")
        theirs |= dict.fromkeys(renaming.theirs, f"\x1f{number}")
    return ours, theirs


def _cases(column: str, names_of: dict[str, str]) -> str:
    """A column with other names, as SQL has it."""
    if not names_of:
        return column
    cases = "".join(
        f" WHEN {effects.quoted(name)} THEN {effects.quoted(to)}" for name, to in names_of.items()
    )
    return f"(CASE {column}{cases} ELSE {column} END)"


@dataclass(frozen=True, slots=True)
class Explained:
    """What two lists of events differ by, and why. Pairs are meter, our place, theirs, how sure."""

    meters: Sequence[MeterComparison]
    causes: Sequence[Cause]
    pairs: Sequence[tuple[str, int, int, str]]


@contextmanager
def explained(
    meters: Sequence[Meter],
    period: Period,
    ours: Iterable[list[Event]],
    theirs: Iterable[list[Event]],
    folder: Path,
) -> Iterator[Explainer]:
    """Two lists of events, in batches, compared for a period; the engine works in the folder."""
    explainer = Explainer(meters, period.start_us, period.end_us, folder)
    try:
        explainer.load("ours", ours)
        explainer.load("theirs", theirs)
        explainer.explain()
        yield explainer
    finally:
        explainer.close()


def compare_events(
    meters: Sequence[Meter],
    period: Period,
    ours: Iterable[Event],
    theirs: Iterable[Event],
    our_role: Role = "consumer",
) -> Explained:
    """Compare two lists of events that fit into memory."""
    with tempfile.TemporaryDirectory(prefix="tallystick-compare-") as folder:
        here, there = _batches(ours), _batches(theirs)
        with explained(meters, period, here, there, Path(folder)) as explainer:
            comparisons, causes = explainer.comparisons(our_role)
            return Explained(comparisons, causes, list(explainer.pairs()))


def _batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    rest = iter(events)
    while batch := list(islice(rest, BATCH_EVENTS)):
        yield batch
