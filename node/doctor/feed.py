"""The feed's tables: whether each row is readable and each event is found by what it concerns.

Nothing is lost with them but the telling: where a row is damaged the feed begins anew.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.node.doctor.findings import Damaged, Findings
from tallystick.node.doctor.tables import name_row, value_of
from tallystick.node.feed.rows import FEED_TABLES, STATE
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import (
    DeliveryRow,
    FeedRow,
    FeedState,
    FollowedRow,
    LaneRow,
    cursor_of,
)

DELIVERIES = "deliveries"

_KINDS: dict[str, Any] = {
    "feed": (8, FeedRow),
    "concerning": (40, None),
    "followed": (32, FollowedRow),
    "told": (None, None),
    "silent": (None, None),
    "lanes": (40, LaneRow),
    DELIVERIES: (9, DeliveryRow),
}


def check_feed(txn: Txn, findings: Findings) -> None:
    """Every row of the feed's tables, and that events and what they concern fit each other."""
    faults: list[str] = []
    events: dict[bytes, FeedRow] = {}
    concerning: set[bytes] = set()
    for table in (*FEED_TABLES, DELIVERIES):
        size, kind = _KINDS[table]
        for key, stored in txn.stored(table):
            value = value_of(table, key, stored)
            if value is None:
                continue  # its sum is wrong, and that was said
            try:
                if size is not None and len(key) != size:
                    raise ValueError("its key has another length")
                row: Any = None if kind is None else msgspec.msgpack.decode(value, type=kind)
            except (ValueError, RecursionError) as error:
                faults.append(f"{name_row(table, key)}: {error}")
                findings.damaged.append(Damaged(table, key, stored, str(error)))
                continue
            if table == "feed":
                events[key] = row
            elif table == "concerning":
                concerning.add(key)
    wanted = {channel + key for key, row in events.items() for channel in (row.channel, *row.also)}
    lost = {key[-8:] for key in wanted - concerning}
    for key in sorted(lost):
        faults.append(f"event {cursor_of(key)} is not found by what it concerns")
        findings.damaged.append(Damaged("feed", key, txn.raw("feed", key), faults[-1]))
    for key in sorted(key for key in concerning if key not in wanted or key[-8:] in lost):
        faults.append(f"{name_row('concerning', key)} belongs to no event")
        stored = txn.raw("concerning", key)
        findings.damaged.append(Damaged("concerning", key, stored, faults[-1]))
    faults += _state_faults(txn, events, findings)
    findings.say("feed", faults, f"{len(events)} events are readable and in order")


def _state_faults(txn: Txn, events: dict[bytes, FeedRow], findings: Findings) -> list[str]:
    stored = txn.raw("meta", STATE)
    value = value_of("meta", STATE, stored) if stored else None
    if value is None:
        return []  # the feed begins anew at the next start
    try:
        state = msgspec.msgpack.decode(value, type=FeedState)
    except (ValueError, RecursionError) as error:
        findings.damaged.append(Damaged("meta", STATE, stored, str(error)))
        return [f"how far the feed is cannot be read: {error}"]
    said = []
    missing = sum(cursor >= state.first for cursor in map(cursor_of, events))
    if missing != state.count:
        said.append(f"the feed counts {state.count} events, {missing} are there")
    if events and cursor_of(max(events)) >= state.next:
        said.append("there are events that the feed does not count")
    if said:
        findings.damaged.append(Damaged("meta", STATE, stored, said[0]))
    return said
