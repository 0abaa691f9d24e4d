"""The corrections of a log, all at once."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.node.logs import ChannelLog
from tallystick.node.store.keyspace import log_key
from tallystick.protocol.records import Correction


def corrections(log: ChannelLog, before: int | None = None) -> Iterator[tuple[int, Correction]]:
    """Every correction of a log with its index, in order; those before an index, if it is given."""
    with log.store.read() as txn:
        scan = txn.scan("corrections", log_key(log.number), log_key(log.number + 1))
        indexes = sorted(int.from_bytes(key[-8:], "big") for key, _ in scan)
    for index in indexes:
        if before is not None and index >= before:
            return
        record = log.record(index)
        assert isinstance(record, Correction)
        yield index, record


def corrected(log: ChannelLog, before: int | None = None) -> dict[tuple[str, str], int | None]:
    """The effective quantity of every delta that was corrected (None: voided), by its meter and id;
    by the corrections before an index of the log, if that is given.
    """
    return {(record.meter, record.id): record.quantity for _, record in corrections(log, before)}
