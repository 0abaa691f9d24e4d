"""Worlds are the same for the same seed, true to the last digit, and score who is right alone."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from worlds.agreeing import Said
from worlds.causes import DRAWS
from worlds.export import write_world
from worlds.knowing import explain_knowing
from worlds.observing import rounded
from worlds.orders import ranges
from worlds.plan import WEIGHTS
from worlds.scoring import Score, score_world
from worlds.summary import totals
from worlds.world import TOUCHED_MIN, World, make_world

SOME = range(1, 61)


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [make_world(seed) for seed in SOME]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for seed in (4, 10, 12):
        once = [path.read_bytes() for path in write_world(make_world(seed), tmp_path / "a")]
        again = [path.read_bytes() for path in write_world(make_world(seed), tmp_path / "b")]
        assert once == again
    assert once != [path.read_bytes() for path in write_world(make_world(13), tmp_path / "b")]


def test_what_all_causes_contribute_is_the_difference(worlds: list[World]) -> None:
    for world in worlds:
        for meter in world.plan.meters:
            parts = [truth.quantity[meter.name] for truth in world.causes]
            assert sum(parts) + world.noise[meter.name] == world.difference(meter.name)


def test_the_rows_count_what_the_truth_says(worlds: list[World]) -> None:
    start_end = [(w.setting.period.start_us, w.setting.period.end_us) for w in worlds]
    for world, (start, end) in zip(worlds, start_end, strict=True):
        for place, side in enumerate(("ours", "theirs")):
            counted = {meter.name: 0 for meter in world.plan.meters}
            for event in world.events(side):
                if start <= event.at < end:
                    if world.meter(event.meter).aggregate == "max":
                        counted[event.meter] = max(counted[event.meter], event.quantity)
                    else:
                        counted[event.meter] += event.quantity
            assert counted == {name: pair[place] for name, pair in world.totals.items()}


def test_every_cause_touches_rows_and_every_kind_is_there(worlds: list[World]) -> None:
    kinds = Counter(truth.planted.kind for world in worlds for truth in world.causes)
    assert set(kinds) == set(WEIGHTS) == set(DRAWS)
    assert all(truth.touched >= TOUCHED_MIN for world in worlds for truth in world.causes)
    assert {len(world.causes) for world in worlds} == {0, 1, 2, 3, 4}
    assert {world.situation for world in worlds} == {"shared", "part", "none", "sums"}


def test_a_control_world_has_noise_only(worlds: list[World]) -> None:
    for world in worlds:
        if not world.causes and world.situation == "shared" and world.plan.wide:
            pairs = world.pairs()
            assert len(pairs) > 0.98 * len(world.theirs)
            for ours, partners in pairs.items():
                here, there = world.ours[ours - 1], world.theirs[partners[0] - 1]
                assert (here.id, here.subject, here.amounts) == (
                    there.id, there.subject, there.amounts,
                )  # fmt: skip
                assert abs(here.at - there.at) < world.plan.window_us


def test_rounding() -> None:
    assert [rounded(25, 10, mode) for mode in ("down", "nearest", "up")] == [20, 30, 30]
    assert [rounded(24, 10, mode) for mode in ("down", "nearest", "up")] == [20, 20, 30]
    assert rounded(30, 10, "up") == 30


def test_files_say_what_the_world_is(tmp_path: Path, worlds: list[World]) -> None:
    world = next(w for w in worlds if len(w.causes) == 2 and w.plan.wide)
    write_world(world, tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert [cause["kind"] for cause in truth["causes"]] == [
        cause.planted.kind for cause in world.causes
    ]
    with (tmp_path / "ours.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == len(world.ours)
    for meter in world.plan.meters:
        parts = [Decimal(cause["quantity"][meter.name]) for cause in truth["causes"]]
        assert sum(parts) + Decimal(truth["noise"][meter.name]) == Decimal(
            truth["difference"][meter.name]
        )


def test_who_knows_the_truth_scores_all(worlds: list[World]) -> None:
    scores = [score_world(world, explain_knowing(world)) for world in worlds]
    assert [score.seed for score in scores if not score.clean] == []
    assert all(score.covered == score.expected for score in scores)
    assert all(said == right for score in scores for said, right in score.pairs.values())


def test_of_composed_causes_each_order_is_right_and_of_one_cause_one_amount(
    worlds: list[World],
) -> None:
    wide = 0
    for world in [w for w in worlds if w.causes][:20]:
        for truth, possible in zip(world.causes, ranges(world), strict=True):
            for name, (low, high) in possible.items():
                assert low <= truth.quantity[name] <= high
                assert len(world.causes) > 1 or low == high
                wide += low < high
    assert wide


def _told(world: World, **changes: Any) -> Score:
    return score_world(world, replace(explain_knowing(world), **changes))


def test_planted_mistakes_cost_points(worlds: list[World]) -> None:
    world = next(w for w in worlds if len(w.causes) == 2 and w.situation == "shared")
    known = explain_knowing(world)
    silent = _told(world, causes=[])
    assert (len(silent.missed), totals([silent])["all"].found) == (2, 0)
    invented = Said("sampling", None, {}, 1, "likely", {"rate": "7"})
    assert _told(world, causes=[*known.causes, invented]).wrong
    name, counted = next(iter(known.meters.items()))
    off = replace(counted, unexplained=counted.unexplained + 1)
    assert _told(world, meters={**known.meters, name: off}).inexact
    assert _told(world, meters={}).inexact
    crossed = {name: [(1, len(world.theirs), "certain")]}
    score = _told(world, pairs=crossed)
    assert score.pairs["certain"] == (1, 0)
    assert score.covered < score.expected


@pytest.mark.parametrize(
    ("kind", "fact", "wrong"),
    [
        ("offset", "seconds", "86400"),
        ("lag", "seconds", "1"),
        ("cut-off", "side", "both"),
        ("factor", "factor", "3.14"),
        ("rounding", "step", "7"),
        ("rounding", "mode", "up and down"),
        ("retry", "side", "nobody"),
        ("rename-meter", "ours", "other-tokens"),
        ("rename-subject", "ours", "somebody-else"),
        ("missing-feed", "side", "nobody"),
        ("missing-feed", "what", "all"),
        ("sampling", "rate", "77"),
        ("boundary", "class", "lost"),
    ],
)
def test_a_wrong_main_fact_is_a_wrong_cause(
    worlds: list[World], kind: str, fact: str, wrong: str
) -> None:
    world = next(w for w in worlds if any(t.planted.kind == kind for t in w.causes))
    causes = [
        replace(said, facts={**said.facts, fact: wrong}) if said.kind == kind else said
        for said in explain_knowing(world).causes
    ]
    score = _told(world, causes=causes)
    assert score.missed
    assert score.wrong
