"""The explainer on two dozen worlds: sums exact in each, and scores above floors.

The floors are a little below what `docs/explainer-scores.md` says of many worlds; they are there to
notice what breaks, and the page to say how good it is.
"""

from __future__ import annotations

import pytest

from worlds.engine import explain
from worlds.scoring import Score, score_world
from worlds.summary import totals, world_lines, worst
from worlds.world import make_world

SEEDS = (
    2, 6, 14, 16, 18, 24, 28, 32, 44, 46, 54, 64,
    76, 80, 82, 86, 96, 98, 122, 124, 128, 144, 152, 162,
)  # fmt: skip
CAUSES_FOUND_MIN = 0.9
CAUSES_RIGHT_MIN = 0.9
PAIRS_FOUND_MIN = 0.95


@pytest.fixture(scope="module")
def scores() -> list[Score]:
    worlds = [make_world(seed) for seed in SEEDS]
    return [score_world(world, explain(world)) for world in worlds]


def test_every_sum_is_exact(scores: list[Score]) -> None:
    assert [line for score in scores for line in score.inexact] == []


def test_causes_are_found_and_few_are_invented(scores: list[Score]) -> None:
    whole = totals(scores)["all"]
    lines = "\n".join(line for score in worst(scores, 5) for line in world_lines(score))
    assert whole.found >= CAUSES_FOUND_MIN * whole.planted, lines
    assert whole.right >= CAUSES_RIGHT_MIN * whole.said, lines
    assert [score.seed for score in scores if not score.causes and score.wrong] == []


def test_what_is_certain_is_right_and_few_pairs_are_missed(scores: list[Score]) -> None:
    certain = [score.pairs.get("certain", (0, 0)) for score in scores]
    assert sum(said for said, _ in certain) > 0
    assert all(said == right for said, right in certain)
    covered, expected = (sum(getattr(s, name) for s in scores) for name in ("covered", "expected"))
    assert covered >= PAIRS_FOUND_MIN * expected
