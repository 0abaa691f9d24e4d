"""Worlds as files: one side's imported into a real pair of nodes, the other's compared with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodes
import pytest

from tallystick.protocol.quantities import parse_quantity
from worlds.export import write_world
from worlds.world import World, make_world

SEEDS = (40, 128)  # requests sent again; without ids, another unit


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nodes.Party, nodes.Party]]:
    """Two nodes that are paired and have no channel yet."""
    with nodes.running(tmp_path_factory.mktemp("worlds")) as (acme, beta):
        nodes.pair(acme, beta)
        yield acme, beta


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_through_two_nodes(
    paired: tuple[nodes.Party, nodes.Party], tmp_path: Path, seed: int
) -> None:
    acme, beta = paired
    world = make_world(seed)
    write_world(world, tmp_path)
    channel = nodes.found(acme, beta, (tmp_path / "terms.toml").read_text())
    imported = acme.json(
        "import", str(tmp_path / "theirs.csv"), "--map", str(tmp_path / "theirs.toml"),
        "--channel", channel, "--wait",
    )  # fmt: skip
    assert imported["recorded"] == len(world.theirs) * len(world.plan.meters)
    done = beta.tally(
        "compare", str(tmp_path / "ours.csv"), "--map", str(tmp_path / "ours.toml"),
        "--period", world.setting.period.label, "--channel", channel, "--json", check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    _is_true(world, json.loads(done.stdout))


def _is_true(world: World, document: dict[str, Any]) -> None:
    for name, told in document["meters"].items():
        scale = world.meter(name).scale

        def amount(text: str, scale: int = scale) -> int:
            return parse_quantity(text, scale)

        assert (amount(told["ours"]), amount(told["theirs"])) == world.totals[name]
        explained = sum(amount(part["quantity"]) for part in told["classes"].values())
        assert explained + amount(told["unexplained"]) == world.difference(name)
    planted = {truth.planted.kind for truth in world.causes}
    assert {cause["kind"] for cause in document["causes"]} == planted
