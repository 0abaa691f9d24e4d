"""Refutation: an honest party's heads are one history, and nobody else's can be made to look so."""

from __future__ import annotations

import builders
import pytest
from accusing import (
    EPOCH_US,
    accused,
    after_loss,
    answer_for_lost,
    author_refutation,
    head_note,
    two_histories,
)
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.accusation import NotedHead
from tallystick.protocol.heads import Head
from tallystick.protocol.records import encode_record
from tallystick.protocol.refutation import (
    Loss,
    build_refutation,
    encode_refutation,
    parse_refutation,
    verify_refutation,
)

ACME, BETA = builders.identity("acme.example"), builders.identity("beta.example")
NAMES = ["form", "terms", "keys", "answered heads", "agreed head", "one history", "losses"]
FILE = author_refutation()
HISTORY, FORK = two_histories(4, (9, 9))
AUTHOR = accused(HISTORY.terms, "acme.example", "author")
COSIGNER = accused(HISTORY.terms, "beta.example", "co-signer")


def _failing(data: bytes) -> str:
    """The first check that does not hold; empty if all do."""
    checks = verify_refutation(data)
    assert [check.name for check in checks] == NAMES
    return next((check.name for check in checks if not check.ok), "")


def _answered(data: bytes) -> tuple[str, str, list[Head]]:
    refutation = parse_refutation(data)
    heads = [noted.head for noted in refutation.answered]
    return refutation.accused.party, refutation.accused.part, heads


def test_it_says_what_it_refutes() -> None:
    checks = verify_refutation(FILE)
    assert all(check.ok for check in checks)
    assert checks[5].detail == "the heads of 4, 6, 7 records are prefixes of it"
    assert checks[6].detail == (
        "refutes the accusation of acme.example: what it signed is one history"
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 9), st.booleans())
def test_any_heads_of_one_history_are_answered(sizes: list[int], agreed: int, own: bool) -> None:
    """Smaller than the agreed head, larger, or the very same."""
    notes = [
        HISTORY.note(size) if own else HISTORY.note(size, BETA, signed=False) for size in sizes
    ]
    made = build_refutation(
        AUTHOR if own else COSIGNER,
        [NotedHead.parse(note) for note in notes],
        NotedHead.parse(HISTORY.note(agreed, BETA)),
        HISTORY.subtree(),
    )
    assert _failing(made) == ""
    assert encode_refutation(parse_refutation(made)) == made
    assert sorted(head.size for head in _answered(made)[2]) == sorted(sizes)


@given(st.integers(5, 9), st.integers(5, 9), st.booleans())
def test_heads_of_another_history_cannot_be_answered(size: int, agreed: int, own: bool) -> None:
    """Whichever history's hashes the party shows."""
    made = build_refutation(
        AUTHOR,
        [NotedHead.parse(FORK.note(size))],
        NotedHead.parse(HISTORY.note(agreed, BETA)),
        HISTORY.subtree() if own else FORK.subtree(),
    )
    assert _failing(made) == "one history"


@given(st.data())
def test_a_flipped_bit_answers_for_nothing_else(draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(FILE) - 1))
    flipped = bytearray(FILE)
    flipped[place] ^= 1 << draw.draw(st.integers(0, 7))
    if not _failing(bytes(flipped)):
        assert _answered(bytes(flipped)) == _answered(FILE)


@given(st.binary(max_size=400), st.booleans())
def test_foreign_bytes_never_raise(data: bytes, begun: bool) -> None:
    assert _failing(FILE[:60] * begun + data) == "form"


@given(st.integers(0, len(FILE) - 1))
def test_a_part_of_it_refutes_nothing(length: int) -> None:
    assert _failing(FILE[:length])


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (b"refutation v1\n", b"refutation v2\n", "form"),
        (b"agreed 6\n", b"agreed 5\n", "form"),
        (b"agreed 6\n", b"answers 6\n", "form"),
        (b"answers 7\n", b"agreed 7\n", "form"),
        (b"answers 4\n", b"agreed 4\n", "form"),
        (b"accused acme.example as author", b"accused beta.example as author", "answered heads"),
        (b"accused acme.example as author", b"accused beta.example as co-signer", "answered heads"),
        (b"answers 7\n", b"answers 7\nlost 8\n", "form"),
        (b"answers 7\n", b"answers 7\nepoch 1\nleaf AAAA\n", "form"),
    ],
)
def test_what_is_changed_is_found(old: bytes, new: bytes, check: str) -> None:
    assert old in FILE
    assert _failing(FILE.replace(old, new)) == check


def test_the_agreed_head_needs_both_lines() -> None:
    answered = [NotedHead.parse(HISTORY.note(3))]
    for note in (HISTORY.note(5), HISTORY.note(5, BETA, signed=False)):
        made = build_refutation(AUTHOR, answered, NotedHead.parse(note), HISTORY.subtree())
        assert _failing(made) == "agreed head"


def test_what_somebody_else_signed_is_not_its_to_answer() -> None:
    answered = [NotedHead.parse(HISTORY.note(3, BETA, signed=False))]
    agreed = NotedHead.parse(HISTORY.note(5, BETA))
    made = build_refutation(AUTHOR, answered, agreed, HISTORY.subtree())
    assert _failing(made) == "answered heads"


def test_a_file_without_the_path_to_a_head_is_in_no_form() -> None:
    start, stop = FILE.index(b"consistency 6 7"), FILE.index(b"answers 7")
    assert _failing(FILE[:start] + FILE[stop:]) == "form"


# Losses that both parties signed


def _answer_for_lost(lost: bytes, recorded_at: int, index: int = 4, kept: int = 0) -> bytes:
    return answer_for_lost(HISTORY, lost, recorded_at, index, kept)


@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("dated", [False, True])
def test_a_head_that_was_lost_is_answered_by_the_epoch(kept: int, dated: bool) -> None:
    lost = HISTORY.note(7, BETA) if dated else HISTORY.note(7)
    made = _answer_for_lost(lost, EPOCH_US, kept=kept)
    assert _failing(made) == ""
    assert encode_refutation(parse_refutation(made)) == made
    assert 7 in [head.size for head in _answered(made)[2]]


def test_a_head_that_is_younger_than_the_epoch_was_not_lost_in_it() -> None:
    assert _failing(_answer_for_lost(HISTORY.note(7, BETA), EPOCH_US - 2)) == "losses"


def test_an_epoch_gives_up_only_what_came_after_it() -> None:
    foreign = head_note(Head(HISTORY.head(4).origin, 4, b"\x01" * 32), ACME)
    assert _failing(_answer_for_lost(foreign, EPOCH_US)) == "losses"


def test_only_an_epoch_record_says_that_something_was_lost() -> None:
    assert _failing(_answer_for_lost(HISTORY.note(7), EPOCH_US, index=3)) == "losses"


def test_an_epoch_must_be_in_the_agreed_head() -> None:
    history = after_loss(HISTORY, EPOCH_US)
    leaf = history.leaves[3] + encode_record(history.records[4])
    agreed = NotedHead.parse(HISTORY.note(5, BETA))
    loss = Loss((NotedHead.parse(FORK.note(7)),), 4, leaf, ())
    made = build_refutation(AUTHOR, [], agreed, HISTORY.subtree(), loss)
    assert _failing(made) == "losses"
