"""Refutation: what an honest party answers when it is accused of equivocation.

Somebody shows heads that it signed and says that they contradict each other, or that one "is not in
its log". The answer comes from the party's own records: every such head, and one head that both
parties signed, in the order of their sizes, with a consistency proof (RFC 6962) from each to the
next. So all of them are prefixes of one history, and that history is the agreed one:

    tallystick refutation v1
    channel <channel id, hex>
    accused <party> as <author or co-signer>
    terms <terms record, base64>
    rotation <record, base64>                    one for each later key of both parties
    answers <size>
    consistency <n> <m>
    <32 bytes in base64, one line a hash>
    agreed <size>

    <a signed note for each of these heads, in the same order>

After a loss that both parties agreed to (an `Epoch` record), heads of the lost part are in no log
any more. Such a head is answered by `lost <size>` lines at the end of the list, and by the epoch's
record, which the agreed head holds:

    lost <size>
    epoch <index>
    <32 bytes in base64, one line a hash>
    leaf <leaf data, base64>
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tallystick.protocol.accusation import (
    ACCUSED,
    HASHES,
    NOTE,
    Accused,
    Known,
    NotedHead,
    accused_of,
    base64_of,
    check_accused_keys,
    check_accused_line,
    check_accused_terms,
    check_log,
    file_text,
    hashes_of,
    in_order,
    verify_author_line,
    verify_cosigner_line,
)
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.merkle import (
    HASH_SIZE,
    Subtree,
    consistency_path,
    inclusion_path,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from tallystick.protocol.records import Epoch, Role, decode_record

TITLE = "tallystick refutation v1"
ANSWERED_MAX = 16

_SIZE = r"(?:0|[1-9][0-9]{0,18})"
_FILE = re.compile(
    rf"{TITLE}\n{ACCUSED}"
    rf"(?P<chain>(?:(?:answers|agreed) {_SIZE}\n(?:consistency {_SIZE} {_SIZE}\n{HASHES})?)+)"
    rf"(?P<lost>(?:lost {_SIZE}\n)*)"
    rf"(?:epoch (?P<index>{_SIZE})\n(?P<path>{HASHES})leaf (?P<leaf>[A-Za-z0-9+/]+={{0,2}})\n)?"
    rf"(?P<notes>(?:\n{NOTE})+)"
)
_NOTES = re.compile(rf"\n({NOTE})")
_LABEL = re.compile(r"(answers|agreed) [0-9]+\n")
_PATH = re.compile(rf"consistency [0-9]+ [0-9]+\n({HASHES})")


@dataclass(frozen=True, slots=True)
class Loss:
    """Heads of a part that both parties lost, and the epoch record that says so: its index, its
    leaf data and its inclusion path in the agreed head.
    """

    heads: tuple[NotedHead, ...]
    index: int
    leaf: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refutation:
    """Heads by size with the paths from each to the next; one of them, at `agreed`, both signed."""

    accused: Accused
    chain: tuple[NotedHead, ...]
    agreed: int
    paths: tuple[tuple[bytes, ...], ...]
    loss: Loss | None

    @property
    def agreed_head(self) -> NotedHead:
        """The head that both parties signed."""
        return self.chain[self.agreed]

    @property
    def answered(self) -> list[NotedHead]:
        """The heads that the party is accused with."""
        kept = [noted for place, noted in enumerate(self.chain) if place != self.agreed]
        return [*kept, *(self.loss.heads if self.loss else ())]


def build_refutation(
    accused: Accused,
    answered: Sequence[NotedHead],
    agreed: NotedHead,
    subtree: Subtree,
    loss: Loss | None = None,
) -> bytes:
    """The file. `subtree` gives the hashes of the party's history up to the largest head.

    `answered` are the heads that are in that history. Whether the file holds is for
    `verify_refutation` to say.
    """
    chain = in_order([*answered, agreed])
    paths = [tuple(consistency_path(a.head.size, b.head.size, subtree)) for a, b in pairwise(chain)]
    return encode_refutation(
        Refutation(accused, tuple(chain), chain.index(agreed), tuple(paths), loss)
    )


def build_loss(
    heads: Sequence[NotedHead], index: int, leaf: bytes, agreed: NotedHead, subtree: Subtree
) -> Loss:
    """The loss that an epoch record explains, in the history up to the agreed head."""
    path = inclusion_path(index, agreed.head.size, subtree)
    return Loss(tuple(in_order(heads)), index, leaf, tuple(path))


def encode_refutation(refutation: Refutation) -> bytes:
    """The file's bytes."""
    rows = [f"{TITLE}\n{refutation.accused.text()}"]
    for place, noted in enumerate(refutation.chain):
        label = "agreed" if place == refutation.agreed else "answers"
        rows.append(f"{label} {noted.head.size}\n")
        if place < len(refutation.paths):
            after = refutation.chain[place + 1]
            rows.append(f"consistency {noted.head.size} {after.head.size}\n")
            rows += [f"{base64_of(item)}\n" for item in refutation.paths[place]]
    loss = refutation.loss
    if loss is not None:
        rows += [f"lost {noted.head.size}\n" for noted in loss.heads]
        rows.append(f"epoch {loss.index}\n")
        rows += [f"{base64_of(item)}\n" for item in loss.path]
        rows.append(f"leaf {base64_of(loss.leaf)}\n")
    heads = [*refutation.chain, *(loss.heads if loss else ())]
    return "".join(rows).encode() + b"".join(b"\n" + noted.data for noted in heads)


def parse_refutation(data: bytes) -> Refutation:
    """The refutation of a file; `FormatError` unless `encode_refutation` would write it so.

    Nothing is verified here.
    """
    match = _FILE.fullmatch(file_text(data, TITLE))
    if match is None:
        raise FormatError("not a refutation: a line is missing, doubled or misspelt")
    labels = _LABEL.findall(match["chain"])
    paths = [hashes_of(rows) for rows in _PATH.findall(match["chain"])]
    notes = [NotedHead.parse(note.encode()) for note in _NOTES.findall(match["notes"])]
    chain, lost = notes[: len(labels)], notes[len(labels) :]
    if labels.count("agreed") != 1 or len(notes) > ANSWERED_MAX + 1 or len(notes) < 2:
        raise FormatError("not a refutation: it answers for heads by one head that both signed")
    if bool(lost) != (match["index"] is not None):
        raise FormatError("not a refutation: it has lost heads without an epoch, or the reverse")
    try:
        leaf = base64.b64decode(match["leaf"] or "")
    except ValueError as error:
        raise FormatError(f"not a refutation: {error}") from None
    loss = Loss(tuple(lost), int(match["index"]), leaf, hashes_of(match["path"])) if lost else None
    refutation = Refutation(
        accused_of(match), tuple(chain), labels.index("agreed"), tuple(paths), loss
    )
    ordered = in_order(chain) == chain and in_order(lost) == lost
    if not ordered or len(paths) != len(chain) - 1 or encode_refutation(refutation) != data:
        raise FormatError("not a refutation: it is not in canonical form")
    return refutation


class _Known(Known):
    refutation: Refutation

    def __init__(self, data: bytes) -> None:
        self.data = data


def verify_refutation(data: bytes) -> list[Check]:
    """Run the seven checks on a file's bytes, whatever they are; it holds when all of them do.

    Compare the heads that it answers for with those of the accusation, and the channel's id with
    the one that you know.
    """
    return list(run_checks(_Known(data), _CHECKS))


def _check_form(known: _Known) -> str:
    """1. The file is in its one form."""
    known.refutation = parse_refutation(known.data)
    known.accused = known.refutation.accused
    return f"{TITLE}, answers for {len(known.refutation.answered)} heads"


def _check_answered(known: _Known) -> str:
    """4. The party signed (or co-signed) every head that it answers for."""
    return "; ".join(check_accused_line(known, noted) for noted in known.refutation.answered)


def _check_agreed(known: _Known) -> str:
    """5. The agreed head has its author's signature and its peer's co-signature."""
    agreed = known.refutation.agreed_head
    check_log(known, agreed.head)
    verify_author_line(agreed.note, known.ring, known.author)
    verify_cosigner_line(agreed.note, known.ring, _other(known.author))
    return f"{agreed}, signed and co-signed"


def _other(role: Role) -> Role:
    return "consumer" if role == "provider" else "provider"


def _check_history(known: _Known) -> str:
    """6. Each head is a prefix of the next, so all of them belong to one history."""
    refutation = known.refutation
    for (a, b), path in zip(pairwise(refutation.chain), refutation.paths, strict=True):
        verify_consistency(a.head.size, a.head.root, b.head.size, b.head.root, path)
    sizes = ", ".join(str(noted.head.size) for noted in refutation.chain)
    return f"the heads of {sizes} records are prefixes of it"


def _check_loss(known: _Known) -> str:
    """7. Heads that are in no log any more were lost before an epoch that both parties signed."""
    loss = known.refutation.loss
    if loss is not None:
        _check_epoch(known, loss)
    rest = "" if loss is None else ", and the rest was lost before the epoch"
    return f"refutes the accusation of {known.accused.party}: what it signed is one history{rest}"


def _check_epoch(known: _Known, loss: Loss) -> None:
    agreed = known.refutation.agreed_head.head
    verify_inclusion(leaf_hash(loss.leaf), loss.index, agreed.size, loss.path, agreed.root)
    record = decode_record(loss.leaf[HASH_SIZE:])
    if not isinstance(record, Epoch):
        raise ProofError("what is shown as an epoch is a record of another kind")
    cosigner = known.ring.cosigner_vkeys(_other(known.author))[0].name
    for noted in loss.heads:
        if noted.head.size <= loss.index:
            raise ProofError(
                f"the epoch gave up what came after {loss.index} records; the head of"
                f" {noted.head.size} is from before"
            )
        # Only a co-signature dates a head; one without may always be from before the loss.
        names = {signature.name for signature in noted.note.signatures}
        if cosigner not in names:
            continue
        at_s = verify_cosigner_line(noted.note, known.ring, _other(known.author))
        if at_s * 1_000_000 > record.recorded_at:
            raise ProofError(f"the head of {noted.head.size} records is younger than the epoch")


_CHECKS: tuple[Step[_Known], ...] = (
    ("form", (), _check_form),
    ("terms", (1,), check_accused_terms),
    ("keys", (2,), check_accused_keys),
    ("answered heads", (3,), _check_answered),
    ("agreed head", (3,), _check_agreed),
    ("one history", (4, 5), _check_history),
    ("losses", (6,), _check_loss),
)
