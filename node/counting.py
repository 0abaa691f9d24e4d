"""Counting a file of one's own for one period: the total of each meter that its mapping names.

The file is read as `compare` and `import` read it. Rows that cannot be read are left out and
counted. A meter's total is what a statement's lines would add up to: for `max` the highest of each
subject, added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tallystick.node.importing.drafts import read_drafts
from tallystick.node.importing.mapping import load_mapping
from tallystick.protocol.derive import Book, Folder
from tallystick.protocol.records import Delta, Terms
from tallystick.protocol.terms import meter_named


@dataclass(frozen=True, slots=True)
class Count:
    """A file's totals in each meter's scale, how many events are in them, and what is not."""

    totals: Mapping[str, int]
    events: int
    elsewhere: int  # events of other periods
    rejected: int
    first_reject: str


def count_file(terms: Terms, file: Path, mapping_file: Path, label: str) -> Count:
    """Count the events of a period in a file; `InputError` if it or its mapping cannot be read."""
    mapping = load_mapping(mapping_file)
    meters = {row.meter: meter_named(terms, row.meter) for row in mapping.meters}
    folder = Folder(terms)
    period = folder.calendar.parse(label)
    book = Book(folder, lambda _: None)
    events = elsewhere = rejected = 0
    first_reject = ""
    for batch in read_drafts(file, mapping, meters):
        rejected += len(batch.rejects)
        if batch.rejects and not first_reject:
            reject = batch.rejects[0]
            first_reject = f"row {reject.row}, {reject.column}: {reject.reason}"
        deltas = [
            Delta(d.id, d.meter, d.subject, d.quantity, d.occurred_at, 0, None)
            for d in batch.drafts
            if period.start_us <= d.occurred_at < period.end_us
        ]
        events += len(deltas)
        elsewhere += len(batch.drafts) - len(deltas)
        book.apply(folder.fold(deltas))
    totals = dict.fromkeys(meters, 0)
    for key, tally in book.dirty.items():
        totals[key.meter] += tally.total
    return Count(totals, events, elsewhere, rejected, first_reject)
