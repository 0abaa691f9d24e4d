"""After the kills: whether both stores hold exactly what was acknowledged, and one history of it.

Reads the records themselves, chains and trees them again, and holds them against the emitters'
ledgers and against every head that was ever seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import msgspec
from nodes import Party

from killing.ledger import Findings, Ledger
from killing.observer import Observer
from tallystick.node.importing.drafts import Draft
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import CheckpointRow, index_key, log_key
from tallystick.protocol.errors import ProofError
from tallystick.protocol.heads import Head, verify_head_cosignature, verify_head_signature
from tallystick.protocol.keys import origin
from tallystick.protocol.merkle import Frontier, chain_leaves
from tallystick.protocol.records import (
    Answer,
    Close,
    Correction,
    Declaration,
    Delta,
    Dispute,
    PartyKeys,
    Record,
    Resolution,
    Reveal,
    Terms,
    Withdrawal,
    decode_batch,
    record_digest,
)
from tallystick.protocol.terms import channel_id

_checkpoint = msgspec.msgpack.Decoder(CheckpointRow).decode


class Copy:
    """A store's copy of one log: its records and their bytes."""

    def __init__(self, txn: Txn, number: int) -> None:
        self.records: list[Record] = []
        self.parts: list[bytes] = []
        for _, batch in txn.scan("batches", index_key(number, 0), log_key(number + 1)):
            records, parts = decode_batch(batch)
            self.records += records
            self.parts += parts


def audit(parties: Sequence[Party], ledgers: Mapping[str, Ledger], observer: Observer) -> int:
    """Check everything in both stores; how many acknowledged deltas were looked for in each."""
    findings = next(iter(ledgers.values())).findings
    copies: dict[tuple[str, str], Copy] = {}
    for party in parties:
        observer.look(party, whole=True)
        peer = next(other.name for other in parties if other is not party)
        store = Store(party.home / "store", read_only=True)
        try:
            with store.read() as txn:
                copies[party.name, party.name] = Copy(txn, 0)
                copies[party.name, peer] = Copy(txn, 1)
                rows = [_checkpoint(v) for _, v in txn.scan("checkpoints", log_key(0), log_key(1))]
        finally:
            store.close()
        logs = [copies[party.name, name].records for name in ledgers]
        _audit_closed(rows, ledgers, party.name, logs)
        observer.derive(party)
    for author, ledger in ledgers.items():
        peer = next(name for name in ledgers if name != author)
        if copies[author, author].parts != copies[peer, author].parts:
            findings.add(f"{author}'s log and {peer}'s copy of it differ")
        for holder in (author, peer):
            _audit_deltas(ledger, holder, copies[holder, author].records)
            _audit_matters(ledger, holder, copies[holder, author].records)
        _audit_heads(observer, findings, author, peer, copies[author, author])
    _audit_derived(observer.derived, logs, findings)
    return sum(len(ledger.acknowledged) for ledger in ledgers.values())


def _audit_deltas(ledger: Ledger, holder: str, records: Sequence[Record]) -> None:
    """Every acknowledged delta once, at its index, as it was sent; nothing that was not sent."""
    log, add = f"{ledger.party}'s log at {holder}", ledger.findings.add
    counts = Counter((r.meter, r.id) for r in records if isinstance(r, Delta))
    for name, count in counts.items():
        if count > 1:
            add(f"{log}: {'/'.join(name)} is there {count} times")
        if name not in ledger.sent:
            add(f"{log}: {'/'.join(name)} is there, and was never sent")
    for name, entry in ledger.sent.items():
        found = records[entry.index] if 0 <= entry.index < len(records) else None
        if entry.index < 0:
            add(f"{log}: {'/'.join(name)} is still in doubt")
        elif not isinstance(found, Delta) or entry.draft != Draft(
            found.id, found.meter, found.subject, found.quantity, found.occurred_at
        ):
            add(f"{log}: {'/'.join(name)} is not record {entry.index}, as was acknowledged")
    _audit_corrections(ledger, log, records)


def _audit_corrections(ledger: Ledger, log: str, records: Sequence[Record]) -> None:
    """An acknowledged correction is at its index; one in doubt is there once or not at all."""
    places: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if not isinstance(record, Correction):
            continue
        places.setdefault(record.reason, []).append(index)
        sent = ledger.corrections.get(record.reason)
        if sent is None or (record.meter, record.id, record.quantity) != (
            sent.draft.meter,
            sent.draft.id,
            sent.quantity,
        ):
            ledger.findings.add(f"{log}: correction {index} was never sent so")
    for reason, sent in ledger.corrections.items():
        found = places.get(reason, [])
        if found != [sent.index] and (sent.index >= 0 or len(found) > 1):
            ledger.findings.add(f"{log}: {reason} is at {found}, not at {sent.index}")


def _audit_matters(ledger: Ledger, holder: str, records: Sequence[Record]) -> None:
    """What was said of disputes is there once, at its index, and nothing that was never said;
    so are declarations, and what they committed to was revealed if the other party declared.
    """
    log, add = f"{ledger.party}'s log at {holder}", ledger.findings.add
    places: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if isinstance(record, Dispute | Answer | Resolution | Withdrawal):
            places.setdefault(record.reason, []).append(index)
            sent = ledger.matters.get(record.reason)
            said = msgspec.structs.replace(record, recorded_at=0)
            if sent is None or said != sent.record:
                add(f"{log}: record {index} was never said so: {record}")
    for reason, sent in ledger.matters.items():
        found = places.get(reason, [])
        if found != [sent.index] and not (sent.refused and len(found) <= 1):
            add(f"{log}: {reason} is at {found}, not at {sent.index}")
    made = {record.period: i for i, record in enumerate(records) if isinstance(record, Declaration)}
    opened = {r.declaration: r for r in records if isinstance(r, Reveal)}
    for one in ledger.declarations:
        index = made.get(one.label, -1)
        if index != one.index and not one.refused:
            add(f"{log}: the declaration of {one.label} is at {index}, not at {one.index}")
        reveal = opened.get(record_digest(records[index])) if index >= 0 else None
        if reveal and {row.meter: row.total for row in reveal.totals} != one.totals:
            add(f"{log}: other totals of {one.label} were revealed than declared")
    if len(made) != sum(isinstance(r, Declaration) for r in records):
        add(f"{log}: something was declared twice")


def _audit_closed(
    rows: Sequence[CheckpointRow],
    ledgers: Mapping[str, Ledger],
    holder: str,
    logs: Sequence[Sequence[Record]],
) -> None:
    """Every checkpoint that anybody was told of is there, as told, and both logs say so."""
    held = {row.period: row.digest.hex() for row in rows}
    for ledger in ledgers.values():
        for period, digest in ledger.closed.items():
            if held.get(period) != digest:
                ledger.findings.add(f"{holder}: {period} is not closed as {ledger.party} was told")
    for records, ledger in zip(logs, ledgers.values(), strict=True):
        said = [record.checkpoint for record in records if isinstance(record, Close)]
        if said != [row.note for row in rows]:
            ledger.findings.add(f"{holder}: {ledger.party}'s log does not say what was closed")


def _audit_derived(
    documents: Sequence[dict[str, Any]], logs: Sequence[Sequence[Record]], findings: Findings
) -> None:
    """What was derived at any time adds up to what the records up to those heads say."""
    for role, at, records in zip(("provider", "consumer"), (0, 1), logs, strict=True):
        totals = _totals(records, {document["heads"][at]["size"] for document in documents})
        for document in documents:
            derived: Counter[tuple[str, str]] = Counter()
            for line in document["lines"]:
                derived[line["meter"], line["subject"]] += int(line[role])
            size = document["heads"][at]["size"]
            if +derived != totals.get(size):
                findings.add(f"the {role}'s lines at size {size} do not add up to its records")


def _totals(
    records: Sequence[Record], sizes: Collection[int]
) -> dict[int, Counter[tuple[str, str]]]:
    """The sum (`calls`: the count) of each meter and subject, as corrected, at each size."""
    found: dict[int, Counter[tuple[str, str]]] = {}
    totals: Counter[tuple[str, str]] = Counter()
    held: dict[tuple[str, str], tuple[str, int]] = {}  # by meter and id: subject, what it counts
    for size, record in enumerate(records, 1):
        if isinstance(record, Delta | Correction):
            counts = record.quantity or 0
            if record.meter == "calls":
                counts = record.quantity is not None
            name = (record.meter, record.id)
            subject, before = held.get(name) or (cast(Delta, record).subject, 0)
            totals[record.meter, subject] += counts - before
            held[name] = (subject, counts)
        if size in sizes:
            found[size] = +totals
    return found


def _audit_heads(
    observer: Observer, findings: Findings, author: str, peer: str, copy: Copy
) -> None:
    """Every head ever seen is a prefix of the one history, and its signatures hold."""
    terms = copy.records[0]
    assert isinstance(terms, Terms)
    channel = channel_id(terms)
    keys: dict[str, PartyKeys] = {keys.name: keys for keys in (terms.provider, terms.consumer)}
    frontier = Frontier.empty()
    leaves = chain_leaves(channel, copy.parts)
    for size in sorted(observer.seen[author]):
        seen = observer.seen[author][size]
        if size > len(leaves):
            findings.add(f"{author}'s head {size} was seen, and its log ends at {len(leaves)}")
            continue
        frontier = frontier.extend(leaves[frontier.size : size])
        if seen.roots != {frontier.root()}:
            findings.add(f"{author}'s head {size} that was seen is not in its history")
        head = Head(origin(author, channel), size, frontier.root())
        try:
            for signature in seen.signatures:
                verify_head_signature(head, keys[author].log_key, signature)
            for cosignature in seen.cosignatures:
                verify_head_cosignature(head, peer, keys[peer].cosigner_key, cosignature)
        except ProofError as error:
            findings.add(f"{author}'s log: {error}")
