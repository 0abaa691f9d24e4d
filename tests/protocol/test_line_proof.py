"""Proof of one balance line, without the others."""

from __future__ import annotations

import pytest
from builders import Channel, busy_channel

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.line_proof import (
    build_line_proof,
    format_line_proof,
    parse_line_proof,
    verify_line_proof,
)
from tallystick.protocol.statement import encode_line

BUSY = busy_channel()
OCTOBER, NOVEMBER = BUSY.closed


def proved(index: int) -> tuple[bytes, bytes]:
    text = build_line_proof(NOVEMBER.lines, index, NOVEMBER.note)
    return text, encode_line(NOVEMBER.lines[index])


def test_each_line_of_a_statement_is_provable() -> None:
    for index, line in enumerate(NOVEMBER.lines):
        verified = verify_line_proof(*proved(index), Keyring(BUSY.terms))
        assert verified.line == line
        assert verified.checkpoint == NOVEMBER.checkpoint


def test_a_statement_of_one_line_has_an_empty_path() -> None:
    channel = Channel()
    channel.provider_log.delta("a", "gpu-hours", 5)
    closed = channel.close()
    text = build_line_proof(closed.lines, 0, closed.note)
    assert text == b"tallystick line-proof v1\nindex 0\n\n" + closed.note
    verify_line_proof(text, encode_line(closed.lines[0]), Keyring(channel.terms))


def test_the_text_reads_back() -> None:
    text, _ = proved(1)
    proof = parse_line_proof(text)
    assert (proof.index, proof.note) == (1, NOVEMBER.note)
    assert format_line_proof(proof.index, proof.path, proof.note) == text


def test_no_changed_byte_goes_unnoticed() -> None:
    text, line = proved(0)
    for position in range(len(text)):
        changed = bytearray(text)
        changed[position] ^= 1 << position % 8
        with pytest.raises((FormatError, ProofError)):
            verify_line_proof(bytes(changed), line, Keyring(BUSY.terms))
    for position in range(len(line)):
        changed = bytearray(line)
        changed[position] ^= 1 << position % 8
        with pytest.raises((FormatError, ProofError)):
            verify_line_proof(text, bytes(changed), Keyring(BUSY.terms))


def test_a_proof_of_another_line_or_channel_does_not_hold() -> None:
    text, _ = proved(0)
    with pytest.raises(ProofError):
        verify_line_proof(text, encode_line(NOVEMBER.lines[1]), Keyring(BUSY.terms))
    other = Channel(calendar="day")
    with pytest.raises(ProofError):
        verify_line_proof(*proved(0), Keyring(other.terms))


def test_lines_that_the_checkpoint_does_not_close_are_refused() -> None:
    with pytest.raises(ProofError, match="not the lines that the checkpoint of 2026-11 closes"):
        build_line_proof(OCTOBER.lines, 0, NOVEMBER.note)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"tallystick line-proof v2\nindex 0\n\n",
        b"tallystick line-proof v1\nindex 01\n\n",
        b"tallystick line-proof v1\nindex -1\n\n",
        b"tallystick line-proof v1\nindex 0\r\n\r\n",
        b"tallystick line-proof v1\nindex 0\n" + b"A" * 44 + b"\n\n",
        b"tallystick line-proof v1\nindex 0\n" + b"A" * 42 + b"==\n\n",
        b"tallystick line-proof v1\nindex 0\n" + b"A" * 42 + b"B=\n\n",
        b"tallystick line-proof v1\nindex 0\n" + (b"A" * 43 + b"=\n") * 65 + b"\n",
        b"tallystick line-proof v1\nindex \xff\n\n",
    ],
)
def test_other_texts_are_no_proof(text: bytes) -> None:
    with pytest.raises(FormatError):
        parse_line_proof(text)


def test_an_index_beyond_the_statement_does_not_hold() -> None:
    text = format_line_proof(10**18, (), NOVEMBER.note)
    with pytest.raises(ProofError):
        verify_line_proof(text, encode_line(NOVEMBER.lines[0]), Keyring(BUSY.terms))
