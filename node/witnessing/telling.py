"""What people and programs are told of witnesses: those that are asked, and the one served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tallystick.node.books import Books
from tallystick.node.feed.events import iso, iso_s
from tallystick.node.store.keyspace import AskedRow
from tallystick.node.telemetry.metrics import BY_NAME
from tallystick.node.telemetry.monitor import Monitor
from tallystick.node.witnessing.asked import Asked, asked_witnesses
from tallystick.node.witnessing.lines import read_asked
from tallystick.node.witnessing.serving import WitnessDoor
from tallystick.node.witnessing.submitting import Submitter

Methods = Mapping[str, Callable[..., Awaitable[object]]]
Values = Mapping[tuple[str, ...], float]


def watch_witnesses(monitor: Monitor, submitter: Submitter, door: WitnessDoor) -> Methods:
    """Have the metrics of witnesses read at each scrape; what the command line may ask."""
    contacts = submitter.contacts
    books = monitor.node.books

    def breaches() -> Values:
        rows = [row for one in contacts for row in _rows(books, one.asked).values()]
        return {(): sum(bool(row.breach) for row in rows)}

    def answers() -> Values:
        return {
            (one.asked.name, answer): count
            for one in contacts
            for answer, count in list(one.standing.counts.items())
        }

    reads: dict[str, Callable[[], Values]] = {
        "witness_up": lambda: {(c.asked.name,): not c.standing.failing for c in contacts},
        "witness_waiting": lambda: {(c.asked.name,): c.waiting for c in contacts},
        "witness_refusing": lambda: {(c.asked.name,): len(c.standing.refused) for c in contacts},
        "witness_answers_total": answers,
        "witness_breaches": breaches,
        "witnessed_logs": lambda: {(): door.ledger.origins if door.ledger else 0},
        "witnessing_answers_total": lambda: {
            (str(status),): count for status, count in list(door.answers.items())
        },
    }
    for name, read in reads.items():
        monitor.watch(BY_NAME[name], read)

    async def witness() -> dict[str, Any]:
        served = None
        if door.ledger is not None:
            served = {
                "address": door.address,
                "vkey": str(door.ledger.vkey),
                "logs": door.ledger.origins,
                "doubtful": door.ledger.doubtful,
                "answers": {str(status): count for status, count in door.answers.items()},
            }
        return {
            "serves": served,
            "witnesses": {
                one.asked.url: {
                    "failing": one.standing.failing,
                    "waiting": one.waiting,
                    "answered": iso(int(one.standing.answered_s * 1e6)),
                    "refused": {
                        f"{which.channel.hex()} {'ours' if which.ours else 'theirs'}": said
                        for which, said in one.standing.refused.items()
                    },
                    "answers": dict(one.standing.counts),
                }
                for one in contacts
            },
        }

    async def witness_settle() -> bool:
        if door.ledger is None or not door.ledger.doubtful:
            return False
        await door.ledger.settle()
        return True

    return {"witness": witness, "witness_settle": witness_settle}


def _rows(books: Books, asked: Asked) -> dict[tuple[bytes, bool], AskedRow]:
    """How far a witness is with each log that it was shown."""
    found = {}
    with books.store.read() as txn:
        for key, (channel, _) in list(books.channels.items()):
            for log in (channel.own, channel.peer):
                row = read_asked(txn, log.number, asked.vkeys[0])
                if row != AskedRow(0, 0):
                    found[key, log is channel.own] = row
    return found


def describe(books: Books, live: dict[str, Any] | None) -> dict[str, Any]:
    """The witnesses that are asked, how far each is with each log, and what we are a witness of;
    `live` is what the running node says.
    """
    policy, asked = asked_witnesses(books.config.witnessing)
    documents = []
    for one in asked:
        now = live["witnesses"].get(one.url) if live else None
        logs = []
        rows = _rows(books, one)
        for key, (channel, _) in books.channels.items():
            for log in (channel.own, channel.peer):
                ours = log is channel.own
                row = rows.get((key, ours), AskedRow(0, 0))
                refused = now["refused"] if now else {}
                said = refused.get(f"{key.hex()} {'ours' if ours else 'theirs'}", "")
                if not ours and not row.size and not said:
                    continue
                logs.append(
                    {
                        "channel": key.hex(),
                        "party": log.party.name,
                        "size": row.size,
                        "of": log.cosigned_size,
                        "at": iso_s(row.at_s) if row.at_s else None,
                        "refused": said,
                        "breach": row.breach,
                        "breach_at": iso(row.breach_us) if row.breach else None,
                        "evidence": row.evidence.decode() if row.evidence else None,
                    }
                )
        documents.append(
            {
                "name": one.name,
                "url": one.url,
                "vkeys": [str(vkey) for vkey in one.vkeys],
                "failing": now["failing"] if now else "",
                "waiting": now["waiting"] if now else None,
                "logs": logs,
            }
        )
    return {
        "require": books.config.witnessing.require,
        "of": len(policy.witnesses),
        "running": live is not None,
        "witnesses": documents,
        "serves": live["serves"] if live else None,
    }
