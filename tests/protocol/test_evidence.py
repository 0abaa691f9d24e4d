"""Evidence: what convicts, what does not, and that no byte of it can be turned on somebody else."""

from __future__ import annotations

import random

import builders
import pytest
from accusing import (
    accused,
    author_evidence,
    cosigner_evidence,
    head_note,
    two_histories,
)
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.accusation import FILE_BYTES_MAX, Part
from tallystick.protocol.checks import Check
from tallystick.protocol.errors import FormatError
from tallystick.protocol.evidence import (
    build_evidence,
    encode_evidence,
    parse_evidence,
    verify_evidence,
)
from tallystick.protocol.heads import head_text
from tallystick.protocol.keyring import make_rotation
from tallystick.protocol.notes import Note, format_note, sign_note
from tallystick.protocol.records import Rotation

ACME, BETA = builders.identity("acme.example"), builders.identity("beta.example")
NAMES = ["form", "terms", "keys", "first head", "second head", "contradiction"]
AUTHOR, COSIGNER = author_evidence(), cosigner_evidence()


def _failing(data: bytes) -> str:
    """The first check that does not hold; empty if all do."""
    checks = verify_evidence(data)
    assert [check.name for check in checks] == NAMES
    return next((check.name for check in checks if not check.ok), "")


def _verdict(data: bytes) -> str:
    checks: list[Check] = verify_evidence(data)
    return checks[-1].detail if all(check.ok for check in checks) else ""


def test_the_verdict_names_who_and_of_what() -> None:
    assert _verdict(AUTHOR) == (
        "convicts acme.example of signing two histories of its log: its heads of 5 and 7 records"
        " cannot both be true"
    )
    assert _verdict(COSIGNER) == (
        "convicts beta.example of co-signing two histories of acme.example's log: its heads of 6"
        " and 6 records cannot both be true"
    )


@pytest.mark.parametrize("data", [AUTHOR, COSIGNER])
def test_it_reads_back_as_it_was_written(data: bytes) -> None:
    assert encode_evidence(parse_evidence(data)) == data


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_it_convicts_exactly_if_the_histories_part_before(fork: int, n: int, m: int) -> None:
    a, b = two_histories(fork, (n, m))
    longer = a if n > m else b
    who = accused(a.terms, "acme.example", "author")
    made = build_evidence(who, a.note(n), b.note(m), longer.subtree())
    assert encode_evidence(parse_evidence(made)) == made
    assert _failing(made) == ("" if fork < min(n, m) else "contradiction")


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_nothing_convicts_a_party_of_one_history(n: int, m: int, dice: random.Random) -> None:
    """Whatever the accuser claims of the hashes below two heads of one history."""
    history, _ = two_histories(10, (10, 10))
    truth = history.subtree()

    def claimed(start: int, end: int) -> bytes:
        return dice.randbytes(32) if dice.random() < 0.5 else truth(start, end)

    who = accused(history.terms, "acme.example", "author")
    assert _failing(build_evidence(who, history.note(n), history.note(m), claimed))


@pytest.mark.parametrize("data", [AUTHOR, COSIGNER])
@given(st.data())
def test_a_flipped_bit_convicts_nobody_else(data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    flipped = bytearray(data)
    flipped[place] ^= 1 << draw.draw(st.integers(0, 7))
    # A line that does not count may be damaged; then the verdict is the same, to the letter.
    assert _verdict(bytes(flipped)) in ("", _verdict(data))


@given(st.binary(max_size=400), st.booleans())
def test_foreign_bytes_never_raise(data: bytes, begun: bool) -> None:
    assert _failing(AUTHOR[:60] * begun + data) == "form"


@given(st.integers(0, len(COSIGNER) - 1))
def test_a_part_of_it_is_no_evidence(length: int) -> None:
    assert _failing(COSIGNER[:length])  # its last line is one that counts


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (b"evidence v1\n", b"evidence v2\n", "form"),
        (b"accused acme", b"accused gamma", "terms"),
        (b"accused acme.example as author", b"accused beta.example as author", "first head"),
        (b"accused acme.example as author", b"accused acme.example as co-signer", "first head"),
        (b"consistency 5 7", b"consistency 4 7", "form"),
        (b"consistency 5 7", b"consistency 05 7", "form"),
        (b"as author\n", b"as  author\n", "form"),
        (b"\nprefix ", b"\nprefix  ", "form"),
        (b"\n\nacme", b"\n\n\nacme", "form"),
        (b"\n5\n", b"\n6\n", "form"),
        (b"\n", b"\r\n", "form"),
    ],
)
def test_what_is_changed_is_found(old: bytes, new: bytes, check: str) -> None:
    assert old in AUTHOR
    assert _failing(AUTHOR.replace(old, new)) == check


def test_heads_out_of_order_are_refused() -> None:
    evidence = parse_evidence(COSIGNER)
    first, second = evidence.heads
    swapped = type(evidence)(evidence.accused, (second, first), evidence.prefix, evidence.path)
    with pytest.raises(FormatError, match="canonical"):
        parse_evidence(encode_evidence(swapped))


def test_a_file_too_large_is_refused() -> None:
    assert _failing(AUTHOR + b"x" * FILE_BYTES_MAX) == "form"


@pytest.mark.parametrize(("part", "party"), [("author", ACME), ("co-signer", BETA)])
def test_both_heads_need_the_line_of_the_accused(part: Part, party: builders.Identity) -> None:
    a, b = two_histories(2, (5, 6))
    who = accused(a.terms, party.name, part)
    own = (a.head(5), b.head(6))
    with_line = [head_note(h, ACME) if part == "author" else head_note(h, None, BETA) for h in own]
    without = [head_note(h, None, BETA) if part == "author" else head_note(h, ACME) for h in own]
    for first, second, check in (
        (with_line[0], with_line[1], ""),
        (without[0], with_line[1], "first head"),
        (with_line[0], without[1], "second head"),
    ):
        assert _failing(build_evidence(who, first, second, b.subtree())) == check


def test_a_line_under_the_right_name_by_another_key_does_not_count() -> None:
    a, b = two_histories(2, (5, 6))
    who = accused(a.terms, "acme.example", "author")
    head = b.head(6)
    forged = format_note(
        Note(head_text(head), (sign_note(head_text(head), head.origin, BETA.log),))
    )
    assert _failing(build_evidence(who, a.note(5), forged, b.subtree())) == "second head"


def test_a_head_of_another_channel_does_not_count() -> None:
    a, b = two_histories(2, (5, 6))
    other = builders.make_terms(ACME, BETA, calendar="day")
    who = accused(other, "acme.example", "author")
    assert _failing(build_evidence(who, a.note(5), b.note(6), b.subtree())) == "first head"


def test_a_later_key_counts_with_the_rotation_that_announced_it() -> None:
    a, b = two_histories(2, (5, 6))
    later = ACME.signer("log", 1)
    unsigned = Rotation("provider", "log", 1, bytes(later.verify_key), 2**40, bytes(64), b"", 2**40)
    rotation = make_rotation(a.terms, unsigned, ACME.log, later)
    head = b.head(6)
    note = format_note(Note(head_text(head), (sign_note(head_text(head), head.origin, later),)))
    for rotations, check in (
        ([rotation], ""),
        ([], "second head"),
        ([rotation, rotation], "keys"),
        ([unsigned], "keys"),
    ):
        who = accused(a.terms, "acme.example", "author", rotations)
        assert _failing(build_evidence(who, a.note(5), note, b.subtree())) == check
