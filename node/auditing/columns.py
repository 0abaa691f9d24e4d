"""Whether a segment's columns for people's engines say what its records say.

Nearly all row groups hold deltas only. For those the columns are made from the records that the
audit has decoded already, a column at a time; any other group is compared by `Segment` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from tallystick.node.segments import GROUP
from tallystick.node.segments.files import SCHEMA, Segment
from tallystick.protocol.errors import TallyError
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import Delta, Record, Terms, encode_record


def check_columns(segment: Segment, terms: Terms, place: int, records: Sequence[Record]) -> str:
    """What is wrong with the columns of the row group that begins at a place of a segment and has
    these records; empty if nothing is.
    """
    number = place // GROUP
    try:
        if {*map(type, records)} != {Delta}:
            segment.check_columns(terms, number, [encode_record(record) for record in records])
            return ""
        said = segment.columns(number)
    except TallyError as error:
        return error.message
    first = segment.header.first + place
    for name, wanted in _made(terms, first, records).items():
        if not said[name].equals(pyarrow.chunked_array([wanted])):
            return f"{segment.name}: its column {name} is not what its records say"
    return ""


def _made(terms: Terms, first: int, deltas: Sequence[Any]) -> dict[str, Any]:
    """The columns of deltas, without that of their bytes."""
    count = len(deltas)
    times = np.fromiter([delta.occurred_at for delta in deltas], np.int64, count)
    meters = pyarrow.array([delta.meter for delta in deltas], pyarrow.string())
    names = meters.dictionary_encode()
    scales = {meter.name: meter.scale for meter in terms.meters}
    of_names = pyarrow.array([scales.get(name) for name in names.dictionary.to_pylist()], "int8")
    recorded = np.fromiter([delta.recorded_at for delta in deltas], np.int64, count)
    made = {
        "index": pyarrow.array(np.arange(first, first + count)),
        "kind": pyarrow.repeat("delta", count),
        "meter": meters,
        "id": pyarrow.array([delta.id for delta in deltas], pyarrow.string()),
        "subject": pyarrow.array([delta.subject for delta in deltas], pyarrow.string()),
        "quantity": pyarrow.array([delta.quantity for delta in deltas], pyarrow.int64()),
        "scale": of_names.take(names.indices),
        "occurred_at": pyarrow.array(times, SCHEMA.field("occurred_at").type),
        "recorded_at": pyarrow.array(recorded, SCHEMA.field("recorded_at").type),
        "period": _periods(Calendar(terms.calendar, terms.time_zone), times),
    }
    assert {*made, "record"} == {*SCHEMA.names}
    return made


def _periods(calendar: Calendar, times: np.ndarray[Any, Any]) -> Any:
    """The labels of the periods that instants are in; few of many are of another."""
    labels: list[str] = []
    places = np.empty(len(times), np.int32)
    left = np.arange(len(times))
    while len(left):
        period = calendar.period_of(int(times[left[0]]))
        inside = (times[left] >= period.start_us) & (times[left] < period.end_us)
        places[left[inside]] = len(labels)
        labels.append(period.label)
        left = left[~inside]
    return pyarrow.array(labels, pyarrow.string()).take(pyarrow.array(places))
