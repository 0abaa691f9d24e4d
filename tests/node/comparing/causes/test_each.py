"""Each cause, planted alone, is named with its facts and exactly its part of the gap."""

from __future__ import annotations

import random

import builders
import pytest
from planted import (
    DAY,
    HOUR,
    SECOND,
    START,
    TOKENS,
    compared,
    each,
    inside,
    only,
    total,
    usage,
)


@pytest.mark.parametrize("ids", [True, False], ids=["by id", "without ids"])
@pytest.mark.parametrize("hours", [2, -5.5])
def test_a_wrong_zone(hours: float, ids: bool) -> None:
    theirs = usage(ids=ids)
    ours = each(theirs, lambda e: e._replace(at=e.at + int(hours * HOUR)))
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.klass) == ("offset", "timing")
    assert cause.facts == {"seconds": str(int(hours * 3600))}
    assert cause.quantity == total(ours) - total(theirs)
    assert cause.confidence == ("certain" if ids else "likely")


def test_an_export_that_ends_with_its_period_has_lost_nothing() -> None:
    theirs = usage()
    ours = inside(each(theirs, lambda e: e._replace(at=e.at + 2 * HOUR)))
    found = compared(ours, inside(theirs))
    assert only(found).kind == "offset"
    assert list(found.meters[0].classes) == ["timing"]


def test_daylight_saving_time_on_one_side_only() -> None:
    theirs = usage(900)
    since = START + 10 * HOUR
    ours = each(theirs, lambda e: e._replace(at=e.at + HOUR) if e.at >= since else e)
    cause = only(compared(ours, theirs))
    assert cause.facts["seconds"] == "3600"
    assert cause.facts["from"].startswith("2026-10-01T08:")  # ten o'clock in Berlin
    assert "until" not in cause.facts


@pytest.mark.parametrize("shape", ["constant", "distributed"])
def test_a_lag_moves_events_over_the_edge(shape: str) -> None:
    rng = random.Random(4)
    theirs = usage(2000)
    late = {
        "constant": lambda: 300 * SECOND,
        "distributed": lambda: int(rng.expovariate(1 / 300e6)),
    }
    ours = each(theirs, lambda e: e._replace(at=e.at + late[shape]()))
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.facts["side"], cause.facts["shape"]) == ("lag", "ours", shape)
    assert abs(float(cause.facts["seconds"]) - 300) < 30
    assert cause.quantity == total(ours) - total(theirs) != 0


@pytest.mark.parametrize("stamp", ["start", "end"])
def test_sessions_at_one_of_their_ends(stamp: str) -> None:
    theirs = usage(900)
    sessions: dict[tuple[str, int], list[int]] = {}
    for event in theirs:
        sessions.setdefault((event.subject, event.at // (4 * HOUR)), []).append(event.at)
    pick = {"start": min, "end": max}[stamp]
    ours = each(theirs, lambda e: e._replace(at=pick(sessions[e.subject, e.at // (4 * HOUR)])))
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.facts) == ("cut-off", {"side": "ours", "stamp": stamp})
    assert cause.quantity == total(ours) - total(theirs) != 0


@pytest.mark.parametrize("ids", [True, False], ids=["by id", "without ids"])
@pytest.mark.parametrize("times", [1000, 1024, 60])
def test_another_unit(times: int, ids: bool) -> None:
    theirs = usage(ids=ids)
    ours = each(theirs, lambda e: e._replace(quantity=e.quantity * times))
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.klass, cause.facts) == ("factor", "quantity", {"factor": str(times)})
    assert cause.quantity == (times - 1) * total(theirs)
    assert cause.events == len(inside(theirs))


def test_a_unit_of_one_subject() -> None:
    theirs = usage()
    ours = each(
        theirs, lambda e: e._replace(quantity=e.quantity * 8) if e.subject == "eu-key-1" else e
    )
    cause = only(compared(ours, theirs))
    assert cause.facts == {"factor": "8", "subjects": "eu-key-1"}
    assert cause.quantity == total(ours) - total(theirs)


@pytest.mark.parametrize("mode", ["up", "nearest", "down"])
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_rounding_of_each_event(side: str, mode: str) -> None:
    exact = usage()
    extra = {"up": 99, "nearest": 50, "down": 0}[mode]
    rounded = each(exact, lambda e: e._replace(quantity=(e.quantity + extra) // 100 * 100))
    ours, theirs = (rounded, exact) if side == "ours" else (exact, rounded)
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.klass) == ("rounding", "rounding")
    assert cause.facts == {"side": side, "step": "100", "mode": mode, "per": "event"}
    assert cause.quantity == total(ours) - total(theirs)


@pytest.mark.parametrize("form", ["same id", "suffix", "new id"])
def test_what_is_sent_again_and_counted_again(form: str) -> None:
    theirs = usage()
    ids = {"same id": "{}", "suffix": "{}-r1", "new id": "other-{}"}[form]
    copies = [e._replace(id=ids.format(e.id), at=e.at + SECOND) for e in theirs[60:460:20]]
    found = compared([*theirs, *copies], theirs)
    cause = only(found)
    assert (cause.kind, cause.klass) == ("retry", "duplicate")
    assert cause.facts == {"side": "ours", "form": form}
    assert (cause.quantity, cause.events) == (total(copies), len(inside(copies)))


def test_copies_on_their_side_count_against_us() -> None:
    ours = usage()
    copies = [e._replace(id=f"{e.id}-2", at=e.at + SECOND) for e in ours[60:460:20]]
    cause = only(compared(ours, [*ours, *copies]))
    assert (cause.kind, cause.klass, cause.facts["side"]) == ("retry", "duplicate", "theirs")
    assert cause.quantity == -total(copies)


@pytest.mark.parametrize("ids", [True, False], ids=["by id", "without ids"])
def test_subjects_under_other_names(ids: bool) -> None:
    theirs = usage(ids=ids)
    ours = each(theirs, lambda e: e._replace(subject=e.subject.replace("us-key", "american")))
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.quantity) == ("rename-subject", 0)
    assert cause.facts["form"] == "one to one"
    assert cause.facts["theirs"] == "us-key-0, us-key-1, us-key-2"
    assert cause.facts["ours"] == "american-0, american-1, american-2"


def test_two_subjects_that_are_one_here() -> None:
    theirs = usage()
    ours = each(
        theirs, lambda e: e._replace(subject="eu") if e.subject in ("eu-key-0", "eu-key-1") else e
    )
    cause = only(compared(ours, theirs))
    assert cause.facts == {"form": "merged", "ours": "eu", "theirs": "eu-key-0, eu-key-1"}


@pytest.mark.parametrize("ids", [True, False], ids=["by id", "without ids"])
def test_a_meter_under_another_name(ids: bool) -> None:
    prompt = builders.meter("prompt")
    theirs = usage(ids=ids)
    ours = each(theirs, lambda e: e._replace(meter="prompt"))
    found = compared(ours, theirs, [prompt, TOKENS])
    parts = {c.meter: (c.kind, c.klass, c.quantity) for c in found.causes}
    assert parts == {
        "prompt": ("rename-meter", "missing-there", total(theirs)),
        "tokens": ("rename-meter", "missing-here", -total(theirs)),
    }


def test_a_meter_of_which_a_part_has_a_name_of_its_own() -> None:
    cached = builders.meter("cached")
    theirs = usage()
    ours = [part for e in theirs for part in (
        e._replace(quantity=e.quantity - e.quantity // 3),
        e._replace(quantity=e.quantity // 3, meter="cached"),
    )]  # fmt: skip
    found = compared(ours, theirs, [cached, TOKENS])
    part = total([e for e in ours if e.meter == "cached"])
    assert {(c.kind, c.meter, c.quantity) for c in found.causes} == {
        ("rename-meter", "cached", part),
        ("rename-meter", "tokens", -part),
    }


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_stretch_of_time_that_is_missing(side: str) -> None:
    whole = usage()
    first, last = START + 5 * HOUR, START + 7 * HOUR
    part = [e for e in whole if not first <= e.at < last]
    ours, theirs = (part, whole) if side == "ours" else (whole, part)
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.facts["side"], cause.facts["what"]) == ("missing-feed", side, "time")
    assert cause.facts["from"][:14] == "2026-10-01T03:"
    assert cause.quantity == total(ours) - total(theirs)


def test_a_subject_and_a_region_that_are_missing() -> None:
    theirs = usage()
    cause = only(compared([e for e in theirs if e.subject != "eu-key-2"], theirs))
    assert cause.facts == {"side": "ours", "what": "subject", "name": "eu-key-2"}
    cause = only(compared([e for e in theirs if not e.subject.startswith("us-")], theirs))
    assert cause.facts == {"side": "ours", "what": "region", "name": "us"}


@pytest.mark.parametrize("rate", [2, 10])
def test_a_sample(rate: int) -> None:
    theirs, rng = usage(2000), random.Random(rate)
    ours = [event for event in theirs if rng.randrange(rate) == 0]
    cause = only(compared(ours, theirs))
    assert (cause.kind, cause.facts) == ("sampling", {"side": "ours", "rate": str(rate)})
    assert cause.quantity == total(ours) - total(theirs)


def test_the_classes_of_the_boundary() -> None:
    rng = random.Random(3)
    ours = [
        e._replace(outcome=rng.choices(("ok", "timeout", "retried"), (90, 5, 5))[0])
        for e in usage(900)
    ]
    fine = [e for e in ours if e.outcome != "timeout"]
    cause = only(compared(ours, fine))
    assert cause.facts == {"class": "sent-not-acknowledged"}
    assert cause.quantity == total(ours) - total(fine)
    gave_up = each(ours, lambda e: e._replace(quantity=0) if e.outcome == "timeout" else e)
    cause = only(compared(gave_up, ours))
    assert (cause.facts, cause.klass) == ({"class": "billed-after-timeout"}, "quantity")
    assert cause.quantity == total(gave_up) - total(ours)
    again = [e._replace(id=f"{e.id}-2", at=e.at + SECOND) for e in ours if e.outcome == "retried"]
    cause = only(compared(ours, [*ours, *again]))
    assert cause.facts == {"side": "theirs", "class": "retried"}
    assert cause.quantity == -total(again)
    lost = [e for n, e in enumerate(ours) if e.outcome != "ok" or n % 25]
    cause = only(compared(ours, lost))
    assert (cause.facts, cause.confidence) == ({"class": "acknowledged"}, "likely")


@pytest.mark.parametrize("mode", ["up", "down"])
def test_rounding_of_hourly_sums(mode: str) -> None:
    theirs = usage(900, ids=False)
    sums: dict[tuple[str, int], int] = {}
    for event in theirs:
        key = event.subject, event.at // HOUR
        sums[key] = sums.get(key, 0) + event.quantity
    extra = {"up": 999, "down": 0}[mode]
    ours = [
        usage(1, ids=False)[0]._replace(
            subject=subject, at=hour * HOUR, quantity=(quantity + extra) // 1000 * 1000
        )
        for (subject, hour), quantity in sums.items()
    ]
    cause = only(compared(ours, theirs))
    assert cause.facts == {"side": "ours", "step": "1000", "mode": mode, "per": "hour"}
    assert cause.quantity == total(ours) - total(theirs)


def test_a_maximum_goes_to_the_cause_that_explains_it() -> None:
    peak = builders.meter("tokens", aggregate="max")
    theirs = usage()
    ours = each(theirs, lambda e: e._replace(quantity=e.quantity * 1000))
    cause = only(compared(ours, theirs, [peak]))
    highest = max(e.quantity for e in inside(theirs))
    assert (cause.kind, cause.quantity) == ("factor", 999 * highest)


def test_a_count_has_causes_too() -> None:
    calls = builders.meter("tokens", aggregate="count")
    theirs = usage()
    found = compared([e for e in theirs if e.subject != "eu-key-2"], theirs, [calls])
    cause = only(found)
    assert (
        cause.quantity
        == -cause.events
        == -sum(e.subject == "eu-key-2" and e.at < DAY.end_us and e.at >= START for e in theirs)
    )
