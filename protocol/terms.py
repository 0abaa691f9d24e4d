"""Terms: from the TOML that people write to the record that both parties sign.

Every mistake in a file is a `TermsError` that names the line and the key. What a decoded record of
a peer must satisfy beyond its schema is `check_terms`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NoReturn

import msgspec

from tallystick.protocol.errors import (
    FormatError,
    InputError,
    InvalidRecord,
    PeriodError,
    QuantityError,
    TermsError,
)
from tallystick.protocol.keys import check_party_name
from tallystick.protocol.periods import FORMS, Calendar
from tallystick.protocol.quantities import format_quantity, parse_quantity
from tallystick.protocol.records import (
    INT64_MAX,
    Meter,
    PartyKeys,
    Role,
    Terms,
    Tolerance,
    check_texts,
    encode_record,
)
from tallystick.protocol.toml import known_keys, parse_toml, toml_text

_UNITS_US = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_CLOCKS = {"grace": "3d", "dispute": "15d", "answer": "29d"}
_METER_KEYS = (
    "unit", "scale", "aggregate", "source", "payable", "range", "match", "tolerance",
)  # fmt: skip


def channel_id(terms: Terms) -> bytes:
    """The SHA-256 of the terms record: the channel's id."""
    return hashlib.sha256(encode_record(terms)).digest()


def role_of(terms: Terms, party: str) -> Role:
    """The billing role of a party."""
    return "provider" if terms.provider.name == party else "consumer"


def meter_named(terms: Terms, name: str) -> Meter:
    """A meter by name; `InputError` lists those there are."""
    for meter in terms.meters:
        if meter.name == name:
            return meter
    known = ", ".join(meter.name for meter in terms.meters)
    raise InputError(f"the terms have no meter {name!r}", f"Meters: {known}")


def parse_terms(source: bytes, parties: Mapping[str, PartyKeys], nonce: bytes) -> Terms:
    """The terms of a TOML file; `parties` are the two that may be named in it."""
    return _File(source).terms(parties, nonce)


class _File:
    """A terms file: its values, and where in it each key stands."""

    def __init__(self, source: bytes) -> None:
        try:
            text = toml_text(source)
            self._values = parse_toml(text)
        except InputError as error:
            raise TermsError(error.message, error.advice) from None
        self._lines = self._locate(text)

    @staticmethod
    def _locate(text: str) -> dict[tuple[str, ...], int]:
        """The line of each key, by its path."""
        found: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            header = re.match(r"\s*\[([^\[\]]+)\]", line)
            key, equals, _ = line.partition("=")
            if header:
                table = _path(header[1])
                found.setdefault(table, number)
            elif equals:
                found.setdefault((*table, *_path(key)), number)
        return found

    def _fail(self, path: tuple[str, ...], said: str, advice: str = "") -> NoReturn:
        at = path
        while at and at not in self._lines:
            at = at[:-1]
        where = f"line {self._lines[at]}, " if at else ""
        raise TermsError(f"{where}{'.'.join(path)}: {said}", advice)

    def _get(self, path: tuple[str, ...]) -> Any:
        value: Any = self._values
        for part in path:
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return value

    def _table(self, path: tuple[str, ...], known: tuple[str, ...]) -> dict[str, Any]:
        """A table (empty if it is not there) whose keys are all known."""
        value = self._get(path)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._fail(path, f"expected a table, got {_show(value)}")
        for key in value:
            if key not in known:
                self._fail((*path, key), "there is no such key", known_keys(key, known))
        return value

    def _text(self, path: tuple[str, ...], default: str | None = None) -> str:
        value = self._get(path)
        if value is None:
            if default is None:
                self._fail(path, "this key is missing")
            return default
        if not isinstance(value, str):
            self._fail(path, f"expected text in quotes, got {_show(value)}")
        return value

    def _choice(self, path: tuple[str, ...], choices: tuple[str, ...], default: str | None) -> Any:
        value = self._text(path, default)
        if value not in choices:
            self._fail(path, f"{value!r} is not one of {', '.join(choices)}")
        return value

    def _integer(self, path: tuple[str, ...], default: int, maximum: int) -> int:
        value = self._get(path)
        if value is None:
            return default
        if type(value) is not int or not 0 <= value <= maximum:
            self._fail(path, f"expected a whole number from 0 to {maximum}, got {_show(value)}")
        return value

    def _duration_us(self, path: tuple[str, ...], default: str) -> int:
        value = self._text(path, default)
        match = re.fullmatch(r"([0-9]{1,6})(ms|s|m|h|d|w)", value)
        if match is None:
            self._fail(path, f"{value!r} is not a duration", "Write 30m, 12h, 3d or 2w")
        return int(match[1]) * _UNITS_US[match[2]]

    def _quantity(self, path: tuple[str, ...], value: Any, scale: int) -> int:
        if isinstance(value, float):
            self._fail(path, f"{value} is a floating-point number", f'Quote it: "{value}"')
        if not isinstance(value, str | int) or isinstance(value, bool):
            self._fail(path, f"expected a decimal in quotes, got {_show(value)}")
        try:
            return parse_quantity(str(value), scale)
        except QuantityError as error:
            self._fail(path, error.message, error.advice)

    def terms(self, parties: Mapping[str, PartyKeys], nonce: bytes) -> Terms:
        """All of it."""
        self._table((), ("provider", "consumer", "period", "clocks", "meters"))
        provider = self._party("provider", parties)
        consumer = self._party("consumer", parties)
        if provider == consumer:
            self._fail(("consumer",), "provider and consumer are the same party")
        self._table(("period",), ("calendar", "time_zone"))
        calendar = self._choice(("period", "calendar"), tuple(FORMS), None)
        zone = self._text(("period", "time_zone"))
        try:
            Calendar(calendar, zone)
        except PeriodError as error:
            self._fail(("period", "time_zone"), error.message, error.advice)
        self._table(("clocks",), tuple(_CLOCKS))
        grace, dispute, answer = (
            self._duration_us(("clocks", name), default) // 1_000_000
            for name, default in _CLOCKS.items()
        )
        meters = self._get(("meters",))
        if not isinstance(meters, dict) or not meters:
            self._fail(("meters",), "there must be at least one meter", "Add [meters.NAME]")
        made = tuple(sorted((self._meter(name) for name in meters), key=lambda meter: meter.name))
        return Terms(1, provider, consumer, calendar, zone, grace, dispute, answer, made, nonce)

    def _party(self, key: str, parties: Mapping[str, PartyKeys]) -> PartyKeys:
        name = self._text((key,))
        if name not in parties:
            known = " and ".join(sorted(parties))
            self._fail((key,), f"{name!r} is neither party of this proposal", f"They are {known}")
        return parties[name]

    def _meter(self, name: str) -> Meter:
        path = ("meters", name)
        self._table(path, _METER_KEYS)
        scale = self._integer((*path, "scale"), 0, 18)
        source = self._choice((*path, "source"), ("provider", "consumer", "both"), "provider")
        default = "provider" if source == "both" else source
        payable = self._choice((*path, "payable"), ("provider", "consumer", "minimum"), default)
        if source != "both" and payable != source:
            self._fail((*path, "payable"), f"only the {source} records this meter, not {payable}")
        low, high = self._range((*path, "range"), scale)
        self._table((*path, "match"), ("window",))
        meter = Meter(
            name,
            self._text((*path, "unit")),
            scale,
            low,
            high,
            self._choice((*path, "aggregate"), ("sum", "max", "count"), "sum"),
            source,
            payable,
            self._duration_us((*path, "match", "window"), "2s"),
            self._tolerance((*path, "tolerance"), scale),
        )
        try:
            # The schema's own limits (the name's form, lengths) are the record's.
            return msgspec.convert(msgspec.to_builtins(meter), Meter)
        except msgspec.ValidationError as error:
            self._fail(
                path, str(error), "A meter's name has lower-case letters, digits, '.', '_' and '-'"
            )

    def _range(self, path: tuple[str, ...], scale: int) -> tuple[int, int]:
        value = self._get(path)
        if value is None:
            return 0, INT64_MAX
        if not isinstance(value, list) or len(value) != 2:
            self._fail(path, f"expected two decimals, got {_show(value)}", 'As in ["0", "1000"]')
        low, high = (self._quantity(path, item, scale) for item in value)
        if low > high:
            self._fail(path, f"the lower bound {value[0]} is above the upper {value[1]}")
        return low, high

    def _tolerance(self, path: tuple[str, ...], scale: int) -> Tolerance | None:
        if self._get(path) is None:
            return None
        table = self._table(path, ("relative", "absolute", "base", "least"))
        relative = self._text((*path, "relative"), "0%")
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%", relative)
        if match is None or Fraction(match[1]) > 100:
            self._fail((*path, "relative"), f"{relative!r} is not a percentage", 'As in "0.5%"')
        absolute = self._quantity((*path, "absolute"), table.get("absolute", "0"), scale)
        if absolute < 0:
            self._fail((*path, "absolute"), "a tolerance is not negative")
        base = self._choice((*path, "base"), ("provider", "consumer"), "provider")
        least = self._integer((*path, "least"), 0, INT64_MAX)
        return Tolerance(int(Fraction(match[1]) * 10_000), absolute, base, least)


def _path(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _show(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def check_terms(terms: Terms) -> None:
    """Refuse (`InvalidRecord`) a decoded terms record that says what no file could say."""
    try:
        for party in (terms.provider, terms.consumer):
            check_party_name(party.name)
        Calendar(terms.calendar, terms.time_zone)
        for meter in terms.meters:
            check_texts(meter.unit, what=f"unit of {meter.name}")
    except (InputError, FormatError) as error:
        raise InvalidRecord(f"the terms do not hold: {error.message}") from None
    keys = [k for p in (terms.provider, terms.consumer) for k in (p.log_key, p.cosigner_key)]
    names = [meter.name for meter in terms.meters]
    for wrong, said in (
        (terms.provider.name == terms.consumer.name, "provider and consumer are the same"),
        (len(set(keys)) != len(keys), "a key serves for two jobs"),
        (names != sorted(set(names)), "the meters are not sorted, or one is there twice"),
        (any(m.minimum > m.maximum for m in terms.meters), "a meter's range is empty"),
        (
            any(m.source not in ("both", m.payable) for m in terms.meters),
            "a meter is payable by the side that does not record it",
        ),
    ):
        if wrong:
            raise InvalidRecord(f"the terms do not hold: {said}")


def _duration(seconds: int) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds and seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "no time"


def describe_terms(terms: Terms) -> list[str]:
    """The terms in plain words, in lines of at most 78 columns where names allow."""
    lines = [
        f"{terms.provider.name} provides, {terms.consumer.name} consumes and pays.",
        f"Usage is counted by the {terms.calendar}, on the clock of {terms.time_zone}.",
        f"A period may be closed {_duration(terms.grace_seconds)} after its end;"
        f" what is not disputed",
        f"within {_duration(terms.dispute_seconds)} is accepted; a dispute not answered within"
        f" {_duration(terms.answer_seconds)} is upheld.",
    ]
    for meter in terms.meters:
        lines += ["", *_describe_meter(meter)]
    return lines


def _describe_meter(meter: Meter) -> list[str]:
    what = {
        "sum": f"the sum of {meter.unit}",
        "max": f"the highest {meter.unit}",
        "count": "the number of deltas",
    }[meter.aggregate]
    places = f", {meter.scale} decimal places" if meter.scale else ""
    lines = [f"{meter.name}: {what}{places}."]
    if meter.source == "both":
        whose = "the lower of both" if meter.payable == "minimum" else f"the {meter.payable}'s"
        lines.append(f"  Both record it; {whose} number is payable.")
    else:
        lines.append(f"  The {meter.source} records it.")
    low, high = (format_quantity(value, meter.scale) for value in (meter.minimum, meter.maximum))
    if meter.maximum == INT64_MAX:
        lines.append(f"  One delta is at least {low}.")
    else:
        lines.append(f"  One delta is from {low} to {high}.")
    if meter.tolerance is None:
        lines.append("  Any difference counts.")
    else:
        t = meter.tolerance
        percent = format_quantity(t.relative_ppm, 4)  # bundles hold this text: it never changes
        lines.append(
            f"  A difference up to {percent}% of the {t.base}'s number or"
            f" {format_quantity(t.absolute, meter.scale)}"
        )
        lines.append(f"  {meter.unit}, whichever is more, is tolerated.")
        if t.least:
            lines.append(f"  With fewer than {t.least} deltas nothing is judged.")
    return lines
