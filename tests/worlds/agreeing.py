"""When a cause that was said is a cause that was planted: the bounds, kind by kind.

The kind must be the same, the meter must be one that the planted cause touches (or none is named,
which means all), and the main fact must agree:

- offset: seconds within a minute, or twice the terms' window if that is more; with a constant lag
  beside it, the sum of both will do. A constant lag is an offset as well;
- lag: constant within a tenth or the window; exponential within 35% of the mean or of the median;
- cut-off: the side that stamps, if one is named;
- factor: within 0.5%, for every meter that the cause touches;
- rounding: the step exactly, and side, mode and grain where they are named;
- retry: the side, if one is named. A boundary of class `retried` is a retry as well, and the other
  way round;
- rename-meter: both sides' names; of a split, the new name at least;
- rename-subject: only names that were planted together, and of the rows that the planted cause
  touched at least half;
- missing-feed: the side; the stretch with at least 60% of the time that either covers; the subject
  by the name that the other side has for it; the region by its name, or subjects that are all of
  it and make up at least 60% of its rows;
- sampling: the rate within a fifth;
- boundary: the class.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from worlds.plan import EXTRA_METERS
from worlds.world import Truth, World

OFFSET_SECONDS = 60
LAG_SHARE = 0.1
EXPONENTIAL_SHARE = 0.35
FACTOR_SHARE = 0.005
RENAMED_SHARE = 0.5
STRETCH_SHARE = 0.6
REGION_SHARE = 0.6
SAMPLING_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Said:
    """A cause as it was said. `meter` None stands for all; the quantity is in the meter's scale."""

    kind: str
    meter: str | None
    quantity: Mapping[str, int]  # by meter
    events: int
    confidence: str
    facts: Mapping[str, str]


def agrees(world: World, truth: Truth, said: Said) -> bool:
    """Whether what was said is (a part of) what was planted."""
    planted = truth.planted
    if said.meter is not None and said.meter not in planted.meters:
        return False
    if said.kind == "offset" and planted.kind == "lag" and planted.facts["shape"] == "constant":
        return _near(_seconds(said), _signed_lag(truth), _window(world), LAG_SHARE)
    if (said.kind, planted.kind) == ("retry", "boundary"):
        return planted.facts["class"] == "retried" and said.facts.get("side", "theirs") == "theirs"
    if (said.kind, planted.kind) == ("boundary", "retry"):
        return said.facts.get("class") == "retried"
    if said.kind != planted.kind:
        return False
    return _AGREES[said.kind](world, truth, said)


def found(world: World, truth: Truth, said: Sequence[Said]) -> bool:
    """Whether causes that were said and agree with a planted one are enough of it."""
    if not said:
        return False
    if truth.planted.kind == "factor":
        named = {_first_name(one.meter) for one in said}
        return None in named or named >= {_first_name(name) for name in truth.planted.meters}
    if truth.planted.facts.get("what") == "region":
        lost = _lost_names(world, truth)
        told = {one.facts.get("name", "") for one in said}
        if told <= set(lost):
            return sum(lost[name] for name in told) >= REGION_SHARE * lost.total()
    if truth.planted.kind == "rename-subject":
        rows = _renamed_rows(world)
        named_pairs = {pair for one in said for pair in _named_pairs(one)}
        planted = {pair: n for pair, n in rows.items() if pair in truth.planted.values["pairs"]}
        return sum(n for pair, n in planted.items() if pair in named_pairs) >= RENAMED_SHARE * sum(
            planted.values()
        )
    return True


def _first_name(meter: str | None) -> str | None:
    """The name of a meter before anybody renamed it."""
    return "context-tokens" if meter in EXTRA_METERS else meter


def _window(world: World) -> float:
    return world.plan.window_us / 1_000_000


def _number(text: str | None) -> float:
    """The first number in a fact; not a number if there is none."""
    number = re.search(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", (text or "").replace(",", ""))
    return float(number[0]) if number else math.nan


def _seconds(said: Said) -> float:
    return _number(said.facts.get("seconds"))


def _near(value: float, wanted: float, absolute: float, share: float) -> bool:
    return abs(value - wanted) <= max(absolute, share * abs(wanted))


def _signed_lag(truth: Truth) -> float:
    seconds = _number(truth.planted.facts["seconds"])
    return seconds if truth.planted.side == "ours" else -seconds


def _offset(world: World, truth: Truth, said: Said) -> bool:
    wanted = _number(truth.planted.facts["seconds"])
    lags = [
        _signed_lag(other)
        for other in world.causes
        if other.planted.kind == "lag" and other.planted.facts["shape"] == "constant"
    ]
    bound = max(OFFSET_SECONDS, 2 * _window(world))
    return any(_near(_seconds(said), wanted + more, bound, 0) for more in (0.0, *lags))


def _lag(world: World, truth: Truth, said: Said) -> bool:
    wanted, value = _signed_lag(truth), _seconds(said)
    side = said.facts.get("side")
    if side is not None and side != truth.planted.side:
        return False
    if side is not None:  # then the number may have no sign
        wanted, value = abs(wanted), abs(value)
    if truth.planted.facts["shape"] == "constant":
        return _near(value, wanted, _window(world), LAG_SHARE)
    return any(_near(value, w, 0, EXPONENTIAL_SHARE) for w in (wanted, wanted * math.log(2)))


def _same(truth: Truth, said: Said, *names: str) -> bool:
    """Whether the facts of these names, as far as they are said, are the planted ones."""
    return all(said.facts.get(n) in (None, truth.planted.facts[n]) for n in names)


def _factor(world: World, truth: Truth, said: Said) -> bool:
    wanted = _number(truth.planted.facts["factor"])
    return _near(_number(said.facts.get("factor")), wanted, 0, FACTOR_SHARE)


def _rounding(world: World, truth: Truth, said: Said) -> bool:
    step = _number(said.facts.get("step"))
    return step == _number(truth.planted.facts["step"]) and _same(
        truth, said, "side", "mode", "per"
    )


def _names(text: str | None) -> set[str]:
    return {name for name in re.split(r"[,+\s]+", text or "") if name}


def _rename_meter(world: World, truth: Truth, said: Said) -> bool:
    new = {truth.planted.values["to"]}
    sides = [
        (_names(said.facts.get(s)), _names(truth.planted.facts[s])) for s in ("ours", "theirs")
    ]
    if not all(told and told <= planted for told, planted in sides):
        return False
    return bool(new & (sides[0][0] | sides[1][0]))


def _named_pairs(said: Said) -> set[tuple[str, str]]:
    return set(product(_names(said.facts.get("ours")), _names(said.facts.get("theirs"))))


def _rename_subject(world: World, truth: Truth, said: Said) -> bool:
    told, planted = _named_pairs(said), set(truth.planted.values["pairs"])
    ours, theirs = {pair[0] for pair in planted}, {pair[1] for pair in planted}
    return bool(told & planted) and all(o in ours and t in theirs for o, t in told)


def _renamed_rows(world: World) -> Counter[tuple[str, str]]:
    """How many rows are paired under each two names that differ."""
    theirs = {place: row.subject for place, row in enumerate(world.theirs, 1)}
    ours = {place: row.subject for place, row in enumerate(world.ours, 1)}
    return Counter(
        (ours[place], theirs[partner])
        for place, partners in world.pairs().items()
        for partner in partners
        if ours[place] != theirs[partner]
    )


def _instant(text: str | None) -> float:
    try:
        return datetime.fromisoformat((text or "").replace("Z", "+00:00")).timestamp()
    except ValueError:
        return math.nan


def _lost_names(world: World, truth: Truth) -> Counter[str]:
    """The subjects that a side lacks wholly, as the other side names them, with how many rows."""
    name: str = truth.planted.values["name"]
    whole = truth.planted.values["what"] == "region"
    rows = world.theirs if truth.planted.side == "ours" else world.ours
    found: Counter[str] = Counter()
    kept = set()
    for row in rows:
        for usage in row.usages:
            subject = world.usages[usage].subject
            if subject.startswith(name) if whole else subject == name:
                found[row.subject] += 1
            else:
                kept.add(row.subject)
    return Counter({subject: n for subject, n in found.items() if subject not in kept})


def _region_of_one(world: World, truth: Truth) -> str | None:
    """The region whose only subject it is that a side lacks."""
    region = truth.planted.facts["name"].split("-")[0]
    subjects = {u.subject for u in world.usages if u.subject.split("-")[0] == region}
    return region if world.setting.regions and len(subjects) == 1 else None


def _missing_feed(world: World, truth: Truth, said: Said) -> bool:
    facts = truth.planted.facts
    alike = ("time",) if facts["what"] == "time" else ("subject", "region")
    if not _same(truth, said, "side") or said.facts.get("what") not in alike:
        return False
    if facts["what"] != "time":
        name = said.facts.get("name", "").rstrip("-")
        known = (facts["name"], _region_of_one(world, truth))
        return name in known or name in _lost_names(world, truth)
    # Whoever has the times of one side only sees the stretch at that side's offset.
    shifts = {0.0}
    for other in world.causes:
        if other.planted.kind in ("offset", "lag"):
            shifts |= {_number(other.planted.facts["seconds"]) * sign for sign in (1, -1)}
    first, last = _instant(facts["from"]), _instant(facts["until"])
    begin, end = _instant(said.facts.get("from")), _instant(said.facts.get("until"))
    return any(
        min(last, end + shift) - max(first, begin + shift)
        >= STRETCH_SHARE * (max(last, end + shift) - min(first, begin + shift))
        for shift in shifts
    )


def _sampling(world: World, truth: Truth, said: Said) -> bool:
    rate = _number((said.facts.get("rate") or "").removeprefix("1 in "))
    return _near(rate, _number(truth.planted.facts["rate"]), 0, SAMPLING_SHARE) and _same(
        truth, said, "side"
    )


_AGREES: dict[str, Callable[[World, Truth, Said], bool]] = {
    "offset": _offset,
    "lag": _lag,
    "cut-off": lambda world, truth, said: _same(truth, said, "side"),
    "factor": _factor,
    "rounding": _rounding,
    "retry": lambda world, truth, said: _same(truth, said, "side"),
    "rename-meter": _rename_meter,
    "rename-subject": _rename_subject,
    "missing-feed": _missing_feed,
    "sampling": _sampling,
    "boundary": lambda world, truth, said: _same(truth, said, "class"),
}
