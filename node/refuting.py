"""Answering an accusation from our own records: what we signed is in one history.

The accusation is a file of evidence, or a bare signed head that somebody says is not in our log.
Either the answer is a refutation that convinces anybody, or the accusation is true and we say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tallystick.node.accusing import accused, rotations, stored_note
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.tree import LogTree
from tallystick.protocol.accusation import (
    NotedHead,
    Part,
    verify_author_line,
    verify_cosigner_line,
)
from tallystick.protocol.errors import FormatError, InputError, ProofError
from tallystick.protocol.evidence import TITLE as EVIDENCE_TITLE
from tallystick.protocol.evidence import parse_evidence
from tallystick.protocol.keys import origin
from tallystick.protocol.records import Epoch
from tallystick.protocol.refutation import build_loss, build_refutation, verify_refutation


@dataclass(frozen=True, slots=True)
class _Case:
    """The heads that we are accused with, in which log, and as what."""

    channel: Channel
    part: Part
    heads: tuple[NotedHead, ...]

    @property
    def log(self) -> ChannelLog:
        """The log that the heads are of."""
        return self.channel.own if self.part == "author" else self.channel.peer


def refute(books: Books, data: bytes) -> bytes:
    """The refutation of an accusation of us; `ProofError` if the accusation is true.

    `InputError` if the file accuses somebody else, or nobody.
    """
    case = _read(books, data)
    log = case.log
    with log.store.read() as txn:
        tree = LogTree(txn, log.number, log.channel_id, log.durable_size)
        kept = [noted for noted in case.heads if _holds(log, txn, noted)]
        lost = [noted for noted in case.heads if noted not in kept]
        if not log.cosigned_size:
            raise InputError("no head of this log is signed by both parties yet")
        agreed = NotedHead.parse(stored_note(case.channel, log, log.cosigned_size, txn))
        logs = (case.channel.provider_log, case.channel.consumer_log)
        keys = tuple(part for one in logs for part in rotations(one))
        who = replace(accused(case.channel, log, case.part), rotations=keys)
        if not lost:
            return _sure(build_refutation(who, kept, agreed, tree.subtree))
        for index in _epochs(log, lost):
            loss = build_loss(lost, index, tree.leaf_data(index), agreed, tree.subtree)
            made = build_refutation(who, kept, agreed, tree.subtree, loss)
            if all(check.ok for check in verify_refutation(made)):
                return made
    raise ProofError(_true(case, lost[0]), "Was this home restored from a backup? Keep all copies")


def _read(books: Books, data: bytes) -> _Case:
    """The accusation in a file, if it is one of us; else `InputError`."""
    case = _of_evidence(books, data) if data.startswith(EVIDENCE_TITLE.encode()) else None
    case = case or _of_note(books, data)
    log = case.log
    for noted in case.heads:
        try:
            if case.part == "author":
                verify_author_line(noted.note, log.keyring, log.role)
            else:
                own = case.channel.own
                verify_cosigner_line(noted.note, own.keyring, own.role)
        except ProofError as error:
            raise InputError(
                f"the head of {noted.head.size} records accuses nobody: {error.message}",
                "There is nothing to refute: what we did not sign does not bind us",
            ) from None
    return case


def _of_evidence(books: Books, data: bytes) -> _Case:
    evidence = parse_evidence(data)
    who = evidence.accused
    if who.party != books.identity.name:
        raise InputError(f"this accuses {who.party}, not {books.identity.name}")
    found = books.channels.get(who.channel_id)
    if found is None:
        raise InputError(f"this is about channel {who.channel_id.hex()}, which is not one of ours")
    return _Case(found[0], who.part, evidence.heads)


def _of_note(books: Books, data: bytes) -> _Case:
    try:
        noted = NotedHead.parse(data)
    except FormatError as error:
        raise InputError(
            f"this is neither evidence nor a signed head: {error.message}",
            "Give a file of evidence, or the note of a head with its signature lines",
        ) from None
    for key, (channel, _) in books.channels.items():
        if noted.head.origin == origin(channel.own.party.name, key):
            return _Case(channel, "author", (noted,))
        if noted.head.origin == origin(channel.peer.party.name, key):
            return _Case(channel, "co-signer", (noted,))
    raise InputError(f"this is a head of {noted.head.origin}, which is not a log of ours")


def _holds(log: ChannelLog, txn: Txn, noted: NotedHead) -> bool:
    """Whether a head is in a log's history here."""
    head = noted.head
    if head.size > log.durable_size:
        return False
    return LogTree(txn, log.number, log.channel_id, head.size).root() == head.root


def _epochs(log: ChannelLog, lost: Sequence[NotedHead]) -> Iterator[int]:
    """The indexes of the epochs that may have given up these heads."""
    if not log.state.facts.epoch:
        return
    stop = min(noted.head.size for noted in lost)
    for first, records in log.records(0, min(stop, log.cosigned_size)):
        for index, record in enumerate(records, first):
            if isinstance(record, Epoch):
                yield index


def _true(case: _Case, noted: NotedHead) -> str:
    signed = "signed" if case.part == "author" else "co-signed"
    return (
        f"the accusation is true: we {signed} a head of {noted}, and the log of"
        f" {case.log.party.name} here, of {case.log.durable_size} records, does not have it"
    )


def _sure(made: bytes) -> bytes:
    """The refutation, if every check of it holds; `ProofError` names the one that does not."""
    for check in verify_refutation(made):
        if not check.ok:
            raise ProofError(f"the refutation does not hold: {check.name}: {check.detail}")
    return made
