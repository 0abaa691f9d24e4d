"""Times in exports: ISO 8601 or epoch numbers, exact, to microseconds since the Unix epoch UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from tallystick.protocol.errors import InputError, MappingError, PeriodError
from tallystick.protocol.periods import zone_named
from tallystick.protocol.records import TIME_MAX_US

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]{1,9}))?)?"
    r"\s?(Z|z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_EPOCH_CHARS_MAX = 64


@lru_cache(maxsize=16)
def _zone(name: str) -> ZoneInfo:
    try:
        return zone_named(name)
    except PeriodError as error:
        raise MappingError(error.message, error.advice) from None


@lru_cache(maxsize=4096)
def _second_us(date: str, clock: str, offset: str, zone: str) -> int:
    """The instant of a whole second; exports repeat them, so they are remembered."""
    wall = datetime.fromisoformat(f"{date}T{clock}")
    if offset:
        if offset in ("Z", "z", "UTC"):
            return (wall.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
        hours, minutes = int(offset[:3]), int(offset[3:].lstrip(":") or 0)
        shift = timedelta(hours=hours, minutes=-minutes if offset[0] == "-" else minutes)
        return (wall.replace(tzinfo=UTC) - shift - _EPOCH) // _MICROSECOND
    local = wall.replace(tzinfo=_zone(zone))
    instant = local.astimezone(UTC)
    if instant.astimezone(local.tzinfo).replace(tzinfo=None) != wall:
        raise InputError(f"{date} {clock} does not exist in {zone}: the clock skips it")
    return (instant - _EPOCH) // _MICROSECOND


def parse_time(text: str, zone: str, unit: str | None) -> int:
    """Microseconds since the Unix epoch, UTC; up to nine fractional digits are cut to six.

    With a `unit` the text is an epoch number, otherwise ISO 8601, read in `zone` where it names no
    offset. A local time that occurs twice is its first occurrence, so that no row is lost: an
    export that needs better names the offset. `InputError` says what is wrong.
    """
    if unit is not None:
        return _in_range(text, _epoch(text, unit))
    match = _ISO.fullmatch(text)
    if match is None:
        raise InputError(f"{text[:40]!r} is not an ISO 8601 time" if text else "the time is empty")
    date, clock, fraction, offset = match.groups()
    try:
        whole = _second_us(date, clock or "00:00:00", offset or "", zone)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{text[:40]!r} is not a time: {error}") from None
    return _in_range(text, whole + (int(fraction[:6].ljust(6, "0")) if fraction else 0))


def _epoch(text: str, unit: str) -> int:
    if len(text) > _EPOCH_CHARS_MAX or not _NUMBER.fullmatch(text):
        raise InputError(f"{text[:40]!r} is not an epoch number")
    number = Decimal(text)
    if abs(number) >= 10**21:
        raise InputError(f"{text[:40]!r} is not an epoch number in range")
    return int(number * 1_000_000 // _PER_SECOND[unit])


def _in_range(text: str, instant_us: int) -> int:
    if not 0 <= instant_us <= TIME_MAX_US:
        raise InputError(f"{text[:40]!r} is not between 1970 and 9998")
    return instant_us
