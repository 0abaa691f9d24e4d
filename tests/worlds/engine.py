"""The explainer's word on a world: `compare_events` of both sides' events, as scores take it."""

from __future__ import annotations

from collections import defaultdict

from tallystick.node.comparing.explaining import compare_events
from tallystick.node.comparing.tables import Event
from worlds.agreeing import Said
from worlds.scoring import Counted, Explanation
from worlds.world import World


def explain(world: World) -> Explanation:
    """What the explainer says."""
    told = compare_events(
        world.plan.meters,
        world.setting.period,
        (Event(*event) for event in world.events("ours")),
        (Event(*event) for event in world.events("theirs")),
    )
    meters = {
        meter.meter: Counted(
            meter.ours,
            meter.theirs,
            {name: total.quantity for name, total in meter.classes.items()},
            meter.unexplained,
        )
        for meter in told.meters
    }
    # A cause that touches several classes of a meter is one cause.
    whole: dict[tuple[str, str, tuple[tuple[str, str], ...]], Said] = {}
    for cause in told.causes:
        key = (cause.kind, cause.meter, tuple(sorted(cause.facts.items())))
        before = whole.get(key)
        quantity, events = cause.quantity, cause.events
        if before:
            quantity, events = quantity + before.quantity[cause.meter], events + before.events
        whole[key] = Said(
            cause.kind, cause.meter, {cause.meter: quantity}, events, cause.confidence, cause.facts
        )
    pairs: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for meter_name, ours, theirs, confidence in told.pairs:
        pairs[meter_name].append((ours, theirs, confidence))
    return Explanation(meters, list(whole.values()), pairs)
