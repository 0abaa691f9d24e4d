"""The witness protocol: requests, a witness's decision and a log's reading of the answer."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.heads import Head, head_text
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey
from tallystick.protocol.merkle import EMPTY_ROOT, consistency_path, leaf_hash, root_of
from tallystick.protocol.notes import Note, Signature, parse_note, sign_note
from tallystick.protocol.witness import (
    NOTHING_SEEN,
    PROOF_LINES_MAX,
    REQUEST_BYTES_MAX,
    AddCheckpoint,
    Behind,
    Refused,
    Seen,
    cosign_checkpoint,
    examine,
    format_request,
    origin_hash,
    parse_request,
    read_answer,
)

TIME_SECONDS = 1_793_491_200
ORIGIN = "acme.example/log"
KEY, OTHER = SigningKey(b"l" * 32), SigningKey(b"o" * 32)
LOG = Vkey(ORIGIN, ED25519_NOTE, bytes(KEY.verify_key))
WITNESS_KEY = SigningKey(b"w" * 32)
WITNESS = Vkey("w.example", ED25519_COSIGNATURE, bytes(WITNESS_KEY.verify_key))
LEAVES = [leaf_hash(bytes([at])) for at in range(100)]

# The example request of the specification, whose lines must be taken as they are.
EXAMPLE = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzG\
ku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw\
6QUXTS5Rovnzv++qbSzm9Q=
""".encode()


def text_of(size: int, extra: str = "") -> str:
    return head_text(Head(ORIGIN, size, root_of(LEAVES[:size]) if size else EMPTY_ROOT)) + extra


def request(old: int, size: int, key: SigningKey = KEY, text: str = "") -> AddCheckpoint:
    path = consistency_path(old, size, lambda a, b: root_of(LEAVES[a:b])) if old <= size else []
    text = text or text_of(size)
    return AddCheckpoint(old, tuple(path), Note(text, (sign_note(text, ORIGIN, key),)))


def seen(size: int) -> Seen:
    return Seen(size, root_of(LEAVES[:size]))


def status_of(made: AddCheckpoint, at: Seen, vkeys: tuple[Vkey, ...] = (LOG,)) -> int:
    try:
        examine(parse_request(format_request(made)), vkeys, at)
    except Refused as refused:
        assert refused.body.endswith(b"\n")
        return refused.status
    return 200


def test_the_specifications_example_is_read_and_written() -> None:
    made = parse_request(EXAMPLE)
    assert (made.old_size, len(made.proof), made.head.size) == (20852014, 4, 20852163)
    assert made.head.origin == "example.com/behind-the-sofa"
    assert format_request(made) == EXAMPLE


def test_every_prefix_of_a_log_is_followed() -> None:
    for old in range(40):
        for size in range(max(old, 1), 40):
            at = seen(old) if old else NOTHING_SEEN
            assert status_of(request(old, size), at) == 200


def test_each_refusal_has_the_specifications_status() -> None:
    good = request(5, 9)
    assert status_of(good, seen(5)) == 200
    assert status_of(good, seen(5), ()) == 404
    assert status_of(request(5, 9, OTHER), seen(5)) == 403
    assert status_of(request(5, 4), seen(5)) == 400
    assert status_of(good, seen(6)) == 409
    assert status_of(good, NOTHING_SEEN) == 409
    assert status_of(request(0, 9), seen(5)) == 409
    assert status_of(AddCheckpoint(5, (), good.checkpoint), seen(5)) == 422
    assert status_of(AddCheckpoint(5, good.proof[:-1], good.checkpoint), seen(5)) == 422
    assert status_of(good, Seen(5, bytes(32))) == 422
    assert status_of(AddCheckpoint(0, good.proof, good.checkpoint), NOTHING_SEEN) == 422
    assert status_of(request(9, 9), seen(9)) == 200
    assert status_of(request(9, 9), Seen(9, bytes(32))) == 422
    assert status_of(AddCheckpoint(9, good.proof, request(9, 9).checkpoint), seen(9)) == 422
    assert status_of(request(0, 0), NOTHING_SEEN) == 200
    wrong = head_text(Head(ORIGIN, 0, bytes(32)))
    assert status_of(request(0, 0, text=wrong), NOTHING_SEEN) == 422


def test_the_size_comes_with_a_conflict() -> None:
    with pytest.raises(Refused) as caught:
        examine(request(5, 9), (LOG,), seen(7))
    assert (caught.value.body, caught.value.content_type) == (b"7\n", "text/x.tlog.size")


def test_lines_of_unknown_keys_are_passed_over_and_a_false_one_of_a_known_key_is_not() -> None:
    good = request(5, 9)
    stranger = Signature(ORIGIN, b"abcd", bytes(64))
    note = Note(good.checkpoint.text, (stranger, *good.checkpoint.signatures))
    assert status_of(AddCheckpoint(5, good.proof, note), seen(5)) == 200
    false = Signature(ORIGIN, LOG.id, bytes(64))
    note = Note(good.checkpoint.text, (*good.checkpoint.signatures, false))
    assert status_of(AddCheckpoint(5, good.proof, note), seen(5)) == 403


def test_extension_lines_are_signed_and_not_read() -> None:
    text = text_of(9, "an extension\n")
    assert status_of(request(5, 9, text=text), seen(5)) == 200
    line = cosign_checkpoint(text, WITNESS.name, WITNESS_KEY, TIME_SECONDS)
    answer = read_answer(200, "text/plain", line.line().encode(), text, [WITNESS])
    assert answer != () and not isinstance(answer, Behind)
    with pytest.raises(ProofError):
        read_answer(200, "text/plain", line.line().encode(), text_of(9), [WITNESS])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 5\n",
        b"old 05\n\n",
        b"old -1\n\n",
        b"new 5\n\n",
        b"old 9223372036854775808\n\n",
        b"old 5\r\n\n",
        EXAMPLE.replace(b"old", b"Old"),
        EXAMPLE.replace(b"kaw=\n", b"kax=\n"),
        EXAMPLE.replace(b"kaw=\n", b"kaw=\n\n"),
        EXAMPLE.replace(b"20852163", b"020852163"),
        EXAMPLE.replace(b"20852163", b"99999999999999999999"),
        EXAMPLE.replace(b"example.com/behind-the-sofa\n", b"x" * 2000 + b"\n", 1),
        EXAMPLE[:-1],
        EXAMPLE + b"x" * REQUEST_BYTES_MAX,
        b"old 5\n" + (base64.b64encode(bytes(32)) + b"\n") * (PROOF_LINES_MAX + 1) + b"\n",
    ],
)
def test_a_malformed_request_is_a_400(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_request(body)
    assert caught.value.status == 400


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255))
def test_any_changed_byte_gives_a_400_or_a_request_that_reads_so(at: int, value: int) -> None:
    changed = EXAMPLE[:at] + bytes([value]) + EXAMPLE[at + 1 :]
    try:
        made = parse_request(changed)
    except Refused as refused:
        assert refused.status == 400
    else:
        assert format_request(made) == changed


def test_a_cosignature_is_read_back() -> None:
    text = text_of(9)
    line = cosign_checkpoint(text, WITNESS.name, WITNESS_KEY, TIME_SECONDS)
    stranger = cosign_checkpoint(text, "x.example", OTHER, TIME_SECONDS)
    body = (stranger.line() + line.line()).encode()
    answer = read_answer(200, "text/plain", body, text, [WITNESS])
    assert not isinstance(answer, Behind)
    assert [(one.vkey, one.line, one.at_s) for one in answer] == [(WITNESS, line, TIME_SECONDS)]
    note = parse_note(text.encode() + b"\n" + line.line().encode())
    assert note.signatures == (line,)


def test_what_no_witness_answers_is_refused() -> None:
    text = text_of(9)
    line = cosign_checkpoint(text, WITNESS.name, WITNESS_KEY, TIME_SECONDS).line().encode()
    other = cosign_checkpoint(text_of(8), WITNESS.name, WITNESS_KEY, TIME_SECONDS).line().encode()
    timeless = cosign_checkpoint(text, WITNESS.name, WITNESS_KEY, 0).line().encode()
    stranger = cosign_checkpoint(text, "x.example", OTHER, TIME_SECONDS).line().encode()
    for body in (b"", b"\n", b"hello\n", line[:-1], b"\n" + line, line + b"\n" + line, b"\xff"):
        with pytest.raises(FormatError):
            read_answer(200, "text/plain", body, text, [WITNESS])
    for body in (other, line + other, timeless, stranger):
        with pytest.raises(ProofError):
            read_answer(200, "text/plain", body, text, [WITNESS])
    with pytest.raises(FormatError):
        read_answer(200, "text/plain", line * 1000, text, [WITNESS])
    for body in (b"7", b"07\n", b"7\n\n", b"-7\n", b"99999999999999999999\n", b""):
        with pytest.raises(FormatError):
            read_answer(409, "text/x.tlog.size", body, text, [WITNESS])
    assert read_answer(409, "text/x.tlog.size", b"7\n", text, [WITNESS]) == Behind(7)
    for status in (400, 403, 404, 409, 422, 500, 302):
        with pytest.raises(Refused) as caught:
            read_answer(status, "text/html", b"<b>\x1b[31m\n", text, [WITNESS])
        assert caught.value.status == status
        assert "\x1b" not in caught.value.message


def test_a_logs_monitoring_name_is_its_origins_hash() -> None:
    assert origin_hash("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
