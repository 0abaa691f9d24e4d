"""The time that a request is about: a UTC month, or two dates; half-open, in microseconds.

The client checks some of the rules for some of the calls; here all hold for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tallystick.node.api.pacspace.wire import Refusal, bad
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import TIME_MAX_US

NAMES = ("period", "timePreset", "startDate", "endDate")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Scope:
    """From `start_us` up to `end_us`, which is outside; `period` is its month if it is one."""

    start_us: int
    end_us: int
    period: str | None

    @property
    def name(self) -> str:
        """What tells it from other scopes."""
        return self.period or f"{instant(self.start_us)}/{instant(self.end_us)}"

    def document(self) -> dict[str, object]:
        """As answers show it."""
        return {
            "period": self.period,
            "startDate": instant(self.start_us),
            "endDate": instant(self.end_us),
        }

    def fits(self, calendar: Calendar) -> bool:
        """Whether whole periods of a calendar make it up."""
        first = calendar.period_of(self.start_us)
        return first.start_us == self.start_us and (
            self.end_us > TIME_MAX_US or calendar.period_of(self.end_us).start_us == self.end_us
        )


def instant(at_us: int) -> str:
    """A time as ISO 8601 in UTC, with as many decimals as it needs."""
    at = _EPOCH + timedelta(microseconds=at_us)
    return at.replace(tzinfo=None).isoformat(timespec="auto") + "Z"


def month_of(year: int, month: int) -> Scope:
    """A month in UTC."""
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Scope(_us(start), _us(end), f"{year:04}-{month:02}")


def current_month(now_us: int) -> Scope:
    """The month of an instant."""
    now = _EPOCH + timedelta(microseconds=now_us)
    return month_of(now.year, now.month)


def parse_scope(values: Mapping[str, str], now_us: int) -> Scope | None:
    """The scope that a request names; None if it names none."""
    period, preset = values.get("period"), values.get("timePreset")
    dates = values.get("startDate"), values.get("endDate")
    dated = any(date is not None for date in dates)
    if period is not None:
        if preset is not None or dated:
            raise _mixed("period cannot be combined with timePreset, startDate or endDate")
        return parse_month(period)
    if preset not in (None, "custom", "current_month"):
        raise bad(f"timePreset {preset!r} is not known: current_month or custom")
    if preset == "current_month":
        if dated:
            raise _mixed("startDate and endDate go with timePreset custom, or with none")
        return current_month(now_us)
    if not dated:
        if preset == "custom":
            raise _mixed("timePreset custom needs both startDate and endDate")
        return None
    if dates[0] is None or dates[1] is None:
        raise _mixed("startDate and endDate must be given together")
    start, end = _date("startDate", dates[0]), _date("endDate", dates[1])
    if start >= end:
        raise bad("startDate must be before endDate")
    # Nothing is recorded as before 1970 or after 9998, so nothing changes by cutting there.
    return _named(min(max(start, 0), TIME_MAX_US), min(max(end, 1), TIME_MAX_US + 1))


def parse_month(text: str) -> Scope:
    """The month of a text."""
    match = _MONTH.fullmatch(text)
    if match is None or not 1970 <= int(match[1]) <= 9998:
        raise bad(f"period {text[:40]!r} is not a month: write YYYY-MM")
    return month_of(int(match[1]), int(match[2]))


def refuse_mixed(values: Mapping[str, str]) -> None:
    """A checkpoint to start from, and a scope, exclude each other."""
    if any(name in values for name in NAMES):
        raise _mixed("startingCheckpoint cannot be combined with a period or dates")


def _named(start_us: int, end_us: int) -> Scope:
    """The scope of two instants; it has its month's name if it is one."""
    month = current_month(start_us)
    same = (month.start_us, month.end_us) == (start_us, end_us)
    return month if same else Scope(start_us, end_us, None)


def _date(name: str, text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
        return _us(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise bad(f"{name} {text[:40]!r} is not an ISO 8601 date") from None


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _mixed(message: str) -> Refusal:
    return Refusal(400, message, "INVALID_SCOPE_COMBINATION")
