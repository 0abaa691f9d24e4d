"""Scores: what was said about worlds, held against what is true of them.

Causes are counted by `agreeing`: a planted cause is found if enough was said that agrees with it; a
said cause is right if it agrees with a planted one. A retry that was said of copies that came about
by chance is neither right nor wrong. A pair is right if both rows stand for the same request; of
sums, each part is a pair. What a world's meter counts and is explained by must add up exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from worlds.agreeing import Said, agrees, found
from worlds.orders import Range, ranges
from worlds.world import Truth, World

MATERIAL_SHARE = 0.01  # of what all causes of a meter contribute
CONFIDENCES = ("certain", "likely", "possible")


@dataclass(frozen=True, slots=True)
class Counted:
    """What was said of one meter: both totals, the classes' quantities, what stays unexplained."""

    ours: int
    theirs: int
    classes: Mapping[str, int]
    unexplained: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that was said of a world. Pairs are our row, theirs, and how sure."""

    meters: Mapping[str, Counted]
    causes: Sequence[Said]
    pairs: Mapping[str, Iterable[tuple[int, int, str]]]  # by meter


@dataclass(slots=True)
class Tally:
    """Counts of causes: planted, found of them, said, right of them."""

    planted: int = 0
    found: int = 0
    material: int = 0
    material_found: int = 0
    said: int = 0
    right: int = 0
    shares: list[float] = field(default_factory=list)  # how near what was said is, by meter

    def add(self, other: Tally) -> None:
        """Count another one too."""
        for name in ("planted", "found", "material", "material_found", "said", "right"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.shares += other.shares


@dataclass(slots=True)
class Score:
    """One world's score."""

    seed: int
    situation: str
    causes: int
    events: int
    kinds: dict[str, Tally]
    confidences: dict[str, tuple[int, int]]  # of causes: said, right
    pairs: dict[str, tuple[int, int]]  # confidence to said, right
    expected: int  # requests that both sides have, once for each meter
    covered: int  # of these, the ones in a right pair
    inexact: list[str]
    missed: list[str]
    wrong: list[str]

    @property
    def clean(self) -> bool:
        """Whether all causes were found and nothing else was said."""
        return not (self.missed or self.wrong or self.inexact)


def score_world(world: World, explanation: Explanation) -> Score:
    """Hold what was said of a world against the truth."""
    kinds: dict[str, Tally] = {}
    confidences = dict.fromkeys(CONFIDENCES, (0, 0))
    matches: list[list[Said]] = [[] for _ in world.causes]
    wrong = []
    for said in explanation.causes:
        agreeing = [n for n, truth in enumerate(world.causes) if agrees(world, truth, said)]
        for n in agreeing[:1]:
            matches[n].append(said)
        if not agreeing and _by_chance(world, said):
            continue
        tally = kinds.setdefault(said.kind, Tally())
        tally.said += 1
        tally.right += bool(agreeing)
        count, right = confidences.get(said.confidence, (0, 0))
        confidences[said.confidence] = (count + 1, right + bool(agreeing))
        if not agreeing:
            wrong.append(show_said(said))
    missed = []
    for truth, said_of_it, possible in zip(world.causes, matches, ranges(world), strict=True):
        tally = kinds.setdefault(truth.planted.kind, Tally())
        known = found(world, truth, said_of_it)
        tally.planted += 1
        tally.found += known
        names = [m.name for m in world.plan.meters if _material(world, truth, m.name)]
        tally.material += bool(names)
        tally.material_found += bool(names) and known
        for name in names:
            told = sum(one.quantity.get(name, 0) for one in said_of_it)
            tally.shares.append(_share(told, possible[name]))
        if not known:
            missed.append(show_truth(truth))
    pairs, expected, covered = _score_pairs(world, explanation)
    return Score(
        world.seed,
        world.situation,
        len(world.causes),
        len(world.ours) + len(world.theirs),
        kinds,
        confidences,
        pairs,
        expected,
        covered,
        list(_inexact(world, explanation)),
        missed,
        wrong,
    )


def fallen(world: World, error: str) -> Score:
    """The score of a world over which the explainer fell: nothing was said, nothing adds up."""
    score = score_world(world, Explanation({}, [], {}))
    score.inexact = [f"fell over: {error}"]
    return score


def _by_chance(world: World, said: Said) -> bool:
    """Whether copies by chance are what was said: true, and not systematic."""
    if said.kind != "retry":
        return False
    copies = {
        side: sum(row.copy for row in rows) * len(world.plan.meters)
        for side, rows in (("ours", world.ours), ("theirs", world.theirs))
    }
    side = said.facts.get("side")
    if any(truth.planted.kind in ("retry", "boundary") for truth in world.causes):
        return False
    return said.events <= (copies[side] if side in copies else max(copies.values()))


def _material(world: World, truth: Truth, meter: str) -> bool:
    """Whether a cause is a part of a meter's difference that anybody would look for."""
    whole = sum(abs(other.quantity[meter]) for other in world.causes)
    return abs(truth.quantity[meter]) > MATERIAL_SHARE * whole


def _share(told: int, possible: Range) -> float:
    """How near what was said is to what the cause contributes in some order, from 0 to 1."""
    near = min(max(told, possible[0]), possible[1])
    if told == near:
        return 1.0
    if told * near <= 0:
        return 0.0
    return min(abs(told), abs(near)) / max(abs(told), abs(near))


def _inexact(world: World, explanation: Explanation) -> Iterable[str]:
    """What does not add up, or is not what the sides count."""
    for meter in world.plan.meters:
        ours, theirs = world.totals[meter.name]
        counted = explanation.meters.get(meter.name)
        if counted is None:
            yield f"{meter.name}: nothing was said"
            continue
        if (counted.ours, counted.theirs) != (ours, theirs):
            yield f"{meter.name}: {counted.ours} and {counted.theirs}, not {ours} and {theirs}"
        explained = sum(counted.classes.values()) + counted.unexplained
        if explained != ours - theirs:
            yield f"{meter.name}: {explained} is explained of {ours - theirs}"


def _score_pairs(
    world: World, explanation: Explanation
) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Said and right by confidence; the requests that both sides have, and those in a right pair.

    Only meters are looked at that both sides count in the period under the same name.
    """
    ours = [None, *world.ours]
    theirs = [None, *world.theirs]
    found_by: Counter[str] = Counter()
    right_by: Counter[str] = Counter()
    expected = covered = 0
    behind = [
        frozenset(usage for row in rows for usage in row.usages)
        for rows in (world.ours, world.theirs)
    ]
    for meter in world.plan.meters:
        both = behind[0] & behind[1]
        if not all(world.totals[meter.name]):
            continue
        known: set[int] = set()
        for our_place, their_place, confidence in explanation.pairs.get(meter.name, ()):
            here, there = ours[our_place], theirs[their_place]
            assert here is not None and there is not None
            shared = set(here.usages) & set(there.usages)
            found_by[confidence] += 1
            right_by[confidence] += bool(shared)
            known |= shared
        expected += len(both)
        covered += len(both & known)
    return {c: (found_by[c], right_by[c]) for c in found_by}, expected, covered


def show_said(said: Said) -> str:
    """A said cause in a line."""
    facts = ", ".join(f"{name} {value}" for name, value in said.facts.items())
    return (
        f"{said.kind} of {said.meter or 'all'} ({said.confidence}): {facts}; {dict(said.quantity)}"
    )


def show_truth(truth: Truth) -> str:
    """A planted cause in a line."""
    facts = ", ".join(f"{name} {value}" for name, value in truth.planted.facts.items())
    meters = ", ".join(truth.planted.meters)
    return f"{truth.planted.kind} of {meters}: {facts}; {truth.quantity}, {truth.touched} rows"
