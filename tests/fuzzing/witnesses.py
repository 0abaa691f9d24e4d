"""Targets for what witnesses and logs say to each other, and for policies."""

from __future__ import annotations

from nacl.signing import SigningKey

from fuzzing.contract import attempt
from tallystick.protocol.contradiction import build_contradiction, verify_contradiction
from tallystick.protocol.errors import FormatError, InputError, ProofError
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey
from tallystick.protocol.merkle import consistency_path, leaf_hash, root_of
from tallystick.protocol.notes import Note, parse_note, sign_note
from tallystick.protocol.policy import format_policy, judge, parse_policy
from tallystick.protocol.witness import (
    NOTHING_SEEN,
    AddCheckpoint,
    Behind,
    Refused,
    Seen,
    cosign_checkpoint,
    examine,
    format_request,
    parse_request,
    read_answer,
)

KEY, WITNESS_KEY = SigningKey(b"l" * 32), SigningKey(b"w" * 32)
LOG = Vkey("log.example/1", ED25519_NOTE, bytes(KEY.verify_key))
WITNESS = Vkey("w.example", ED25519_COSIGNATURE, bytes(WITNESS_KEY.verify_key))
LEAVES = [leaf_hash(bytes([at])) for at in range(20)]
TEXT = head_text(Head(LOG.name, 20, root_of(LEAVES)))
SEEN = Seen(7, root_of(LEAVES[:7]))
LINE = cosign_checkpoint(TEXT, WITNESS.name, WITNESS_KEY, 1_793_491_200)
NOTE = Note(TEXT, (sign_note(TEXT, LOG.name, KEY), LINE))

POLICIES = [
    f"log {LOG} https://log.example\nwitness w {WITNESS}\ngroup g 1 w\nquorum g\n".encode(),
    f"# none\n\nwitness\tw {WITNESS} https://w.example\nquorum none\n".encode(),
]
REQUESTS = [
    format_request(
        AddCheckpoint(
            old, tuple(consistency_path(old, 20, lambda a, b: root_of(LEAVES[a:b]))), NOTE
        )
    )
    for old in (0, 7, 20)
]
OLDER = head_text(Head(LOG.name, 7, root_of(LEAVES[:7])))
EVIDENCE = [
    build_contradiction(
        WITNESS,
        Note(TEXT, (LINE,)),
        Note(OLDER, (cosign_checkpoint(OLDER, WITNESS.name, WITNESS_KEY, at_s),)),
    )
    for at_s in (1_793_491_201, 1_793_491_199)  # as no honest witness says it, and as one may
]
ANSWERS = [b"\xc8" + LINE.line().encode(), b"\x09" + b"7\n", b"\x01not here\n"]


def policies(data: bytes) -> None:
    """A policy, which is written as it is read, and judges a note."""
    policy = attempt(InputError, parse_policy, data)
    if policy is not None:
        assert parse_policy(format_policy(policy)) == policy
        said = judge(policy, NOTE)
        assert said.satisfied <= said.quorum_reached


def requests(data: bytes) -> None:
    """A request to a witness that has seen nothing, or a head."""
    request = attempt(Refused, parse_request, data)
    if request is None:
        return
    assert format_request(request) == data
    for seen in (NOTHING_SEEN, SEEN):
        head = attempt(Refused, examine, request, [LOG], seen)
        # Who cannot sign gets nothing but what was signed for him, in a proof that holds.
        assert head is None or (head.size, head.root) == (20, root_of(LEAVES))


def answers(data: bytes) -> None:
    """An answer to a log; the first byte chooses the status."""
    status = {0xC8: 200, 0x09: 409}.get(data[0], 404) if data else 200
    kind = "text/x.tlog.size" if status == 409 else "text/plain"
    refusals = (Refused, FormatError, ProofError)
    answer = attempt(refusals, read_answer, status, kind, data[1:], TEXT, [WITNESS])
    if answer is not None and not isinstance(answer, Behind):
        assert {one.vkey for one in answer} == {WITNESS}
        assert {one.line for one in answer} <= set(
            parse_note(TEXT.encode() + b"\n" + data[1:]).signatures
        )


def evidence(data: bytes) -> None:
    """A file of evidence against a witness: nobody makes one that convicts without its key."""
    checks = list(verify_contradiction(data))
    assert [check.number for check in checks] == [1, 2, 3]
    assert all(check.ok for check in checks) == (data == EVIDENCE[0])
