"""Trust policies: the specification's example, what is refused, and what a note satisfies."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tallystick.protocol.errors import InputError
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey, key_id
from tallystick.protocol.notes import Note, Signature, sign_note
from tallystick.protocol.policy import (
    Group,
    Witness,
    asked,
    format_policy,
    judge,
    k_of_n,
    parse_policy,
)
from tallystick.protocol.signers import MLDSA44_COSIGNATURE, mldsa44_message
from tallystick.protocol.witness import cosign_checkpoint

TIME_SECONDS = 1_793_491_200
HEAD = Head("acme.example/log", 7, bytes(range(32)))
TEXT = head_text(HEAD)
LOG_KEY = SigningKey(b"l" * 32)
LOG = Vkey(HEAD.origin, ED25519_NOTE, bytes(LOG_KEY.verify_key))
LOG_LINE = sign_note(TEXT, LOG.name, LOG_KEY)
KEYS = {name: SigningKey(name.encode().ljust(32)) for name in ("X1", "X2", "X3", "Y1", "Y2", "Y3")}


def vkey(name: str) -> Vkey:
    return Vkey(f"{name}.example", ED25519_COSIGNATURE, bytes(KEYS[name].verify_key))


def line(name: str, text: str = TEXT) -> Signature:
    return cosign_checkpoint(text, f"{name}.example", KEYS[name], TIME_SECONDS)


EXAMPLE = f"""\
# the example of the specification
log {LOG}

witness X1 {vkey("X1")}
\twitness  X2\t{vkey("X2")}  https://x2.example/prefix
witness X3 {vkey("X3")}
group X-witnesses 2 X1 X2 X3

witness Y1 {vkey("Y1")}
witness Y2 {vkey("Y2")}
witness Y3 {vkey("Y3")}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


@pytest.mark.parametrize(
    ("names", "reached"),
    [
        ("X1 X2 Y1", True),
        ("X1 X3 Y3", True),
        ("X1 X2 X3 Y1 Y2 Y3", True),
        ("X1 Y1 Y2 Y3", False),
        ("X1 X2 X3", False),
        ("", False),
    ],
)
def test_the_specifications_example(names: str, reached: bool) -> None:
    policy = parse_policy(EXAMPLE.encode())
    lines = tuple(line(name) for name in names.split())
    said = judge(policy, Note(TEXT, (LOG_LINE, *lines)))
    assert (said.quorum_reached, said.satisfied) == (reached, reached)
    assert [held.witness.name for held in said.held] == names.split()
    assert {held.at_s for held in said.held} <= {TIME_SECONDS}
    assert len(said.missing) == 6 - len(lines)
    assert said.log == HEAD.origin
    assert asked(policy) == "2 of 2 (X-and-Y)"


def test_the_example_is_written_as_it_is_read() -> None:
    policy = parse_policy(EXAMPLE.encode())
    assert parse_policy(format_policy(policy)) == policy
    assert policy.witnesses[1].url == "https://x2.example/prefix"


def test_a_log_that_the_policy_does_not_name_does_not_satisfy_it() -> None:
    policy = parse_policy(EXAMPLE.encode())
    lines = (line("X1"), line("X2"), line("Y1"))
    said = judge(policy, Note(TEXT, lines))
    assert (said.log, said.quorum_reached, said.satisfied) == (None, True, False)
    other = SigningKey(b"o" * 32)
    said = judge(policy, Note(TEXT, (sign_note(TEXT, LOG.name, other), *lines)))
    assert (said.log, said.satisfied) == (None, False)


def test_a_line_of_a_known_key_that_does_not_hold_spoils_the_note() -> None:
    policy = parse_policy(EXAMPLE.encode())
    good = (LOG_LINE, line("X1"), line("X2"), line("Y1"))
    forged = line("X3", TEXT.replace("7", "8"))
    said = judge(policy, Note(TEXT, (*good, forged)))
    assert said.quorum_reached and not said.satisfied
    assert [broken.name for broken in said.broken] == ["X3"]
    unknown = Signature("X3.example", b"abcd", forged.blob)
    assert judge(policy, Note(TEXT, (*good, unknown))).satisfied


def test_one_witness_twice_counts_once() -> None:
    witnesses = [Witness(name, vkey(name)) for name in ("X1", "X2")]
    assert not judge(k_of_n(witnesses, 2), Note(TEXT, (line("X1"), line("X1")))).satisfied
    assert judge(k_of_n(witnesses, 1), Note(TEXT, (line("X1"), line("X1")))).satisfied
    assert judge(k_of_n(witnesses, 0), Note(TEXT, (LOG_LINE,))).satisfied
    with pytest.raises(InputError, match="3 witnesses are required and 2 are named"):
        k_of_n(witnesses, 3)
    with pytest.raises(InputError, match="named twice"):
        k_of_n([Witness("a", vkey("X1")), Witness("b", vkey("X1"))], 1)


def test_a_witness_with_an_mldsa_key() -> None:
    key = MLDSA44PrivateKey.from_seed_bytes(b"m" * 32)
    public = key.public_key().public_bytes_raw()
    pq = Vkey("pq.example", MLDSA44_COSIGNATURE, public)
    policy = parse_policy(f"witness pq {pq}\nquorum pq\n".encode())
    message = mldsa44_message(pq.name, TIME_SECONDS, HEAD)
    blob = TIME_SECONDS.to_bytes(8, "big") + key.sign(message)
    id = key_id(pq.name, MLDSA44_COSIGNATURE, public)
    good = judge(policy, Note(TEXT, (Signature(pq.name, id, blob),)))
    assert good.satisfied and good.held[0].at_s == TIME_SECONDS
    later = (TIME_SECONDS + 1).to_bytes(8, "big") + blob[8:]
    for wrong in (later, blob[:-1], blob + b"x", b"\xff" + blob[1:]):
        said = judge(policy, Note(TEXT, (Signature(pq.name, id, wrong),)))
        assert not said.satisfied and said.broken


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("", "no quorum line"),
        ("quorum nobody\n", "line 1 of the policy: 'nobody' is not named on a line before"),
        ("quorum none\nquorum none\n", "line 2 of the policy: there is a quorum line already"),
        ("quorum\n", "after quorum come 0 words, not 1"),
        ("witness a\n", "after witness come 1 words, not 2 to 3"),
        (f"witness none {vkey('X1')}\n", "the name 'none' is taken"),
        (f"witness a {LOG}\n", "is a log's, of type 0x01"),
        ("witness a nonsense\n", "not a verifier key"),
        (f"witness a {vkey('X1')}x\n", "not a verifier key"),
        (f"log {LOG}\nlog {LOG} https://a\n", "line 2 of the policy: the key of"),
        ("group g 1 a\n", "'a' is not named"),
        (f"witness a {vkey('X1')}\ngroup g 2 a\n", "'2' of 1 members cannot be asked for"),
        (f"witness a {vkey('X1')}\ngroup g 0 a\n", "'0' of 1 members cannot be asked for"),
        (f"witness a {vkey('X1')}\ngroup g 1 a a\n", "a is a member already"),
        (f"witness a {vkey('X1')}\ngroup a 1 a\n", "the name 'a' is taken"),
        (f"witness a {vkey('X1')}\ngroup g 1 none\n", "'none' is not named"),
        (f"witness a {vkey('X1')}\r\nquorum a\r\n", "line 1 of the policy holds the byte 0x0d"),
        ("trust everybody\n", "'trust' is no keyword"),
        ("quorum none\n" * 60_000, "bytes; 524288 are allowed"),
    ],
)
def test_a_wrong_policy_names_its_line(file: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_policy(file.encode())
    assert words in str(caught.value)


def test_names_are_opaque_bytes() -> None:
    file = b"witness \xffk " + str(vkey("X1")).encode() + b" # url\nquorum \xffk\n"
    with pytest.raises(InputError, match="4 words, not 2 to 3"):
        parse_policy(file)
    policy = parse_policy(file.replace(b" # url", b""))
    assert asked(policy) == "\\xffk"
    assert parse_policy(format_policy(policy)) == policy


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_garbage_is_refused_with_words(data: bytes) -> None:
    try:
        policy = parse_policy(data)
    except InputError as error:
        assert error.message
    else:
        assert parse_policy(format_policy(policy)) == policy


def test_deep_groups_and_random_changes_give_words_or_policies() -> None:
    rows = [f"witness w {vkey('X1')}", "group g0 any w"]
    rows += [f"group g{at} all g{at - 1}" for at in range(1, 64)]
    deep = parse_policy("\n".join([*rows, "quorum g63\n"]).encode())
    assert isinstance(deep.quorum, Group)
    assert judge(deep, Note(TEXT, (line("X1"),))).satisfied
    assert not judge(deep, Note(TEXT, (line("X2"),))).satisfied
    assert parse_policy(format_policy(deep)) == deep
    with pytest.raises(InputError, match="more than 64 deep"):
        parse_policy("\n".join([*rows, "group more any g63", "quorum more"]).encode())
    dice = random.Random(8)
    for _ in range(2000):
        broken = bytearray(EXAMPLE.encode())
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        try:
            judge(parse_policy(bytes(broken)), Note(TEXT, (LOG_LINE, line("X1"))))
        except InputError as error:
            assert "line" in error.message
