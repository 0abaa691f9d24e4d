"""Targets for files that accuse or acquit: nothing may hold but what the accused did sign.

The parties here signed the heads of `accusing`'s vectors and of one honest history, nothing else.
So whatever a file says, it may convict only of the two contradictions that there are, and refute
only with heads of one history.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import combinations, pairwise

import accusing
import builders
import certifying

from fuzzing.contract import attempt
from tallystick.node.cli.proofs import checks_of
from tallystick.protocol.accusation import NotedHead, in_order
from tallystick.protocol.certificate import (
    Certificate,
    encode_certificate,
    parse_certificate,
)
from tallystick.protocol.checks import Check
from tallystick.protocol.errors import FormatError
from tallystick.protocol.evidence import (
    Evidence,
    encode_evidence,
    parse_evidence,
    verify_evidence,
)
from tallystick.protocol.heads import Head
from tallystick.protocol.merkle import HASH_SIZE, consistency_path
from tallystick.protocol.refutation import (
    Refutation,
    encode_refutation,
    parse_refutation,
    verify_refutation,
)
from tallystick.protocol.verify_certificate import verify_certificate

PARTIES = ("acme.example", "beta.example")
HONEST_SIZE = 9
FORK = 4  # records that both histories of a guilty party have


@cache
def _vectors() -> tuple[Evidence, Evidence]:
    made = (accusing.author_evidence(), accusing.cosigner_evidence())
    return parse_evidence(made[0]), parse_evidence(made[1])


def _heads(noted: Iterable[NotedHead]) -> set[Head]:
    return {one.head for one in noted}


def _parts(made: Refutation) -> tuple[set[Head], set[Head]]:
    """The heads that are in the history, and those that were lost."""
    return _heads(made.chain), _heads(made.loss.heads if made.loss else ())


@cache
def _refuted() -> tuple[Refutation, ...]:
    files = (accusing.author_refutation(), accusing.lost_refutation())
    return tuple(parse_refutation(file) for file in files)


def _fine(checks: list[Check], number: int) -> bool:
    """Whether all hold; all are told, in words that any terminal can show."""
    assert [check.number for check in checks] == list(range(1, number + 1))
    for check in checks:
        check.detail.encode()
    return all(check.ok for check in checks)


def evidence(data: bytes) -> None:
    """A file of evidence: one that convicts says what one of the vectors says."""
    made = attempt(FormatError, parse_evidence, data)
    if made is not None:
        assert encode_evidence(made) == data
    if _fine(verify_evidence(data), 6):
        assert made is not None
        said = [(one.accused, [noted.head for noted in one.heads]) for one in _vectors()]
        assert (made.accused, [noted.head for noted in made.heads]) in said


def refutations(data: bytes) -> None:
    """A refutation: one that holds answers with heads of the one history that was signed."""
    made = attempt(FormatError, parse_refutation, data)
    if made is not None:
        assert encode_refutation(made) == data
    if _fine(verify_refutation(data), 7):
        assert made is not None
        chain, lost = _parts(made)
        said = [_parts(one) for one in _refuted() if one.accused == made.accused]
        assert any(chain <= signed and lost <= gone for signed, gone in said)


@cache
def _honest() -> tuple[list[NotedHead], list[bytes], accusing.History]:
    """Every head of a history, signed by both, and all hashes that are in its proofs or near."""
    history, _ = accusing.two_histories(HONEST_SIZE, (HONEST_SIZE, HONEST_SIZE))
    beta = builders.identity("beta.example")
    sizes = range(HONEST_SIZE + 1)
    heads = [NotedHead.parse(history.note(size, beta)) for size in sizes]
    subtree = history.subtree()
    hashes = {subtree(a, b): None for a, b in combinations(sizes, 2)}
    return heads, [*hashes, bytes(HASH_SIZE)], history


def innocents(data: bytes) -> None:
    """Evidence against parties that signed one history: no prefix and no path make it hold.

    The first byte chooses the accused, the next two the heads, the fourth the root, all further
    ones the path, each among the hashes of the history; a path that begins with 255 is the right
    one.
    """
    if len(data) < 4:
        return
    heads, hashes, history = _honest()
    first, second = sorted((data[1] % len(heads), data[2] % len(heads)))
    path = [hashes[n % len(hashes)] for n in data[4:70]]
    if data[4:5] == b"\xff" and first > 0:
        path = consistency_path(first, second, history.subtree())
    party = PARTIES[data[0] % 2]
    who = accusing.accused(history.terms, party, "author" if data[0] % 2 == 0 else "co-signer")
    pair = (heads[first], heads[second])
    made = encode_evidence(Evidence(who, pair, hashes[data[3] % len(hashes)], tuple(path)))
    checks = verify_evidence(made)
    assert not _fine(checks, 6)
    assert [check.ok for check in checks] == [True] * 5 + [False]


@cache
def _forked() -> tuple[accusing.History, accusing.History, dict[tuple[int, int], NotedHead]]:
    """Two histories, and every head of both by history and size."""
    histories = accusing.two_histories(FORK, (HONEST_SIZE, HONEST_SIZE))
    beta = builders.identity("beta.example")
    heads = {
        (number, size): NotedHead.parse(history.note(size, beta))
        for number, history in enumerate(histories)
        for size in range(1, HONEST_SIZE + 1)
    }
    return (*histories, heads)


def guilty(data: bytes) -> None:
    """Refutations by an author that signed two histories: one holds only with heads of one of them.

    The first byte says which head is the agreed one, the next how many heads there are, then a byte
    chooses each head and one each path: the right one in one of the histories, or none.
    """
    if len(data) < 2:
        return
    first, second, heads = _forked()
    count = 2 + data[1] % 4
    chosen = {(n % 2, 1 + n // 2 % HONEST_SIZE): None for n in data[2 : 2 + count]}
    noted = {heads[key].data: key for key in chosen}
    chain = in_order([NotedHead.parse(note) for note in noted])
    if len(chain) < 2:
        return
    paths = []
    for (a, b), mode in zip(pairwise(chain), data[2 + count :].ljust(9, b"\0"), strict=False):
        subtree = (first, second)[mode % 2].subtree()
        found = consistency_path(a.head.size, b.head.size, subtree)
        paths.append(tuple(found[: len(found) - mode // 2 % 4]))
    who = accusing.accused(first.terms, "acme.example", "author")
    made = Refutation(who, tuple(chain), data[0] % len(chain), tuple(paths), None)
    if _fine(verify_refutation(encode_refutation(made)), 7):
        beyond = {number for number, size in noted.values() if size > FORK}
        assert len(beyond) < 2


@cache
def _lapsed() -> tuple[Certificate, ...]:
    return tuple(map(parse_certificate, certifying.files().values()))


def lapses(data: bytes) -> None:
    """A certificate: one that holds says of a record and its lapse what one of the vectors says."""
    made = attempt(FormatError, parse_certificate, data)
    if made is not None:
        assert encode_certificate(made) == data
    if _fine(verify_certificate(data), 10):
        assert made is not None
        said = [(one.channel_id, one.party, one.record, one.lapse) for one in _lapsed()]
        assert (made.channel_id, made.party, made.record, made.lapse) in said


def verified(data: bytes) -> None:
    """Any file that `tally verify` is given: it is taken for one kind, and what is printed of it
    can neither fail to be shown nor move the cursor.
    """
    checks = checks_of(io.BytesIO(data))
    assert checks
    for check in checks:
        assert not any(unicodedata.category(letter) == "Cc" for letter in check.detail)
        check.detail.encode()
