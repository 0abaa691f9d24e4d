"""The periods of a channel that make up one named stretch of time, its own period or a coarser one.

Channels under other terms have other calendars and time zones: a month here is thirty days there.
So a label, such as 2026-10, is read on the clock of each channel.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from tallystick.protocol.errors import PeriodError
from tallystick.protocol.periods import FORMS, Calendar, Period
from tallystick.protocol.records import Terms


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time by its label, its bounds, and a channel's periods in it, in order.

    `calendar` has the stretches of its kind on the channel's clock.
    """

    label: str
    start_us: int
    end_us: int
    periods: tuple[Period, ...]
    calendar: Calendar


def span_of(terms: Terms, label: str) -> Span:
    """The span of a label in a channel under these terms; `PeriodError` if no periods fill it."""
    whole, coarse = period_named(label, terms.time_zone)
    calendar = Calendar(terms.calendar, terms.time_zone)
    found = [calendar.period_of(whole.start_us)]
    while found[-1].end_us < whole.end_us:
        found.append(calendar.next(found[-1]))
    if (found[0].start_us, found[-1].end_us) != (whole.start_us, whole.end_us):
        raise PeriodError(
            f"{label} is not made of {terms.calendar}s, by which usage is counted between"
            f" {terms.provider.name} and {terms.consumer.name}",
            f"Choose a {terms.calendar}, as in {FORMS[terms.calendar][1]}, or what is made of them",
        )
    return Span(whole.label, whole.start_us, whole.end_us, tuple(found), coarse)


def period_named(label: str, time_zone: str) -> tuple[Period, Calendar]:
    """The period of a label, of whatever calendar, on the clock of a zone; and its calendar.

    `PeriodError` if no calendar has it.
    """
    for kind in FORMS:
        calendar = Calendar(kind, time_zone)
        with suppress(PeriodError):
            return calendar.parse(label), calendar
    forms = ", ".join(form for form, _ in FORMS.values())
    raise PeriodError(f"{label[:40]!r} is no period in {time_zone}", f"Write one of {forms}")
