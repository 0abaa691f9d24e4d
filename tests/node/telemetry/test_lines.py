"""The node's log: one line an event, nothing forged in it, nothing secret."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.config import Log
from tallystick.node.telemetry.lines import Lines, escaped
from tallystick.protocol.pairing import Invite

SEED = "5e" * 32
_log = logging.getLogger("tallystick.example")


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self) -> bool:
        return True


@contextmanager
def _lines(stream: io.StringIO, **settings: str) -> Iterator[Lines]:
    lines = Lines(Log(**settings), [SEED], stream)  # type: ignore[arg-type]
    try:
        yield lines
    finally:
        lines.close()


def _written(terminal: bool = False, **settings: str) -> tuple[io.StringIO, Lines]:
    stream = Terminal() if terminal else io.StringIO()
    with _lines(stream, **settings) as lines:
        _log.warning("the link ends", extra={"peer": "beta.example", "size": 7})
    return stream, lines


def test_machines_get_json() -> None:
    stream, lines = _written()
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "the link ends",
        "level": "warning",
        "logger": "tallystick.example",
        "peer": "beta.example",
        "size": 7,
    }
    assert lines.counts == {"warning": 1}


def test_people_get_a_line() -> None:
    stream, _ = _written(terminal=True)
    assert stream.getvalue().endswith("peer=beta.example size=7\n")
    assert "the link ends" in stream.getvalue()
    assert "\x1b[33mwarning" in stream.getvalue()


def test_the_format_is_a_setting() -> None:
    assert json.loads(_written(terminal=True, format="json")[0].getvalue())
    text = _written(format="text")[0].getvalue()
    assert "{" not in text
    assert "\x1b" not in text


def test_the_level_is_a_setting() -> None:
    stream = io.StringIO()
    with _lines(stream, level="error") as lines:
        _log.warning("quiet")
        _log.error("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]
    assert lines.counts == {"error": 1}


def test_libraries_write_the_same_lines() -> None:
    stream = io.StringIO()
    with _lines(stream), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("hypercorn.error").error("a library says %s of %d", "something", 3)
        warnings.warn("a library warns", stacklevel=1)
    said, warned = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (said["event"], said["logger"]) == ("a library says something of 3", "hypercorn.error")
    assert "a library warns" in warned["event"]


def test_nothing_is_left_behind() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    _written()
    assert (root.level, list(root.handlers)) == before


FORGED = (
    'x\n2026-01-01 00:00:00 error   the node was broken into peer="y"\r\x1b[2J\u2028\u202e\x9b1m'
)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_peers_words_cannot_forge_a_line(form: str) -> None:
    stream = io.StringIO()
    with _lines(stream, format=form):
        _log.warning("the peer closed the session", extra={"reason": FORGED, "peer": FORGED})
        _log.warning(FORGED)
        _log.warning("said %s", FORGED)
    assert len(stream.getvalue().splitlines()) == 3
    assert all(line.isprintable() for line in stream.getvalue().splitlines())


def test_keys_and_values_can_be_told_apart() -> None:
    stream = io.StringIO()
    with _lines(stream, format="text"):
        _log.warning("e", extra={"reason": 'a" peer="evil', "peer": "b\\"})
    assert stream.getvalue().endswith('reason="a\\" peer=\\"evil" peer="b\\\\"\n')


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_stays_with_its_line_and_shows_no_variable(form: str) -> None:
    stream = io.StringIO()
    with _lines(stream, format=form):
        hidden = "a-value-that-only-a-variable-has" * 2
        try:
            raise ZeroDivisionError(f"with a\nforged line, {len(hidden)}")
        except ZeroDivisionError:
            _log.exception("it failed inside the node")
    text = stream.getvalue()
    assert "ZeroDivisionError" in text
    assert hidden not in text
    if form == "json":
        assert "forged line" in json.loads(text)["exception"]
    else:
        assert all(line.startswith("    | ") for line in text.splitlines()[1:])


def _code() -> str:
    keys = [bytes([n]) * 32 for n in range(3)]
    return Invite("acme.example", *keys, "127.0.0.1:1", b"s" * 16, 1).encode()


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_left_out(form: str) -> None:
    stream = io.StringIO()
    secrets = [SEED, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw", _code(), "0123456789abcdefghij"]
    with _lines(stream, format=form):
        for secret in secrets[:3]:
            _log.warning("joined with %s", secret)
            _log.warning("joined", extra={"reason": f"of {secret}, too"})
        for name in ("seed", "webhook_secret", "api_token", "authorization", "passphrase", "code"):
            _log.warning("e", extra={name: secrets[3]})
        _log.warning("a request with Authorization: Bearer %s", secrets[3])
        try:
            raise ValueError(f"bad seed {SEED}")
        except ValueError:
            _log.exception("it failed inside the node")
    text = stream.getvalue()
    assert len(text.splitlines()) >= 14
    assert not [secret for secret in secrets if secret in text]
    assert text.count("(secret)") >= 14


def test_a_peer_that_says_much_is_cut_short() -> None:
    stream = io.StringIO()
    with _lines(stream):
        _log.warning("e", extra={"reason": "x" * 1_000_000})
    assert len(stream.getvalue()) < 5_000
    assert "1000000 characters" in stream.getvalue()


@given(st.text())
def test_what_is_escaped_is_one_printable_line(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(escaped(text)) == escaped(text)


@given(st.dictionaries(st.sampled_from(["peer", "reason", "size"]), st.text() | st.binary()))
def test_any_value_gives_one_line_of_json(values: dict[str, object]) -> None:
    stream = io.StringIO()
    with _lines(stream):
        _log.info("e", extra=values)
    assert len(stream.getvalue().splitlines()) == 1
    assert set(json.loads(stream.getvalue())) >= set(values)
