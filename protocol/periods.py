"""Calendar periods in an IANA time zone: half-open, without gaps, in microseconds UTC.

Wall-clock bounds are turned into instants by the zone's own rules, so a day may have 23 or 25
hours and a month any length. A local hour that occurs twice is two periods, told apart by their
offset. Which period an instant is in depends on the zone's data alone, and both nodes must have
the same: a difference shows when a checkpoint is proposed, and is not signed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tallystick.protocol.errors import PeriodError

FORMS = {
    "hour": ("YYYY-MM-DDTHH", "2026-10-25T14"),
    "day": ("YYYY-MM-DD", "2026-10-25"),
    "week": ("YYYY-Www", "2026-W43"),
    "month": ("YYYY-MM", "2026-10"),
}

ZONE_NAME_MAX = 64  # characters
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,3}")

_HOUR = timedelta(hours=1)
_SECOND_US = 1_000_000
_CACHE_MAX = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A little more than records may name, and inside what datetime can do in every zone.
_FIRST, _LAST = datetime(1969, 12, 1), datetime(9999, 1, 1)


@dataclass(frozen=True, slots=True)
class Period:
    """A period: its label, its first microsecond, and the first that is not in it any more."""

    label: str
    start_us: int
    end_us: int


def _to_us(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def zone_named(name: str) -> ZoneInfo:
    """The time zone of an IANA name; `PeriodError` if there is none."""
    try:
        # Python imports a package for each part of a name, so only what can be a name is tried.
        if len(name) <= ZONE_NAME_MAX and _ZONE_NAME.fullmatch(name):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise PeriodError(f"there is no time zone {name!r}", "Use an IANA name, as in Europe/Berlin")


class Calendar:
    """The periods of one kind in one zone."""

    def __init__(self, calendar: str, time_zone: str) -> None:
        self._zone = zone_named(time_zone)
        if calendar not in FORMS:
            raise PeriodError(
                f"there is no calendar {calendar!r}", f"Use one of {', '.join(FORMS)}"
            )
        self.calendar = calendar
        self.time_zone = time_zone
        self._starts: list[int] = []
        self._known: list[Period] = []

    def period_of(self, instant_us: int) -> Period:
        """The period that an instant is in (1970 to 9998)."""
        place = bisect_right(self._starts, instant_us) - 1
        if place >= 0 and instant_us < self._known[place].end_us:
            return self._known[place]
        period = self._compute(instant_us)
        if len(self._known) >= _CACHE_MAX:
            self._starts.clear()
            self._known.clear()
        place = bisect_right(self._starts, period.start_us)
        self._starts.insert(place, period.start_us)
        self._known.insert(place, period)
        return period

    def next(self, period: Period) -> Period:
        """The period after this one."""
        return self.period_of(period.end_us)

    def parse(self, label: str) -> Period:
        """The period of a label; `PeriodError` says what form is expected."""
        form, example = FORMS[self.calendar]
        wrong = PeriodError(
            f"{label!r} is not a {self.calendar} of this channel's calendar",
            f"Write {form}, as in {example}",
        )
        try:
            wall = self._parse_wall(label)
        except ValueError:
            raise wrong from None
        if not _FIRST < wall < _LAST:
            raise wrong
        found = []
        # A repeated hour may be a half one, so later minutes of the hour are tried as well.
        minutes = (0, 30, 45) if self.calendar == "hour" else (0,)
        for minute, fold in ((minute, fold) for minute in minutes for fold in (0, 1)):
            instant = wall.replace(minute=minute, tzinfo=self._zone, fold=fold)
            period = self.period_of(_to_us(instant))
            if period.label == label:
                return period
            if period.label.startswith((f"{label}+", f"{label}-")):
                found.append(period.label)
        if not found:
            raise PeriodError(f"there is no {label} in {self.time_zone}: the clock skips it")
        names = " or ".join(dict.fromkeys(found))
        raise PeriodError(f"{label} occurs twice in {self.time_zone}", f"Write {names}")

    def _parse_wall(self, label: str) -> datetime:
        """The local time at which a label's period begins, by the clock on the wall."""
        match self.calendar:
            case "month":
                if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", label):
                    raise ValueError(label)
                return datetime.strptime(label + "-01", "%Y-%m-%d")
            case "week":
                match = re.fullmatch(r"([0-9]{4})-W([0-9]{2})", label)
                if match is None:
                    raise ValueError(label)
                monday = date.fromisocalendar(int(match[1]), int(match[2]), 1)
                return datetime(monday.year, monday.month, monday.day)
            case "day":
                if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", label):
                    raise ValueError(label)
                return datetime.strptime(label, "%Y-%m-%d")
            case _:
                match = re.fullmatch(
                    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})([+-][0-9]{2}:[0-9]{2})?", label
                )
                if match is None:
                    raise ValueError(label)
                return datetime.strptime(match[1], "%Y-%m-%dT%H")

    def _compute(self, instant_us: int) -> Period:
        local = self._local(instant_us)
        if self.calendar == "hour":
            return self._hour(instant_us, local)
        day = datetime(local.year, local.month, local.day)
        if self.calendar == "month":
            start = day.replace(day=1)
            following = (start + timedelta(days=32)).replace(day=1)
            label = f"{start.year:04}-{start.month:02}"
        elif self.calendar == "week":
            start = day - timedelta(days=day.weekday())
            following = start + timedelta(days=7)
            year, week, _ = start.isocalendar()
            label = f"{year:04}-W{week:02}"
        else:
            start = day
            following = day + timedelta(days=1)
            label = f"{day.year:04}-{day.month:02}-{day.day:02}"
        return Period(label, self._instant(start), self._instant(following))

    def _local(self, instant_us: int) -> datetime:
        return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(self._zone)

    def _instant(self, wall: datetime) -> int:
        """The first instant at which the local clock shows `wall` or later."""
        found = _to_us(wall.replace(tzinfo=self._zone, fold=0))
        shown = self._local(found).replace(tzinfo=None)
        if shown == wall:
            return found
        # The clock skips `wall`: the period begins when the skip ends. Offsets change on a second.
        low, high = found - 26 * 3600 * _SECOND_US, found + 26 * 3600 * _SECOND_US
        while high - low > _SECOND_US:
            middle = (low + high) // (2 * _SECOND_US) * _SECOND_US
            if self._local(middle).replace(tzinfo=None) >= wall:
                high = middle
            else:
                low = middle
        return high

    def _hour(self, instant_us: int, local: datetime) -> Period:
        """The run of instants around this one that show the same local hour at one offset."""
        offset = local.utcoffset()
        wall = local.replace(minute=0, second=0, microsecond=0, tzinfo=None)
        start = self._edge(instant_us, wall, offset, -1)
        end = self._edge(instant_us, wall, offset, +1)
        label = wall.strftime("%Y-%m-%dT%H").rjust(13, "0")
        folds = {
            wall.replace(tzinfo=self._zone, minute=minute, fold=fold).utcoffset()
            for fold in (0, 1)
            for minute in (0, 59)
        }
        if len(folds) > 1 and self._twice(wall):
            seconds = int(offset.total_seconds()) if offset else 0
            sign = "-" if seconds < 0 else "+"
            label += f"{sign}{abs(seconds) // 3600:02}:{abs(seconds) % 3600 // 60:02}"
        return Period(label, start, end)

    def _twice(self, wall: datetime) -> bool:
        """Whether some minute of this local hour occurs at two instants."""
        return any(
            self._local(_to_us(at.replace(tzinfo=self._zone, fold=0))).replace(tzinfo=None) == at
            and at.replace(tzinfo=self._zone, fold=0).utcoffset()
            != at.replace(tzinfo=self._zone, fold=1).utcoffset()
            for at in (wall + timedelta(minutes=minute) for minute in (0, 15, 30, 45, 59))
        )

    def _edge(
        self, instant_us: int, wall: datetime, offset: timedelta | None, direction: int
    ) -> int:
        """The hour's bound in one direction: the wall clock's, or a change of offset before it."""
        shift = offset or timedelta()
        hour_start = _to_us((wall - shift).replace(tzinfo=UTC))
        bound = hour_start if direction < 0 else hour_start + 3600 * _SECOND_US
        inner = bound if direction < 0 else bound - 1
        if self._local(inner).utcoffset() == offset:
            return bound
        low, high = sorted((inner, instant_us))
        while high - low > 1:
            middle = (low + high) // 2
            same = self._local(middle).utcoffset() == offset
            if same == (direction > 0):
                low = middle
            else:
                high = middle
        return high
