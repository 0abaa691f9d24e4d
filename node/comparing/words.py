"""What a comparison says in words: its headline, its steps' names, its numbers as people read them.

The terminal's report and the page say the same, so both take it from here. Percentages are rounded
for reading only; the quantities beside them are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tallystick.node.comparing.columns import cropped
from tallystick.node.comparing.result import CONFIDENCES, Comparison
from tallystick.protocol.compare import Cause, MeterComparison, Step, waterfall
from tallystick.protocol.messages import plain
from tallystick.protocol.quantities import format_quantity

NAME = 40  # columns of a name in a sentence
HEADLINE_STEPS = 3  # steps that the headline names; the others are summed
SHARES = range(-100, 101)  # percent; beyond, steps pull both ways, and quantities say more

# A class's or a cause's name as a step and as the subject of "is"; a class's rest beside causes.
_CLASSES = {
    "timing": ("in another period", "events in another period", "others in another period"),
    "missing-here": ("missing here", "events missing here", "others missing here"),
    "missing-there": ("missing there", "events missing there", "others missing there"),
    "duplicate": ("counted twice", "events that one side has twice", "others counted twice"),
    "quantity": ("other quantity", "events of another quantity", "others of other quantity"),
    "rounding": ("rounding", "rounding", "other rounding"),
}
# Of two exports neither is the record, and what is here is what an export has.
_OF_EXPORTS = {
    "missing-here": ("missing in ours", "events missing in our export", "others missing in ours"),
    "missing-there": (
        "missing in theirs", "events missing in their export", "others missing in theirs",
    ),
}  # fmt: skip
_KINDS = {
    "offset": ("time offset", "a time offset"),
    "lag": ("lag", "a lag"),
    "cut-off": ("cut-off at the edge", "the cut-off at the edge"),
    "factor": ("constant factor", "a constant factor"),
    "rounding": ("rounding", "rounding"),
    "retry": ("retries", "retries"),
    "rename-meter": ("renamed meter", "a renamed meter"),
    "rename-subject": ("renamed subject", "a renamed subject"),
    "missing-feed": ("missing feed", "a missing feed"),
    "sampling": ("sampling", "sampling"),
}
_BOUNDARY = {
    "sent-not-acknowledged": ("sent, unacknowledged", "requests sent and not acknowledged"),
    "billed-after-timeout": ("billed after time-out", "requests billed after a time-out"),
    "retried": ("retried requests", "retried requests"),
    "acknowledged": ("acknowledged", "acknowledged requests"),
}
_COUNTABLE = {
    "byte", "call", "character", "credit", "day", "event", "hour", "image", "message", "minute",
    "page", "request", "second", "seat", "token", "unit", "user",
}  # fmt: skip


def grouped(value: int, scale: int) -> str:
    """A quantity with its thousands apart."""
    text = format_quantity(abs(value), scale)
    whole, dot, fraction = text.partition(".")
    return f"{'-' if value < 0 else ''}{int(whole):,}{dot}{fraction}"


def signed(value: int, scale: int) -> str:
    """A quantity with its sign; zero has none."""
    return f"+{grouped(value, scale)}" if value > 0 else grouped(value, scale)


def percent(part: int, whole: int) -> str:
    """A part in whole percent; what is not nothing is never 0%, nor what is not all 100%."""
    if not whole:
        return ""
    share = Fraction(100 * part, whole)
    sign = "-" if share < 0 else ""
    size = abs(share)
    if size > 9999:
        return f"{sign}>9999%"
    if 0 < size < 1:
        return f"{sign}<1%"
    if round(size) == 100 and size != 100:
        return f"{sign}{float(size):.1f}%" if round(size, 1) != 100 else f"{sign}~100%"
    return f"{sign}{round(size)}%"


def relative(difference: int, base: int) -> str:
    """A difference in percent of the other side's number, to two digits that say something."""
    if not base:
        return "none there"
    share = abs(Fraction(100 * difference, base))
    sign = "-" if difference * base < 0 else "+"
    if share < Fraction(1, 10_000):
        return "less than 0.0001%"
    if share >= 1000:
        return f"{sign}{round(share):,}%"
    for places in (0, 1, 2, 3, 4):
        if share >= Fraction(10, 10**places):
            break
    return f"{sign}{float(share):.{places}f}%"


def counted(number: int, thing: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def unit_of(meter: MeterComparison, value: int) -> str:
    """The meter's unit, in the plural where English has a plain one."""
    unit = cropped(plain(meter.unit), NAME)
    last = unit.replace("-", " ").split(" ")[-1]
    one = abs(value) == 10**meter.scale
    return unit if one or last not in _COUNTABLE else f"{unit}s"


def amount(meter: MeterComparison, value: int) -> str:
    """A quantity without its sign, and its unit."""
    return f"{grouped(abs(value), meter.scale)} {unit_of(meter, value)}"


def step_name(comparison: Comparison, step: Step, meter: str) -> str:
    """A step's name: of a cause, or of what causes leave of a class of the meter."""
    causes = ((cause.meter, cause.klass) for cause in comparison.causes)
    if step.cause is None and (meter, step.klass) in causes:
        return _class_words(comparison, step.klass)[2]
    return _words(comparison, step)[0]


def _words(comparison: Comparison, step: Step) -> tuple[str, str]:
    return _cause_words(step.cause) if step.cause else _class_words(comparison, step.klass)[:2]


def _cause_words(cause: Cause) -> tuple[str, str]:
    return _BOUNDARY[cause.facts["class"]] if cause.kind == "boundary" else _KINDS[cause.kind]


def _class_words(comparison: Comparison, klass: str) -> tuple[str, str, str]:
    words = _CLASSES | _OF_EXPORTS if comparison.of_exports else _CLASSES
    return words[klass]


def kind_name(cause: Cause) -> str:
    """A cause's name."""
    return _cause_words(cause)[0]


def class_name(comparison: Comparison, klass: str) -> str:
    """A class's name as a step."""
    return _class_words(comparison, klass)[0]


def steps_of(comparison: Comparison, meter: MeterComparison) -> list[Step]:
    """A meter's steps from their total to ours, but for what is unexplained."""
    return list(waterfall(meter, comparison.causes))


def differs(meter: MeterComparison) -> bool:
    """Whether anything is to be told of a meter, be it that its differences cancel out."""
    return bool(meter.difference or meter.classes)


def by_weight(meters: Sequence[MeterComparison]) -> list[MeterComparison]:
    """The meters that differ, what the terms do not tolerate first, then by their relative gap."""

    def weight(meter: MeterComparison) -> tuple[bool, Fraction]:
        return meter.within_tolerance, -Fraction(abs(meter.difference), max(abs(meter.theirs), 1))

    return sorted(filter(differs, meters), key=weight)


def alike(causes: Sequence[Cause]) -> list[tuple[list[int], Cause]]:
    """The causes with their numbers, those that say the same of several meters together."""
    groups: dict[tuple[str, str], tuple[list[int], Cause]] = {}
    for number, cause in enumerate(causes, 1):
        groups.setdefault((cause.confidence, cause.says), ([], cause))[0].append(number)
    return list(groups.values())


def their_total(comparison: Comparison, meter: MeterComparison) -> str:
    """What their number is called, with how sure it is where that is known."""
    status = comparison.statuses.get(meter.meter)
    total = "their export's total" if comparison.of_exports else "their total"
    return f"{total}, {status}" if status else total


def our_total(comparison: Comparison) -> str:
    """What our number is called."""
    total = "our export's total" if comparison.of_exports else "our total"
    return f"{total} ({comparison.file.name})"


def pairing_words(comparison: Comparison) -> str:
    """A sentence on how sure the pairs are; empty where all are certain."""
    sure = {
        name: sum(counts.get(name, 0) for counts in comparison.pairing.values())
        for name in CONFIDENCES
    }
    if sum(sure.values()) == sure["certain"]:
        return ""
    told = ", ".join(f"{many:,} {name}" for name, many in sure.items() if many)
    return f"Pairs of events: {told}. One without an id is never certain."


def headline(comparison: Comparison) -> str:
    """The answer in a sentence or two: how far, and why."""
    file = cropped(plain(comparison.file.name), NAME)
    found = by_weight(comparison.meters)
    if not found:
        many = counted(len(comparison.meters), "meter")
        both = f"{file} and {comparison.against}"
        return f"{both} agree in {comparison.period}: {many}, nothing differs."
    worst = found[0]
    where = f"In {cropped(plain(worst.meter), NAME)}, " if len(comparison.meters) > 1 else ""
    if not worst.difference:
        events = sum(total.events for meter in found for total in meter.classes.values())
        same = f"{file} and {comparison.against} count the same in {comparison.period}"
        return f"{same}, but {counted(events, 'event')} differ, and cancel out."
    way = "less" if worst.difference < 0 else "more"
    told = (
        f"{where}{file} counts {amount(worst, worst.difference)} {way} than {comparison.against} in"
        f" {comparison.period} ({relative(worst.difference, worst.theirs)}):"
        f" {_reasons(comparison, worst)}."
    )
    if worst.within_tolerance:
        told += " The terms tolerate it."
    others = len(found) - 1
    if others:
        told += f" {counted(others, 'other meter')} {'differs' if others == 1 else 'differ'}."
    return told


def _reasons(comparison: Comparison, meter: MeterComparison) -> str:
    """The largest steps and what is left of the gap."""
    parts: dict[str, int] = {}
    for step in steps_of(comparison, meter):
        words = _words(comparison, step)[1]
        parts[words] = parts.get(words, 0) + step.quantity
    ranked = sorted((item for item in parts.items() if item[1]), key=lambda item: -abs(item[1]))
    gap = meter.difference
    shares = all(round(Fraction(100 * q, gap)) in SHARES for _, q in ranked)

    def size(quantity: int) -> str:
        if not shares:
            return signed(quantity, meter.scale)
        if quantity == gap:
            return "all of it"
        return {"~100%": "nearly all of it"}.get(told := percent(quantity, gap), told)

    large = [item for item in ranked if 100 * abs(item[1]) >= abs(gap)]
    # One more is named rather than called smaller steps.
    named = large if len(ranked) == HEADLINE_STEPS + 1 else large[:HEADLINE_STEPS]
    others = ranked[len(named) :]
    told = [f"{size(quantity)} is {words}" for words, quantity in named]
    rest = sum(quantity for _, quantity in others)
    if others:
        small = shares and 100 * abs(rest) < abs(gap)
        told.append(f"{'under 1%' if small else size(rest)} is in smaller steps")
    left = f"{size(meter.unexplained)} is unexplained" if meter.unexplained else ""
    return "; ".join(filter(None, [", ".join(told), left or "nothing is unexplained"]))
