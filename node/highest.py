"""The highest quantities of lines, found anew in a log's records: what a correction lowered is not
in any balance.

It goes through the whole log, so it decodes only the batches in which a line's subject stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tallystick.node.store.source import batches
from tallystick.protocol.derive import LineKey
from tallystick.protocol.records import Delta, decode_batch

if TYPE_CHECKING:
    from tallystick.node.logs import ChannelLog

SUBJECTS_MAX = 8  # with more of them, looking for each costs as much as decoding all


def highest_of(
    log: ChannelLog, keys: Iterable[LineKey], size: int
) -> dict[LineKey, tuple[int, int]]:
    """The highest quantity and the count at a size of the log of those of the lines that are `max`:
    one pass for all.
    """
    aggregates = log.folder.aggregates
    found = {key: (0, 0) for key in keys if aggregates[key.meter] == "max"}
    if not found:
        return found
    wanted = {(key.meter, key.subject) for key in found}
    subjects = {subject.encode() for _, subject in wanted}
    with log.store.read() as txn:
        for first, batch in batches(txn, log.number, 0):
            if first >= size:
                break
            if len(subjects) <= SUBJECTS_MAX and not any(one in batch for one in subjects):
                continue
            for record in decode_batch(batch)[0][: size - first]:
                if type(record) is not Delta or (record.meter, record.subject) not in wanted:
                    continue
                key = log.folder.key_of(record)
                quantity = log.quantity_at(txn, record, size) if key in found else None
                if quantity is not None:
                    highest, deltas = found[key]
                    found[key] = max(highest, quantity) if deltas else quantity, deltas + 1
    return found
