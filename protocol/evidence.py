"""Evidence of equivocation: two heads of one log that cannot both be prefixes of one history.

Both carry the signature of the accused. With sizes n <= m, the file shows which root the log with
the second head has at size n: another one than the first head says. An RFC 6962 consistency proof
shows it, so nobody needs the records, and nobody can make such a proof against a party that signed
one history only. Whoever holds one of the two histories and the other's head can make it:

    tallystick evidence v1
    channel <channel id, hex>
    accused <party> as <author or co-signer>
    terms <terms record, base64>
    rotation <record, base64>                    one for each later key of the accused
    prefix <the second history's root at the first head's size, base64>
    consistency <n> <m>
    <32 bytes in base64, one line a hash>

    <the first head's signed note>

    <the second head's signed note>
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.accusation import (
    ACCUSED,
    HASH,
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
    file_text,
    hashes_of,
    in_order,
)
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.merkle import EMPTY_ROOT, Subtree, consistency_path, verify_consistency
from tallystick.protocol.records import Terms

TITLE = "tallystick evidence v1"

_FILE = re.compile(
    rf"{TITLE}\n{ACCUSED}"
    rf"prefix (?P<prefix>{HASH})\n"
    r"consistency (?P<old>[0-9]{1,19}) (?P<new>[0-9]{1,19})\n"
    rf"(?P<path>{HASHES})\n(?P<first>{NOTE})\n(?P<second>{NOTE})"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two heads that the accused signed, by size, and what shows that they contradict each other.

    `prefix` is the root that the second history has at the first head's size, `path` the proof.
    """

    accused: Accused
    heads: tuple[NotedHead, NotedHead]
    prefix: bytes
    path: tuple[bytes, ...]


def build_evidence(accused: Accused, note: bytes, other: bytes, subtree: Subtree) -> bytes:
    """The file of two heads' notes, in any order.

    `subtree` gives the hashes of the larger head's history. `FormatError` if a note is not a
    head's. Whether it convicts is for `verify_evidence` to say.
    """
    first, second = in_order([NotedHead.parse(note), NotedHead.parse(other)])
    old, new = first.head.size, second.head.size
    if old == new:
        prefix, path = second.head.root, []
    else:
        prefix = subtree(0, old) if old else EMPTY_ROOT
        path = consistency_path(old, new, subtree)
    return encode_evidence(Evidence(accused, (first, second), prefix, tuple(path)))


def encode_evidence(evidence: Evidence) -> bytes:
    """The file's bytes."""
    first, second = evidence.heads
    hashes = "".join(f"{base64_of(item)}\n" for item in evidence.path)
    begin = (
        f"{TITLE}\n{evidence.accused.text()}"
        f"prefix {base64_of(evidence.prefix)}\n"
        f"consistency {first.head.size} {second.head.size}\n{hashes}\n"
    )
    return begin.encode() + first.data + b"\n" + second.data


def parse_evidence(data: bytes) -> Evidence:
    """The evidence of a file; `FormatError` unless `encode_evidence` would write it so.

    Nothing is verified here.
    """
    match = _FILE.fullmatch(file_text(data, TITLE))
    if match is None:
        raise FormatError("not evidence: a line is missing, doubled or misspelt")
    first, second = (NotedHead.parse(match[name].encode()) for name in ("first", "second"))
    (prefix,), path = hashes_of(match["prefix"]), hashes_of(match["path"])
    evidence = Evidence(accused_of(match), (first, second), prefix, path)
    if in_order(evidence.heads) != [first, second] or encode_evidence(evidence) != data:
        raise FormatError("not evidence: it is not in canonical form")
    return evidence


def evidence_digest(data: bytes) -> bytes:
    """What names a file of evidence: the SHA-256 of its bytes."""
    return hashlib.sha256(data).digest()


class _Known(Known):
    evidence: Evidence

    def __init__(self, data: bytes) -> None:
        self.data = data


def verify_evidence(data: bytes) -> list[Check]:
    """Run the six checks on a file's bytes, whatever they are; it convicts when all of them hold.

    What it proves is about the keys in its own terms: whether those are the right keys is for
    whoever knows the channel's id.
    """
    return list(run_checks(_Known(data), _CHECKS))


def _check_form(known: _Known) -> str:
    """1. The file is in its one form."""
    known.evidence = parse_evidence(known.data)
    known.accused = known.evidence.accused
    return f"{TITLE}, {evidence_digest(known.data).hex()}"


def _check_first(known: _Known) -> str:
    """4. The accused signed (or co-signed) the first head, and it is of the log in question."""
    return check_accused_line(known, known.evidence.heads[0])


def _check_second(known: _Known) -> str:
    """5. The same of the second head."""
    return check_accused_line(known, known.evidence.heads[1])


def _check_contradiction(known: _Known) -> str:
    """6. The second head's history has another root at the first head's size."""
    evidence = known.evidence
    first, second = (noted.head for noted in evidence.heads)
    verify_consistency(first.size, evidence.prefix, second.size, second.root, evidence.path)
    if evidence.prefix == first.root:
        raise ProofError(
            f"convicts nobody: the head of {first.size} records is a prefix of the one of"
            f" {second.size}, as it should be"
        )
    return conviction(known.accused, known.terms, (first.size, second.size))


def conviction(accused: Accused, terms: Terms, sizes: Sequence[int]) -> str:
    """What evidence that holds says, in a sentence."""
    shown = f"its heads of {sizes[0]} and {sizes[1]} records cannot both be true"
    if accused.part == "author":
        return f"convicts {accused.party} of signing two histories of its log: {shown}"
    parties = (terms.provider.name, terms.consumer.name)
    author = next(name for name in parties if name != accused.party)
    return f"convicts {accused.party} of co-signing two histories of {author}'s log: {shown}"


_CHECKS: tuple[Step[_Known], ...] = (
    ("form", (), _check_form),
    ("terms", (1,), check_accused_terms),
    ("keys", (2,), check_accused_keys),
    ("first head", (3,), _check_first),
    ("second head", (3,), _check_second),
    ("contradiction", (4, 5), _check_contradiction),
)
