"""Two histories of one log in memory, and the files that accuse or acquit whoever signed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import builders

from tallystick.protocol.accusation import Accused, NotedHead, Part
from tallystick.protocol.evidence import build_evidence
from tallystick.protocol.heads import Head, cosign_head, head_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, Identity, Vkey, origin
from tallystick.protocol.merkle import Subtree, chain_leaves, root_of
from tallystick.protocol.notes import Note, Signature, format_note, sign_note
from tallystick.protocol.records import Epoch, Record, Terms, encode_record
from tallystick.protocol.refutation import build_loss, build_refutation
from tallystick.protocol.terms import channel_id


@dataclass(frozen=True)
class History:
    """A log as somebody says that it is: its author, and all its records."""

    terms: Terms
    author: Identity
    records: tuple[Record, ...]

    @property
    def leaves(self) -> list[bytes]:
        """The leaf hashes."""
        parts = [encode_record(record) for record in self.records]
        return chain_leaves(channel_id(self.terms), parts)

    def subtree(self) -> Subtree:
        """The hash of any range of leaves."""
        leaves = self.leaves
        return lambda start, end: root_of(leaves[start:end])

    def head(self, size: int) -> Head:
        """The head of the first records."""
        name = origin(self.author.name, channel_id(self.terms))
        return Head(name, size, root_of(self.leaves[:size]))

    def note(self, size: int, *cosigners: Identity, signed: bool = True) -> bytes:
        """The head's note with the author's line, unless it did not sign, and these lines."""
        return head_note(self.head(size), self.author if signed else None, *cosigners)


def head_note(head: Head, author: Identity | None, *cosigners: Identity) -> bytes:
    """A note of a head with these parties' lines."""
    lines = [] if author is None else [sign_note(head_text(head), head.origin, author.log)]
    for who in cosigners:
        vkey = Vkey(who.name, ED25519_COSIGNATURE, who.cosigner_key)
        blob = cosign_head(head, who.cosigner, builders.COSIGNED_AT_SECONDS)
        lines.append(Signature(vkey.name, vkey.id, blob))
    return format_note(Note(head_text(head), tuple(lines)))


def two_histories(fork: int, sizes: tuple[int, int]) -> tuple[History, History]:
    """Two histories of the provider's log of these sizes that part after `fork` records."""
    terms = builders.make_terms(*map(builders.identity, ("acme.example", "beta.example")))
    made = []
    for name, size in zip("ab", sizes, strict=True):
        log = builders.Channel().provider_log
        for number in range(1, size):
            log.delta(f"{'' if number < fork else name}{number}", "tokens", number)
        made.append(History(terms, log.author, tuple(log.records)))
    return made[0], made[1]


def accused(terms: Terms, party: str, part: Part, rotations: Sequence[Record] = ()) -> Accused:
    """The accused of a file about these terms."""
    parts = tuple(encode_record(record) for record in rotations)
    return Accused(channel_id(terms), party, part, encode_record(terms), parts)


def author_evidence() -> bytes:
    """acme.example signed two histories of its log: one of 5 records, one of 7."""
    a, b = two_histories(3, (5, 7))
    beta = builders.identity("beta.example")
    who = accused(a.terms, "acme.example", "author")
    return build_evidence(who, a.note(5), b.note(7, beta), b.subtree())


def cosigner_evidence() -> bytes:
    """beta.example co-signed two histories of acme.example's log, both of 6 records."""
    a, b = two_histories(2, (6, 6))
    beta = builders.identity("beta.example")
    who = accused(a.terms, "beta.example", "co-signer")
    return build_evidence(who, a.note(6, beta), b.note(6, beta, signed=False), b.subtree())


def author_refutation() -> bytes:
    """acme.example answers for its heads of 4 and 7 records by the agreed one of 6."""
    history, _ = two_histories(7, (7, 7))
    beta = builders.identity("beta.example")
    who = accused(history.terms, "acme.example", "author")
    answered = [NotedHead.parse(history.note(size)) for size in (4, 7)]
    agreed = NotedHead.parse(history.note(6, beta))
    return build_refutation(who, answered, agreed, history.subtree())


def after_loss(history: History, recorded_at: int) -> History:
    """The log as it went on after it had lost all but four records."""
    epoch = Epoch(1, 1, bytes(32), 0, b"", "the disk burnt", recorded_at)
    return History(history.terms, history.author, (*history.records[:4], epoch))


def answer_for_lost(
    history: History, lost: bytes, recorded_at: int, index: int = 4, kept: int = 0
) -> bytes:
    """acme.example answers for a head of a history that was lost before an epoch, and for the one
    of the first `kept` records.
    """
    later = after_loss(history, recorded_at)
    leaf = later.leaves[index - 1] + encode_record(later.records[index])
    agreed = NotedHead.parse(later.note(5, builders.identity("beta.example")))
    loss = build_loss([NotedHead.parse(lost)], index, leaf, agreed, later.subtree())
    answered = [NotedHead.parse(later.note(kept))] if kept else []
    who = accused(history.terms, "acme.example", "author")
    return build_refutation(who, answered, agreed, later.subtree(), loss)


EPOCH_US = builders.COSIGNED_AT_SECONDS * 1_000_000 + 1  # just after all co-signatures


def lost_refutation() -> bytes:
    """acme.example answers for its heads of 4 and 7 records, the latter of a part that was lost."""
    history, _ = two_histories(7, (7, 7))
    lost = history.note(7, builders.identity("beta.example"))
    return answer_for_lost(history, lost, EPOCH_US, kept=4)
