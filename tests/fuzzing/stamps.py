"""Targets for timestamps: what an authority may answer, and certificates that readers trust."""

from __future__ import annotations

from dataclasses import replace

from stamping import Maker, Stamp

from tallystick.protocol.errors import FormatError, TallyError
from tallystick.protocol.timestamps import (
    check_chain,
    check_token,
    parse_response,
    parse_trusted,
)

NOTE = b"what both signed\n\n"
MAKER = Maker()
RESPONSES = [
    MAKER.response(Stamp(NOTE)),
    MAKER.response(Stamp(NOTE, nonce=7), (MAKER.root_der, MAKER.der)),
]
_TRUSTED = [MAKER.root_der]
_SIGNED = [replace(parse_response(one), enclosed=b"") for one in RESPONSES]


def timestamps(data: bytes) -> None:
    """Any answer: refused by an error of ours, or it says what the authority signed."""
    try:
        token = parse_response(data)
        token.said().encode()
        check_token(token, NOTE)
        check_chain(data, NOTE, _TRUSTED)
    except TallyError as error:
        error.message.encode()
        return
    assert replace(token, enclosed=b"") in _SIGNED


def trusted(data: bytes) -> None:
    """Any file of certificates: refused, or it holds some."""
    try:
        assert parse_trusted(data)
    except FormatError:
        return
