"""The mapping file: which columns of an export mean what, and how to read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.protocol.errors import InputError, MappingError
from tallystick.protocol.toml import known_keys, parse_toml, toml_text

FORMATS = ("csv", "jsonl", "parquet")
UNITS = ("s", "ms", "us", "ns")
_KEYS = ("format", "delimiter", "time", "id", "subject", "meter", "outcome", "attempt", "session")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a column, a constant, or a template over columns and `{row}`."""

    column: str | None = None
    value: str | None = None
    template: str | None = None

    def columns(self) -> list[str]:
        """The columns that it needs."""
        if self.template is not None:
            return [name for name in re.findall(r"\{([^{}]*)\}", self.template) if name != "row"]
        return [self.column] if self.column is not None else []


@dataclass(frozen=True, slots=True)
class MappedMeter:
    """A meter and where its quantity comes from."""

    meter: str
    quantity: Source


@dataclass(frozen=True, slots=True)
class Mapping:
    """A whole mapping. `unit` is for epoch numbers, `zone` for times that name no offset.

    `outcome` (how a request ended), `attempt` (its number) and `session` are columns that only
    comparing reads.
    """

    time: str
    zone: str
    unit: str | None
    id: Source | None
    subject: Source
    meters: tuple[MappedMeter, ...]
    format: str | None
    delimiter: str
    outcome: Source | None = None
    attempt: Source | None = None
    session: Source | None = None

    def columns(self) -> list[str]:
        """Every column that is needed, each once."""
        sources: list[Source] = [self.subject, *(meter.quantity for meter in self.meters)]
        optional = (self.id, self.outcome, self.attempt, self.session)
        sources += [source for source in optional if source]
        names = [self.time, *(name for source in sources for name in source.columns())]
        return list(dict.fromkeys(names))


def load_mapping(path: Path, defaults: dict[str, Any] | None = None) -> Mapping:
    """The mapping of a TOML file; `MappingError` names the key that is wrong.

    `defaults` are for keys that the file leaves out.
    """
    return _Reader(path).mapping({**(defaults or {}), **mapping_values(path)})


def mapping_values(path: Path) -> dict[str, Any]:
    """The values of a mapping's file; `MappingError` says what is wrong with it and where."""
    try:
        return parse_toml(toml_text(path.read_bytes()))
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror}") from None
    except InputError as error:
        raise MappingError(f"{path}: {error.message}", error.advice) from None


def load_import_mapping(path: Path) -> Mapping:
    """The same for an import, which needs ids."""
    mapping = load_mapping(path)
    if mapping.id is None:
        raise MappingError(
            f"{path}: there is no id, and an import needs one",
            'Name the column, id = { column = "request_id" }, or make ids from the row,'
            ' id = { template = "jan-{row}" }',
        )
    return mapping


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def _error(self, said: str, advice: str = "") -> MappingError:
        return MappingError(f"{self._path}: {said}", advice)

    def _table(self, values: dict[str, Any], key: str, known: Sequence[str]) -> dict[str, str]:
        value = values.get(key)
        if not isinstance(value, dict):
            what = "is missing" if value is None else "is not a table"
            raise self._error(f"{key} {what}", f'As in {key} = {{ column = "…" }}')
        for name, item in value.items():
            self._known(f"{key}.", name, known)
            if not isinstance(item, str):
                raise self._error(f"{key}.{name} is not text in quotes")
        return value

    def _known(self, where: str, name: str, known: Sequence[str]) -> None:
        if name not in known:
            raise self._error(f"there is no key {where}{name}", known_keys(name, known))

    def _source(self, values: dict[str, Any], key: str, forms: Sequence[str]) -> Source:
        table = self._table(values, key, forms)
        if len(table) != 1:
            raise self._error(f"{key} takes exactly one of {', '.join(forms)}")
        return Source(**table)

    def mapping(self, values: dict[str, Any]) -> Mapping:
        """All of it."""
        for name in values:
            self._known("", name, _KEYS)
        time = self._table(values, "time", ("column", "zone", "unit"))
        if "column" not in time:
            raise self._error("time.column is missing", 'As in time = { column = "TIMESTAMP" }')
        if time.get("unit", "s") not in UNITS:
            raise self._error(f"time.unit {time['unit']!r} is not one of {', '.join(UNITS)}")
        form = values.get("format")
        if form not in (None, *FORMATS):
            raise self._error(f"format {form!r} is not one of {', '.join(FORMATS)}")
        delimiter = values.get("delimiter", ",")
        if not isinstance(delimiter, str) or len(delimiter) != 1:
            raise self._error("delimiter is not one character")
        meters = values.get("meter")
        if not isinstance(meters, list) or not meters:
            raise self._error("there is no [[meter]]", "Name at least one meter and its quantity")
        return Mapping(
            time["column"],
            time.get("zone", "UTC"),
            time.get("unit"),
            self._source(values, "id", ("column", "template")) if "id" in values else None,
            self._source(values, "subject", ("column", "value")),
            tuple(self._meter(meter) for meter in meters),
            form,
            delimiter,
            *(
                self._source(values, key, ("column",)) if key in values else None
                for key in ("outcome", "attempt", "session")
            ),
        )

    def _meter(self, values: Any) -> MappedMeter:
        if not isinstance(values, dict):
            raise self._error("[[meter]] is not a table")
        for name in values:
            self._known("meter.", name, ("meter", "quantity"))
        name = values.get("meter")
        if not isinstance(name, str):
            raise self._error("meter.meter is missing or not text")
        return MappedMeter(name, self._source(values, "quantity", ("column", "value")))
