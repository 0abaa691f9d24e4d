"""Notes as c2sp.org/signed-note writes them: its example, round trips, and what is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey, key_id, parse_vkey
from tallystick.protocol.notes import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Note,
    Signature,
    cosigned_message,
    format_note,
    parse_note,
    sign_note,
    verify_note_cosignature,
    verify_note_signature,
)

# The example of the specification, vkey and note.
EXAMPLE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ON"
    "ncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# An example with empty lines and more than ASCII in its text; its key is not published there.
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU"
    "0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()

KEY = SigningKey(b"k" * 32)
NAME = "acme.example"
LOG = Vkey(NAME, ED25519_NOTE, bytes(KEY.verify_key))
COSIGNER_KEY = SigningKey(b"c" * 32)
COSIGNER = Vkey("beta.example", ED25519_COSIGNATURE, bytes(COSIGNER_KEY.verify_key))
TEXT = "one line\n\nand another\n"
TIME_SECONDS = 1_793_491_200
LINE = Signature(NAME, b"\0\1\2\3", b"blob").line()

characters = st.characters(codec="utf-8", min_codepoint=0x20)
texts = st.text(characters | st.just("\n")).map(lambda text: text + "\n")
names = st.text(characters.filter(lambda c: not c.isspace() and c != "+"), min_size=1)
signatures = st.builds(
    Signature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=90)
)
notes = st.builds(Note, texts, st.lists(signatures, min_size=1, max_size=4).map(tuple))


def cosign(text: str, timestamp_s: int) -> Signature:
    """A cosignature made by hand, after c2sp.org/tlog-cosignature."""
    message = b"cosignature/v1\ntime %d\n%b" % (timestamp_s, text.encode())
    blob = timestamp_s.to_bytes(8, "big") + COSIGNER_KEY.sign(message).signature
    return Signature(COSIGNER.name, COSIGNER.id, blob)


def test_the_specifications_example_holds() -> None:
    note = parse_note(EXAMPLE_NOTE)
    assert note.text == "This is an example message.\n"
    verify_note_signature(note, parse_vkey(EXAMPLE_VKEY))


@pytest.mark.parametrize("data", [EXAMPLE_NOTE, POEM])
def test_the_specifications_notes_come_back_unchanged(data: bytes) -> None:
    assert format_note(parse_note(data)) == data


def test_a_text_may_hold_empty_lines() -> None:
    assert parse_note(POEM).text == POEM.decode().rpartition("\n\n")[0] + "\n"


@given(notes)
def test_notes_come_back_unchanged(note: Note) -> None:
    assert parse_note(format_note(note)) == note


@given(notes, st.data())
def test_a_changed_byte_is_refused_or_makes_another_note(note: Note, data: st.DataObject) -> None:
    whole = bytearray(format_note(note))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        other = parse_note(bytes(whole))
    except FormatError:
        return
    assert other != note
    assert format_note(other) == whole


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not end with a newline"),
        (f"a\n\n{LINE}".encode()[:-1], "does not end with a newline"),
        (b"a\n" + LINE.encode(), "no empty line between"),
        (LINE.encode(), "no empty line between"),
        (b"a\n\n", "no signature after"),
        (f"a\n\n{LINE}\n".encode(), "no signature after"),
        (b"a\xff\n\n" + LINE.encode(), "not UTF-8 at byte 1"),
        (f"a\nb\tc\n\n{LINE}".encode(), r"line 2 .* control character, '\\t'"),
        (f"a\r\n\r\n{LINE}".encode(), r"line 1 .* control character, '\\r'"),
        (f"a\n\n{LINE}rubbish\n".encode(), "line 4 .* not a signature line: 'rubbish'"),
        (f"a\n\nb\n\n— {NAME}\n".encode(), "line 5 .* not a signature line"),
        (f"a\n\n- {NAME} AAECA2Jsb2I=\n".encode(), "line 3 .* not a signature line"),
        (f"a\n\n—  {NAME} AAECA2Jsb2I=\n".encode(), "line 3 .* not a signature line"),
        (f"a\n\n— {NAME}  AAECA2Jsb2I=\n".encode(), "line 3 .* not a signature line"),
        (f"a\n\n— {NAME} AAECA2Jsb2I= \n".encode(), "line 3 .* not a signature line"),
        ("a\n\n— a+b AAECA2Jsb2I=\n".encode(), "line 3 .* not a signature line"),
        ("a\n\n— a\u00a0b AAECA2Jsb2I=\n".encode(), "line 3 .* not a signature line"),
        (f"a\n\n— {NAME} AAECA2Jsb2I-\n".encode(), "line 3 .* not a signature line"),
        (f"a\n\n— {NAME} AAECA2Jsb2I\n".encode(), "line 3: .* not base64"),
        (f"a\n\n— {NAME} AAECA2Jsb2J=\n".encode(), "line 3: .* not canonical"),
        (f"a\n\n— {NAME} AAECAw==\n".encode(), "line 3: .* too short"),
    ],
)
def test_what_a_note_is_not(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_note(data)


def test_a_note_has_bounds() -> None:
    most = f"a\n\n{LINE * SIGNATURES_MAX}".encode()
    assert len(parse_note(most).signatures) == SIGNATURES_MAX
    with pytest.raises(FormatError, match="101 signatures; 100 are allowed"):
        parse_note(most + LINE.encode())
    largest = "a" * (NOTE_BYTES_MAX - len(f"\n\n{LINE}".encode())) + f"\n\n{LINE}"
    parse_note(largest.encode())
    with pytest.raises(FormatError, match="a note of 1048577 bytes; 1048576 are allowed"):
        parse_note(b"a" + largest.encode())


def test_signing_names_the_key_and_signs_the_text() -> None:
    signature = sign_note(TEXT, NAME, KEY)
    assert signature == Signature(
        NAME, key_id(NAME, ED25519_NOTE, LOG.key), KEY.sign(TEXT.encode()).signature
    )
    verify_note_signature(Note(TEXT, (signature,)), LOG)


def test_a_signatures_line() -> None:
    material = base64.b64encode(b"\0\1\2\3blob").decode()
    assert Signature(NAME, b"\0\1\2\3", b"blob").line() == f"— {NAME} {material}\n"


def test_a_cosignature_gives_its_time() -> None:
    assert cosigned_message(TEXT, 7) == b"cosignature/v1\ntime 7\n" + TEXT.encode()
    note = Note(TEXT, (sign_note(TEXT, NAME, KEY), cosign(TEXT, TIME_SECONDS)))
    assert verify_note_cosignature(note, COSIGNER) == TIME_SECONDS
    verify_note_signature(note, LOG)


def test_lines_of_unknown_keys_are_ignored() -> None:
    own = sign_note(TEXT, NAME, KEY)
    other_key = sign_note(TEXT, NAME, COSIGNER_KEY)  # the same name, another id
    other_name = Signature("zeta.example", LOG.id, bytes(64))  # the same id, another name
    verify_note_signature(Note(TEXT, (other_name, other_key, own)), LOG)
    for strangers in ((), (other_name, other_key)):
        with pytest.raises(ProofError, match=f"no signature of {NAME}"):
            verify_note_signature(Note(TEXT, strangers), LOG)
        with pytest.raises(ProofError, match=r"no signature of beta\.example"):
            verify_note_cosignature(Note(TEXT, strangers), COSIGNER)


def test_one_bad_line_of_a_known_key_spoils_the_note() -> None:
    good, bad = sign_note(TEXT, NAME, KEY), sign_note(TEXT + "\n", NAME, KEY)
    for lines in ((good, bad), (bad, good)):
        with pytest.raises(ProofError, match="does not hold"):
            verify_note_signature(Note(TEXT, lines), LOG)


@pytest.mark.parametrize("length", [1, 63, 65, 72])
def test_a_signature_has_64_bytes(length: int) -> None:
    blob = (sign_note(TEXT, NAME, KEY).blob + bytes(8))[:length]
    with pytest.raises(ProofError, match="wrong length"):
        verify_note_signature(Note(TEXT, (Signature(NAME, LOG.id, blob),)), LOG)


def test_a_cosignature_has_72_bytes_and_a_time_that_is_allowed() -> None:
    blob = cosign(TEXT, TIME_SECONDS).blob
    assert verify_note_cosignature(Note(TEXT, (cosign(TEXT, 2**63 - 1),)), COSIGNER) == 2**63 - 1
    for wrong in (blob[:-1], blob + b"\0", blob[:8], cosign(TEXT, 2**63).blob):
        with pytest.raises(ProofError, match="wrong length or time"):
            verify_note_cosignature(
                Note(TEXT, (Signature(COSIGNER.name, COSIGNER.id, wrong),)), COSIGNER
            )


def test_every_bit_of_a_signature_counts() -> None:
    for line, vkey in ((sign_note(TEXT, NAME, KEY), LOG), (cosign(TEXT, TIME_SECONDS), COSIGNER)):
        verify = verify_note_signature if vkey is LOG else verify_note_cosignature
        for bit in range(len(line.blob) * 8):
            blob = bytearray(line.blob)
            blob[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ProofError):
                verify(Note(TEXT, (Signature(line.name, line.key_id, bytes(blob)),)), vkey)


def test_a_signature_is_not_a_cosignature() -> None:
    """The same key in both jobs: its lines have other ids, and what it signs begins otherwise."""
    as_cosigner = Vkey(NAME, ED25519_COSIGNATURE, LOG.key)
    note = Note(TEXT, (sign_note(TEXT, NAME, KEY),))
    with pytest.raises(ProofError, match="no signature"):
        verify_note_cosignature(note, as_cosigner)
    moved = bytes(8) + KEY.sign(TEXT.encode()).signature
    with pytest.raises(ProofError, match="does not hold"):
        verify_note_cosignature(Note(TEXT, (Signature(NAME, as_cosigner.id, moved),)), as_cosigner)
