"""A world: two exports made of the same requests, and the truth about why they differ."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Meter
from worlds.base import Setting, Usage, draw_setting, draw_usages
from worlds.causes import GB, Planted
from worlds.observing import Observed, observe
from worlds.plan import SIDES, Plan, draw_plan
from worlds.rows import Row, row_of, totals

TOUCHED_MIN = 5  # rows of the period; a cause that touches fewer is not there


class SeenEvent(NamedTuple):
    """One amount of one row, as who compares sees it. Times are µs UTC; rows count from 1."""

    place: int
    id: str | None
    meter: str
    subject: str
    quantity: int
    at: int
    outcome: str | None
    session: str | None


@dataclass(frozen=True, slots=True)
class Truth:
    """A planted cause, what it contributes to ours minus theirs, and the rows that it touched."""

    planted: Planted
    quantity: dict[str, int]
    touched: int


@dataclass(frozen=True, slots=True)
class World:
    """Two sides of the same requests."""

    seed: int
    setting: Setting
    plan: Plan
    usages: list[Usage]
    ours: list[Row]
    theirs: list[Row]
    totals: dict[str, tuple[int, int]]  # meter to what ours and theirs count in the period
    causes: list[Truth]
    noise: dict[str, int]  # meter to what chance and the bounds of sums contribute
    outcomes: bool  # our file says how requests ended
    sessions: bool  # our file names sessions

    @property
    def situation(self) -> str:
        """What there is to pair by: shared, part or none of the ids, or sums of one side."""
        return "sums" if self.plan.grain != "event" else self.plan.ids

    def meter(self, name: str) -> Meter:
        """A meter by its name."""
        return next(meter for meter in self.plan.meters if meter.name == name)

    def difference(self, name: str) -> int:
        """Ours minus theirs."""
        ours, theirs = self.totals[name]
        return ours - theirs

    def events(self, side: str) -> Iterator[SeenEvent]:
        """A side's amounts, row by row; only our file may name outcomes and sessions."""
        mine = side == "ours"
        for place, row in enumerate(self.ours if mine else self.theirs, 1):
            outcome = row.outcome if mine and self.outcomes else None
            session = row.session if mine and self.sessions else None
            for meter, amount in row.amounts.items():
                yield SeenEvent(place, row.id, meter, row.subject, amount, row.at, outcome, session)

    def pairs(self) -> dict[int, list[int]]:
        """Each of our rows to those of theirs that stand for the same requests; copies have none.

        Where a side has a request in a row and in its copy, the row is the partner.
        """
        found: dict[int, list[int]] = {}
        behind: dict[int, int] = {}
        for place, row in enumerate(self.theirs, 1):
            if not row.copy:
                behind |= dict.fromkeys(row.usages, place)
        for place, row in enumerate(self.ours, 1):
            if not row.copy:
                partners = sorted({behind[usage] for usage in row.usages if usage in behind})
                if partners:
                    found[place] = partners
        return found

    def document(self) -> dict[str, Any]:
        """The truth as JSON has it; quantities are decimal text."""

        def texts(quantities: dict[str, int]) -> dict[str, str]:
            return {
                name: format_quantity(quantity, self.meter(name).scale)
                for name, quantity in quantities.items()
            }

        ours = {name: pair[0] for name, pair in self.totals.items()}
        theirs = {name: pair[1] for name, pair in self.totals.items()}
        return {
            "seed": self.seed,
            "calendar": self.setting.calendar,
            "time_zone": self.setting.time_zone,
            "period": self.setting.period.label,
            "pairing_by": self.situation,
            "window_seconds": str(self.plan.window_us // 1_000_000),
            "ours": texts(ours),
            "theirs": texts(theirs),
            "difference": texts({name: ours[name] - theirs[name] for name in ours}),
            "causes": [
                {
                    "kind": truth.planted.kind,
                    "meters": list(truth.planted.meters),
                    "facts": dict(truth.planted.facts),
                    "quantity": texts(truth.quantity),
                    "rows": truth.touched,
                }
                for truth in self.causes
            ],
            "noise": texts(self.noise),
            "pairs": [[ours, partners] for ours, partners in self.pairs().items()],
        }


def make_world(seed: int) -> World:
    """The world of a seed: always the same."""
    rng = random.Random(f"world {seed}")
    setting = draw_setting(rng)
    usages = draw_usages(rng, setting)
    plan = draw_plan(rng, setting, usages)
    kept = plan.causes
    while True:
        sides = {
            side: observe(first_rows(usages, plan), side, seed, setting, plan) for side in SIDES
        }
        seen = [cause for side in SIDES for cause in sides[side].causes]
        kept = tuple(cause for cause, _, touched in seen if touched >= TOUCHED_MIN)
        if len(kept) == len(plan.causes):
            return _whole(rng, seed, setting, plan, usages, sides)
        plan = _without(plan, kept)


def _without(plan: Plan, kept: tuple[Planted, ...]) -> Plan:
    """The plan with these causes only, in their order."""
    causes = tuple(cause for cause in plan.causes if cause in kept)
    return Plan(plan.meters, plan.ids, plan.grain, plan.grain_side, plan.wide, plan.noise, causes)


def first_rows(usages: list[Usage], plan: Plan) -> list[Row]:
    """What a side without any fault would note."""
    names = {meter.name for meter in plan.meters}
    rows = []
    for usage in usages:
        amounts = {
            "context-tokens": usage.context,
            "generated-tokens": usage.generated,
            "peak-context": usage.context,
            "transfer": (usage.context + usage.generated) * GB // 477,  # two kilobytes a token
        }
        rows.append(row_of(usage, {name: v for name, v in amounts.items() if name in names}))
    return rows


def _whole(
    rng: random.Random,
    seed: int,
    setting: Setting,
    plan: Plan,
    usages: list[Usage],
    sides: dict[str, Observed],
) -> World:
    meters, period = plan.meters, setting.period
    ours, theirs = sides["ours"].rows, sides["theirs"].rows
    counted = {side: totals(sides[side].rows, meters, period) for side in SIDES}
    causes = [Truth(*cause) for side in SIDES for cause in sides[side].causes]
    noise = {meter.name: 0 for meter in meters}
    for side in SIDES:
        for _, quantity in sides[side].steps:
            noise = {name: noise[name] + quantity[name] for name in noise}
    if not plan.wide:
        ours = [row for row in ours if period.start_us <= row.at < period.end_us]
    _give_ids(rng, plan.ids, ours, theirs)
    stamped = any(truth.planted.kind == "cut-off" for truth in causes)
    return World(
        seed,
        setting,
        plan,
        usages,
        ours,
        theirs,
        {name: (counted["ours"][name], counted["theirs"][name]) for name in counted["ours"]},
        causes,
        noise,
        setting.api,
        rng.random() < (0.85 if stamped else 0.4),
    )


def _give_ids(rng: random.Random, ids: str, ours: list[Row], theirs: list[Row]) -> None:
    """Where ids are not shared, our rows have ids of our own, or none at all."""
    own: dict[str, str] = {}
    share = {"shared": 0.0, "part": rng.uniform(0.05, 0.5), "none": 1.0}[ids]
    any_at_all = ids == "part" or rng.random() < 0.5
    for place, row in enumerate(ours, 1):
        if row.id is not None and rng.random() < share:
            own.setdefault(row.id, f"own-{place}")
        if row.id in own:
            row.id = own[row.id] if any_at_all else None
    for place, row in enumerate(theirs, 1):
        if row.id is None:  # the record gives every event an id
            row.id = f"sum-{place}"
