"""Telling: hypotheses as facts and one sentence each, with how sure they are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from tallystick.node.comparing.causes.clocks import FOREVER, Clocks, Stretch
from tallystick.node.comparing.causes.factors import Factor
from tallystick.node.comparing.causes.found import Hypothesis, sure
from tallystick.node.comparing.causes.names import MeterNames, Renaming
from tallystick.node.comparing.causes.roundings import Rounding
from tallystick.protocol.compare import Confidence
from tallystick.protocol.quantities import format_quantity

SECOND_US = 1_000_000
SAVING_MAX_US = 3600 * SECOND_US
NAMES_SHOWN = 3
WHO = {"ours": "Our system", "theirs": "Their system"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def show_instant(instant_us: int) -> str:
    """An instant as facts have it: UTC, whole seconds."""
    at = _EPOCH + timedelta(seconds=instant_us // SECOND_US)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def show_bounds(since_us: int, until_us: int) -> tuple[str, str]:
    """Both ends of a stretch; within one second to the microsecond, so that they differ."""
    since, until = show_instant(since_us), show_instant(until_us)
    if since != until:
        return since, until
    return f"{since[:-1]}.{since_us % SECOND_US:06}Z", f"{until[:-1]}.{until_us % SECOND_US:06}Z"


def show_span(us: int) -> str:
    """A span of time in words: `2 h`, `5 h 30 min`, `12.5 s`."""
    seconds = abs(us) / SECOND_US
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def show_factor(value: Fraction) -> str:
    """A factor as a decimal of ten digits, as facts have it."""
    return f"{float(value):.10g}"


def of_stretch(
    stretch: Stretch, clocks: Clocks, by_id: bool, meters: tuple[str, ...]
) -> Hypothesis:
    """A zone that is wrong, always or for a while."""
    facts = {"seconds": str(stretch.shift_us // SECOND_US)}
    way = "later" if stretch.shift_us > 0 else "earlier"
    when = ""
    if stretch.since_us != FOREVER[0]:
        facts["from"] = show_instant(stretch.since_us)
        when = f" from {facts['from']}"
    if stretch.until_us != FOREVER[1]:
        facts["until"] = show_instant(stretch.until_us)
        when += f" until {facts['until']}"
    why = "another time zone"
    if when:
        why = (
            "daylight saving time on one side only"
            if _is_saving(stretch, clocks)
            else f"{why} then"
        )
    says = f"Our times are {show_span(stretch.shift_us)} {way} than theirs{when}: {why}."
    return Hypothesis("offset", "timing", sure(by_id, clocks.agreeing), facts, says, meters, 0)


def _is_saving(stretch: Stretch, clocks: Clocks) -> bool:
    """Whether another stretch, or none, is as far from this one as clocks are set in spring."""
    others = {one.shift_us for one in clocks.stretches} - {stretch.shift_us} or {0}
    return min(abs(stretch.shift_us - shift_us) for shift_us in others) <= SAVING_MAX_US


def of_lateness(clocks: Clocks, by_id: bool, meters: tuple[str, ...]) -> Hypothesis:
    """A lag, or sessions that are noted at one of their ends."""
    if clocks.cut_off:
        cut = clocks.cut_off
        facts = {"side": cut.side, "stamp": cut.stamp}
        says = f"{WHO[cut.side]} counts a whole session at its {cut.stamp}."
        return Hypothesis("cut-off", "timing", sure(by_id, 0.8), facts, says, meters)
    lag = clocks.lag
    assert lag is not None
    facts = {"side": lag.side, "shape": lag.shape, "seconds": f"{lag.mean_us / SECOND_US:.6g}"}
    how = "always" if lag.shape == "constant" else "on average"
    says = (
        f"{WHO[lag.side]} records {how} {show_span(lag.mean_us)} later:"
        " when processed, not when sent."
    )
    certainty = sure(by_id and lag.plain, clocks.agreeing)
    return Hypothesis("lag", "timing", certainty, facts, says, meters)


def of_factor(factor: Factor, by_id: bool, meter: str) -> Hypothesis:
    """A unit that differs."""
    facts = {"factor": show_factor(factor.value)}
    whose = ""
    if factor.subjects:
        facts["subjects"] = ", ".join(factor.subjects)
        whose = f" for {_listed(factor.subjects)}"
    if factor.value > 1:
        times = f"{facts['factor']} times"
    else:
        times = f"1/{show_factor(1 / factor.value)} of"
    says = f"Our quantities are {times} theirs{whose}: another unit, or a mark-up."
    return Hypothesis("factor", "quantity", sure(by_id, factor.fitting), facts, says, (meter,))


def of_rounding(rounding: Rounding, by_id: bool, meter: str, scale: int) -> Hypothesis:
    """Whole steps."""
    step = _plain_decimal(format_quantity(rounding.step, scale))
    facts = {"side": rounding.side, "step": step, "mode": rounding.mode, "per": rounding.per}
    how = "to the nearest" if rounding.mode == "nearest" else rounding.mode + " to whole"
    says = f"{WHO[rounding.side]} rounds each {rounding.per} {how} {step}."
    return Hypothesis("rounding", "rounding", sure(by_id, rounding.fitting), facts, says, (meter,))


def _plain_decimal(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def of_meter_names(names: MeterNames, by_id: bool) -> Hypothesis:
    """A meter under another name, or with a part under a name of its own."""
    here = f"{names.name}+{names.other}" if names.form == "split" else names.other
    there = "theirs" if names.side == "ours" else "ours"
    facts = {"form": names.form, names.side: here, there: names.name}
    who = WHO[names.side]
    if names.form == "split":
        says = f"{who} counts a part of {names.name} as {names.other}."
    else:
        says = f"What is {names.name} there is {names.other} here."
    return Hypothesis(
        "rename-meter", "missing-there", "certain" if by_id else "likely", facts, says
    )


def of_subjects(
    names: list[Renaming], by_id: bool, meters: tuple[str, ...]
) -> Iterator[Hypothesis]:
    """Subjects under other names: all that are one to one together, each other one by itself."""
    plain = [one for one in names if one.form == "one to one"]
    for several in ([plain] if plain else []) + [[o] for o in names if o.form != "one to one"]:
        ours = tuple(name for one in several for name in one.ours)
        theirs = tuple(name for one in several for name in one.theirs)
        facts = {"form": several[0].form, "ours": ", ".join(ours), "theirs": ", ".join(theirs)}
        says = f"What is {_listed(theirs)} there is {_listed(ours)} here."
        pairs = sum(one.pairs for one in several)
        sure_of_it: Confidence = "certain" if by_id else "likely"
        yield Hypothesis("rename-subject", "missing-there", sure_of_it, facts, says, meters, pairs)


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
