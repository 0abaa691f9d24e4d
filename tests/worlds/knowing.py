"""Somebody who knows the truth of a world and says it, so that the scorer can be tested."""

from __future__ import annotations

from worlds.agreeing import Said
from worlds.scoring import Counted, Explanation
from worlds.world import World


def explain_knowing(world: World) -> Explanation:
    """The truth, as an explainer would say it."""
    causes = [
        Said(
            truth.planted.kind, meter, {meter: truth.quantity[meter]}, truth.touched, "certain",
            truth.planted.facts,
        )
        for truth in world.causes
        for meter in truth.planted.meters
    ]  # fmt: skip
    pairs = [(ours, theirs, "certain") for ours, found in world.pairs().items() for theirs in found]
    meters = {}
    for name, (ours, theirs) in world.totals.items():
        classes = {"all": sum(truth.quantity[name] for truth in world.causes)}
        meters[name] = Counted(ours, theirs, classes, world.noise[name])
    return Explanation(meters, causes, dict.fromkeys(meters, pairs))
