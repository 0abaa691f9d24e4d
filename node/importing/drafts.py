"""From rows to drafts: exact, validated deltas that a node may record, or a reason why not.

A row is taken whole or not at all: if one of its meters is refused, none of them is a draft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Lookup
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from tallystick.node.importing.mapping import Mapping, Source
from tallystick.node.importing.readers import Rows, read_rows
from tallystick.node.importing.times import parse_time
from tallystick.protocol.errors import FormatError, InputError, MappingError, QuantityError
from tallystick.protocol.quantities import format_quantity, parse_quantity
from tallystick.protocol.records import Meter, TimeUs, check_texts, texts_plain

DRAFTS_MAX = 8192  # in one request to the node, and in one batch: at most 3 MB of records
BATCH_ROWS = 4096
WELL = frozenset({"ok", "success", "succeeded", "done", "acknowledged", "completed", "retried"})


class Draft(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A delta before its node recorded it. `sealed` is what is kept beside it (`node.sealing`)."""

    id: str
    meter: str
    subject: str
    quantity: int
    occurred_at: TimeUs
    sealed: bytes = b""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row, or a delta of it, that was not taken."""

    row: int
    column: str
    value: str
    reason: str


@dataclass(slots=True)
class DraftBatch:
    """What became of some rows. `draft_rows` are the rows of the drafts, place by place, and
    `outcomes` and `sessions` what the rows say beside them; empty where nothing is mapped.
    """

    rows_read: int
    bytes_read: int
    drafts: list[Draft] = field(default_factory=list)
    draft_rows: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)


class _Refused(Exception):
    def __init__(self, column: str, value: str, reason: str) -> None:
        self.column, self.value, self.reason = column, value, reason


@dataclass(frozen=True, slots=True)
class _Quantity:
    meter: Meter
    column: str
    take: Callable[[int, Sequence[str]], str]


class Converter:
    """Rows to drafts, as a mapping and the terms' meters say."""

    def __init__(self, mapping: Mapping, meters: Lookup[str, Meter]) -> None:
        self._mapping = mapping
        self._places = {name: place for place, name in enumerate(mapping.columns())}
        self._id = self._getter(mapping.id) if mapping.id else lambda row, values: ""
        self._subject = self._getter(mapping.subject)
        self._outcome, self._attempt, self._session = (
            self._getter(source) if source else None
            for source in (mapping.outcome, mapping.attempt, mapping.session)
        )
        self._id_column = _title(mapping.id) if mapping.id else "id"
        self._quantities = [self._quantity(m.meter, m.quantity, meters) for m in mapping.meters]
        parse_time("2000-01-01", mapping.zone, None)  # an unknown zone is said before any row

    def _getter(self, source: Source) -> Callable[[int, Sequence[str]], str]:
        if source.column is not None:
            place = self._places[source.column]
            return lambda row, values: values[place]
        if source.value is not None:
            constant = source.value
            return lambda row, values: constant
        template = source.template or ""
        needed = [(f"{{{name}}}", self._places[name]) for name in source.columns()]

        def fill(row: int, values: Sequence[str]) -> str:
            text = template.replace("{row}", str(row))
            for mark, place in needed:
                text = text.replace(mark, values[place])
            return text

        return fill

    def _quantity(self, name: str, source: Source, meters: Lookup[str, Meter]) -> _Quantity:
        meter = meters.get(name)
        if meter is None:
            known = ", ".join(sorted(meters))
            raise MappingError(
                f"the mapping names a meter {name!r} that the terms do not have", f"Meters: {known}"
            )
        return _Quantity(meter, _title(source), self._getter(source))

    def convert(self, rows: Rows) -> DraftBatch:
        """The drafts of a batch of rows, and what was refused."""
        batch = DraftBatch(len(rows.numbers) + len(rows.bad), rows.bytes_read)
        batch.rejects = [Reject(bad.row, "", "", bad.reason) for bad in rows.bad]
        mapping = self._mapping
        time_place, zone, unit = self._places[mapping.time], mapping.zone, mapping.unit
        get_id, get_subject = self._id, self._subject
        drafts, draft_rows = batch.drafts, batch.draft_rows
        ids = [get_id(row, v) for row, v in zip(rows.numbers, rows.values, strict=True)]
        subjects = [get_subject(row, v) for row, v in zip(rows.numbers, rows.values, strict=True)]
        plain = texts_plain("".join(ids)) and texts_plain("".join(subjects))
        for row, values, id_, subject in zip(rows.numbers, rows.values, ids, subjects, strict=True):
            try:
                if not (plain and len(id_) <= 128 and 0 < len(subject) <= 128 and id_):
                    self._check_texts(id_, subject)
                try:
                    occurred_at = parse_time(values[time_place], zone, unit)
                except InputError as error:
                    raise _Refused(mapping.time, values[time_place], error.message) from None
                made = [
                    Draft(id_, q.meter.name, subject, _amount(q, q.take(row, values)), occurred_at)
                    for q in self._quantities
                ]
            except _Refused as refused:
                batch.rejects.append(Reject(row, refused.column, refused.value, refused.reason))
            else:
                drafts += made
                draft_rows += [row] * len(made)
                if self._outcome or self._attempt:
                    batch.outcomes += [self._ended(row, values)] * len(made)
                if self._session:
                    batch.sessions += [self._session(row, values)] * len(made)
        return batch

    def _ended(self, row: int, values: Sequence[str]) -> str:
        outcome = self._outcome(row, values) if self._outcome else None
        return ended(outcome, self._attempt(row, values) if self._attempt else None)

    def _check_texts(self, id_: str, subject: str) -> None:
        checks = [(_title(self._mapping.subject), subject, "subject")]
        if self._mapping.id:
            checks.insert(0, (self._id_column, id_, "id"))
        for column, text, what in checks:
            try:
                check_texts(text, what=what)
            except FormatError as error:
                raise _Refused(column, text, error.message) from None


def _amount(wanted: _Quantity, text: str) -> int:
    try:
        return exact_quantity(wanted.meter, text)
    except QuantityError as error:
        raise _Refused(wanted.column, text, error.message) from None


def exact_quantity(meter: Meter, text: str) -> int:
    """The quantity in the meter's scale; `QuantityError` if it is not exact or not in its range."""
    amount = parse_quantity(text, meter.scale)
    if not meter.minimum <= amount <= meter.maximum:
        low, high = (format_quantity(v, meter.scale) for v in (meter.minimum, meter.maximum))
        raise QuantityError(f"{text} is outside {low} to {high}")
    return amount


def ended(outcome: str | None, attempt: str | None) -> str:
    """How a request ended; one that took a second attempt and says no worse was retried. None is
    what is not mapped.
    """
    said = "ok" if outcome is None else outcome.strip().lower()
    if attempt is not None and ended_well(said):
        number = attempt.strip()
        if number.isdecimal() and len(number) < 10 and int(number) > 1:
            return "retried"
    return said


def ended_well(outcome: str) -> bool:
    """Whether an outcome says that a request was answered: a word for it, or a 2xx status."""
    return outcome in WELL or (len(outcome) == 3 and outcome[0] == "2" and outcome.isdecimal())


def _title(source: Source) -> str:
    return source.column or source.template or source.value or ""


def read_drafts(
    path: Path, mapping: Mapping, meters: Lookup[str, Meter], batch_rows: int = BATCH_ROWS
) -> Iterator[DraftBatch]:
    """The file's drafts, batch by batch in bounded memory: at most `DRAFTS_MAX` in each.

    Ids are empty if none are mapped.
    """
    converter = Converter(mapping, meters)
    batch_rows = max(min(batch_rows, DRAFTS_MAX // len(mapping.meters)), 1)
    for rows in read_rows(path, mapping, batch_rows):
        if rows.numbers or rows.bad:
            yield converter.convert(rows)
