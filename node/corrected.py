"""The corrections of a log, all at once."""

from __future__ import annotations

from tallystick.node.logs import ChannelLog
from tallystick.node.store.keyspace import log_key
from tallystick.protocol.records import Correction


def corrected(log: ChannelLog, before: int | None = None) -> dict[tuple[str, str], int | None]:
    """The effective quantity of every delta that was corrected (None: voided), by its meter and id;
    by the corrections before an index of the log, if that is given.
    """
    with log.store.read() as txn:
        scan = txn.scan("corrections", log_key(log.number), log_key(log.number + 1))
        indexes = sorted(int.from_bytes(key[-8:], "big") for key, _ in scan)
    found: dict[tuple[str, str], int | None] = {}
    for index in indexes:
        if before is None or index < before:
            record = log.record(index)
            assert isinstance(record, Correction)
            found[record.meter, record.id] = record.quantity
    return found
