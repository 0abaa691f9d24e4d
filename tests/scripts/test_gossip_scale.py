"""The simulated worlds of gossip: small ones run, tell what happened, and are drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest
from gossiping.drawing import draw_all
from gossiping.graph import make_graph
from gossiping.measure import bytes_an_item, quantile, run_world
from gossiping.tables import by_share, by_size
from gossiping.world import Plan, World

DOCS = Path(__file__).parents[2] / "docs"
SMALL = Plan(
    nodes=40, channels=120, warm_minutes=1.5, cost_minutes=0.5, minutes=2.0, equivocations=20
)


def test_a_graph_hangs_together_and_has_hubs_and_small_parties() -> None:
    pairs = make_graph(500, 2_000, Random(1))
    assert len(set(pairs)) == 2_000
    assert all(one < other for one, other in pairs)
    seen, edge = {0}, [0]
    around: dict[int, set[int]] = {}
    for one, other in pairs:
        around.setdefault(one, set()).add(other)
        around.setdefault(other, set()).add(one)
    while edge:
        for other in around[edge.pop()] - seen:
            seen.add(other)
            edge.append(other)
    assert len(seen) == 500
    degrees = sorted(map(len, around.values()))
    assert degrees[50] <= 3
    assert degrees[-1] > 30


def test_the_same_seed_is_the_same_world() -> None:
    one, other = (run_world(SMALL) for _ in range(2))
    for found in (one, other):
        del found["processor_seconds"]
    assert one == other


def test_in_an_honest_world_equivocations_are_known_and_nobody_is_refused() -> None:
    found = run_world(SMALL)
    assert found["forks"] == 20
    assert len(found["neighbour_seconds"]) >= 19
    assert len(found["peer_seconds"]) >= 18
    assert found["refused"] == {}
    assert found["lies"] == 0
    assert found["items_an_hour"]["mean"] > 0
    assert found["bytes_an_hour"]["mean"] > 300 * found["items_an_hour"]["mean"]


def test_where_nothing_arrives_nothing_is_known() -> None:
    """The figures can be bad: a world in which gossip cannot work shows it."""
    found = run_world(replace(SMALL, loss=1.0))
    assert found["forks"] == 20
    assert found["neighbour_seconds"] == found["peer_seconds"] == []


def test_liars_are_counted_and_do_not_stop_it() -> None:
    found = run_world(replace(SMALL, lying=0.2, lies_a_minute=10))
    assert found["lies"] > 50
    assert len(found["neighbour_seconds"]) >= 0.8 * found["forks"]


def test_what_is_cut_apart_is_known_only_after_it_is_whole_again() -> None:
    found = run_world(replace(SMALL, partition_minutes=1.0))
    assert found["forks"]
    assert min(found["neighbour_seconds"]) >= 60
    assert len(found["neighbour_seconds"]) >= 0.8 * found["forks"]


def test_nodes_that_forgot_everything_hear_their_own_word_again() -> None:
    world = World(replace(SMALL, restarts=20.0))
    world.begin()
    world.run(4)
    assert world.rejoins >= 10
    assert len(world.rejoin_seconds) >= 0.7 * world.rejoins
    assert sorted(world.rejoin_seconds)[len(world.rejoin_seconds) // 2] < 5


def test_an_items_memory_is_measured() -> None:
    assert 500 < bytes_an_item(500) < 5_000


@pytest.mark.parametrize(
    ("total", "share", "value"),
    [(4, 0.5, 2), (4, 0.99, 4), (8, 0.5, 4), (8, 0.99, None), (3, 0, 1)],
)
def test_quantiles_count_what_never_came(total: int, share: float, value: int | None) -> None:
    assert quantile([1, 2, 3, 4], total, share) == value


def test_pictures_and_tables_in_the_documentation_are_of_the_figures_beside_them(
    tmp_path: Path,
) -> None:
    figures = json.loads((DOCS / "gossip" / "figures.json").read_text())
    draw_all(figures, tmp_path)
    drawn = {file.name: file.read_text() for file in tmp_path.iterdir()}
    kept = {file.name: file.read_text() for file in (DOCS / "gossip").glob("*.svg")}
    assert drawn == kept
    assert len(drawn) == 6
    page = (DOCS / "gossip.md").read_text()
    assert by_size(figures) in page
    assert by_share(figures) in page
    for name, text in drawn.items():
        assert f"gossip/{name}" in page
        assert ElementTree.fromstring(text).find("{*}desc") is not None
