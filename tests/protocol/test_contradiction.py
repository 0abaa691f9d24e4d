"""What convicts a witness, and that nothing convicts an honest one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tallystick.protocol.contradiction import (
    Said,
    build_contradiction,
    contradict,
    verify_contradiction,
)
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey
from tallystick.protocol.notes import Note, Signature, sign_note
from tallystick.protocol.witness import cosign_checkpoint

NAME, LOG = "w.example/witness", "acme.example/channel"
KEY = SigningKey(b"w" * 32)
VKEY = Vkey(NAME, ED25519_COSIGNATURE, bytes(KEY.verify_key))
AT = 1_800_000_000


def head(size: int, history: str = "", log: str = LOG) -> Head:
    return Head(log, size, hashlib.sha256(f"{size} {history}".encode()).digest())


def noted(said: Said, key: SigningKey = KEY) -> Note:
    text = head_text(said.head)
    return Note(text, (cosign_checkpoint(text, NAME, key, said.at_s),))


def failing(one: Note, other: Note, vkey: Vkey = VKEY) -> str:
    """The check that fails first; empty if the file convicts."""
    checks = verify_contradiction(build_contradiction(vkey, one, other))
    return next((check.name for check in checks if not check.ok), "")


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (Said(head(5), AT), Said(head(5, "other"), AT + 9), "two heads of 5 records"),
        (Said(head(5), AT), Said(head(5, "other"), AT), "two heads of 5 records"),
        (Said(head(5), AT), Said(head(3), AT + 9), "co-signed 5 records and, 9 seconds later, 3"),
    ],
)
def test_two_lines_that_cannot_both_be_honest(one: Said, other: Said, words: str) -> None:
    for pair in ((one, other), (other, one)):
        assert words in contradict(*pair)
        assert failing(*map(noted, pair)) == ""
    files = {build_contradiction(VKEY, noted(one), noted(other)),
             build_contradiction(VKEY, noted(other), noted(one))}  # fmt: skip
    assert len(files) == 1
    assert words in verify_contradiction(files.pop())[-1].detail


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Said(head(3), AT), Said(head(5), AT + 9)),  # as logs grow
        (Said(head(3), AT), Said(head(5), AT)),  # within a second
        (Said(head(5), AT), Said(head(5), AT + 9)),  # asked again
        (Said(head(5), AT), Said(head(3, log="beta.example/channel"), AT + 9)),
    ],
)
def test_two_lines_that_may_be_honest(one: Said, other: Said) -> None:
    assert contradict(one, other) == contradict(other, one) == ""
    assert failing(noted(one), noted(other)) == "contradiction"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=12))
def test_nothing_convicts_who_never_goes_back(steps: list[tuple[int, int]]) -> None:
    size, at_s = 1, AT
    said = []
    for more, seconds in steps:
        size, at_s = size + more, at_s + seconds
        said.append(Said(head(size), at_s))
    assert not any(contradict(one, other) for one in said for other in said)


def test_what_the_witness_did_not_sign_convicts_it_of_nothing() -> None:
    one, other = Said(head(5), AT), Said(head(3), AT + 9)
    stranger = SigningKey(b"s" * 32)
    assert failing(noted(one), noted(other, stranger)) == "lines"
    # A signature without a time says nothing about what was known when.
    untimed = Vkey(NAME, ED25519_NOTE, bytes(KEY.verify_key))
    texts = [head_text(said.head) for said in (one, other)]
    notes = [Note(text, (sign_note(text, NAME, KEY),)) for text in texts]
    assert failing(*notes, vkey=untimed) == "lines"
    # Others' lines have no place in the file.
    more = Note(texts[0], (*noted(one).signatures, Signature("x", bytes(4), bytes(72))))
    assert failing(more, noted(other)) == "form"


def test_any_changed_byte_is_found() -> None:
    data = build_contradiction(VKEY, noted(Said(head(5), AT)), noted(Said(head(3), AT + 9)))
    assert all(check.ok for check in verify_contradiction(data))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert not all(check.ok for check in verify_contradiction(changed)), place
    for bad in (b"", data[:-1], data + b"\n", data * 2):
        assert not all(check.ok for check in verify_contradiction(bad))
