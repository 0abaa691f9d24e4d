"""Events: their kinds, what names one, and how people and programs read it.

An event is named by what it says. So one that is found again, after a restore for instance, has the
name that it had before, and whoever receives events can drop those that it knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from tallystick.node.store.keyspace import FeedRow
from tallystick.protocol.errors import InputError

NO_CHANNEL = bytes(32)

Data = Mapping[str, Any]

# Every kind, and what it says of its data; docs/events.md describes the fields.
KINDS: dict[str, Callable[[Data], str]] = {
    "channel.offered": lambda d: "terms are offered and wait for your tally accept",
    "channel.opened": lambda d: "the channel is open",
    "channel.halted": lambda d: f"the channel is halted: {d['reason']}",
    "recovery.begun": lambda d: "what this node signed last is not certain; it asks the peer",
    "rollback.shown": lambda d: (
        f"gossip shows {d['shown']} records of {d['log']}'s log, {d['here']} are here:"
        " this home is older than it was"
    ),
    "copy.found": lambda d: f"another copy of this home runs, it spoke at {d['seen']}: stopped",
    "recovery.done": lambda d: (
        f"certain again: {d['own_size']} records of ours, {d['peer_size']} of theirs are here"
    ),
    "peer.silent": lambda d: f"no connection since {d['since']}",
    "peer.back": lambda d: f"connected again; it was silent since {d['since']}",
    "delta.cosigned": lambda d: (
        f"records {d['from']} to {d['to'] - 1} of {_whose(d)} log are co-signed"
        if d["to"] - d["from"] > 1
        else f"record {d['from']} of {_whose(d)} log is co-signed"
    ),
    "delta.unplaced": lambda d: f"a record of ours could not be recorded again: {d['reason']}",
    "declaration.made": lambda d: f"{d['by']} committed to its totals of {d['period']}",
    "declaration.revealed": lambda d: f"{d['by']} revealed its totals of {d['period']}",
    "checkpoint.proposed": lambda d: f"{d['by']} proposes to close {d['period']}",
    "checkpoint.refused": lambda d: f"{d['by']} did not sign {d['period']}: {d['reason']}",
    "checkpoint.signed": lambda d: f"{d['period']} is closed, signed by both",
    "checkpoint.timestamped": lambda d: (
        f"{d['period']} existed at {d['time']}, says {d['authority']}"
    ),
    "checkpoint.due": lambda d: (
        f"{d['period']} is accepted unless {d['waits_for']} disputes it by {d['until']}"
    ),
    "checkpoint.accepted": lambda d: f"{d['period']} was not disputed in time: it is accepted",
    "discrepancy.found": lambda d: f"{d['period']}: {d['said']}",
    "dispute.opened": lambda d: f"{_about(d)}: {d['by']} disputes {d['amount']} {d['unit']}",
    "dispute.answered": lambda d: f"{_about(d)}: {d['against']} concedes {d['conceded']}",
    "dispute.insisted": lambda d: f"{_about(d)}: {d['by']} insists",
    "dispute.offered": lambda d: f"{_about(d)}: {d['offered_by']} would settle for {d['offered']}",
    "dispute.resolved": lambda d: (
        f"{_about(d)}: {d['state']}; {d['upheld']} of {d['amount']} upheld"
    ),
    "dispute.withdrawn": lambda d: f"{_about(d)}: {d['by']} withdrew it",
    "dispute.due": lambda d: (
        f"{_about(d)}: {d['then']} unless {d['waits_for']} says more by {d['until']}"
    ),
    "dispute.lapsed": lambda d: f"{_about(d)}: {d['state']}; {d['upheld']} of {d['amount']} upheld",
    "standby.alone": lambda d: (
        f"the standby did not follow for {d['after_seconds']:g} s: this node goes on alone"
    ),
    "standby.back": lambda d: "the standby is in step again",
    "witness.breach": lambda d: f"witness {d['witness']} on {d['log']}'s log: {d['said']}",
    "evidence.found": lambda d: f"evidence {d['digest'][:16]} against {d['accused']}",
}


def _whose(data: Data) -> str:
    return "our" if data["ours"] else "their"


def _about(data: Data) -> str:
    name = f"{data['period']}/{data['meter']}/{data['subject']}"
    return f"dispute {data['dispute'][:8]} of {name}"


def iso(at_us: int) -> str:
    """A time as ISO 8601 in UTC; as its microseconds if no calendar has it."""
    try:
        instant = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_us} us"
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000:06d}Z"


def iso_s(at_s: int) -> str:
    """The same of whole POSIX seconds."""
    return iso(at_s * 1_000_000).replace(".000000Z", "Z")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `channel` is empty if it was in none."""

    cursor: int
    id: str
    at_us: int
    kind: str
    channel: bytes
    peer: str
    data: dict[str, Any]

    @property
    def said(self) -> str:
        """The event in words."""
        return KINDS[self.kind](self.data) if self.kind in KINDS else self.kind

    def document(self) -> dict[str, Any]:
        """The event as programs read it."""
        return {
            "cursor": self.cursor,
            "id": self.id,
            "kind": self.kind,
            "at": iso(self.at_us),
            "channel": self.channel.hex() or None,
            "peer": self.peer or None,
            "said": self.said,
            "data": self.data,
        }


def event_of(cursor: int, row: FeedRow) -> Event:
    """The event of a row."""
    channel = b"" if row.channel == NO_CHANNEL else row.channel
    name = name_of(row.id)
    return Event(cursor, name, row.at_us, row.kind, channel, row.peer, row.data)


def name_of(id: bytes) -> str:
    """What an event is called outside."""
    return f"evt_{id.hex()}"


def make_row(
    kind: str, channel: bytes, peer: str, data: dict[str, Any], at_us: int, *, once: bool
) -> FeedRow:
    """An event's row. With `once` nothing else can ever say the same; what can be said again, a
    peer's silence for instance, is named by its time as well.
    """
    assert kind in KINDS
    named = [kind, channel or NO_CHANNEL, data, 0 if once else at_us]
    digest = hashlib.sha256(msgspec.msgpack.encode(named, order="sorted")).digest()
    return FeedRow(digest[:16], at_us, kind, channel or NO_CHANNEL, peer, data)


def check_kinds(names: Iterable[str], also: Sequence[str] = ()) -> frozenset[str]:
    """The kinds of these names: one that ends in `.*` stands for a family of ours, those of `also`
    count only if they are named.
    """
    found: set[str] = set()
    for name in names:
        fits = [name] if name in KINDS or name in also else []
        if name.endswith(".*"):
            fits = [kind for kind in KINDS if kind.startswith(name[:-1])]
        if not fits:
            known = ", ".join((*KINDS, *also))
            raise InputError(f"there is no kind of event {name[:80]!r}", f"Known: {known}")
        found.update(fits)
    return frozenset(found)
