"""Foreign bytes at a real node's real socket: each gets its answer, and the node goes on."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodes
import pytest
import trio
from impostor import Impostor

from tallystick.node.books import Books
from tallystick.node.home import open_home
from tallystick.node.transport import tls
from tallystick.protocol.framing import frame
from tallystick.protocol.messages import (
    PROTOCOL_VERSION,
    Accusation,
    Append,
    Bye,
    Cosign,
    Halt,
    Hello,
    Holding,
    Message,
    encode_message,
)
from tallystick.protocol.records import Delta, Terms, batch_bytes, encode_record


@contextmanager
def _only_acme(tmp_path: Path) -> Iterator[tuple[nodes.Party, Impostor]]:
    with nodes.channel(tmp_path) as (acme, beta):
        beta.stop()
        yield acme, Impostor(acme, beta)


def _bye(heard: list[Message]) -> str:
    byes = [message for message in heard if isinstance(message, Bye)]
    return byes[0].code if byes else ""


@pytest.fixture(scope="module")
def acme_and_impostor(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[nodes.Party, Impostor]]:
    with _only_acme(tmp_path_factory.mktemp("hostile")) as both:
        yield both


def _cases(impostor: Impostor) -> dict[str, tuple[list[bytes], str]]:
    hello = impostor.hello()
    holding = Holding(impostor.channel, 0, impostor.own_size, 0, bytes(32), b"", b"")
    other = Holding(bytes(32), 0, 0, 0, bytes(32), b"", b"")
    delta = Delta("x", "context-tokens", "s", 1, 1, 1, None)
    batch = batch_bytes([encode_record(delta)])
    ahead = Append(impostor.channel, 99, batch, bytes(64))
    never_sent = Cosign(impostor.channel, 5, bytes(72))
    padded = encode_message(holding)
    return {
        "an earlier version": ([impostor.hello(version=1)], "version"),
        "a later version": ([impostor.hello(version=4)], "version"),
        "another party's name": ([impostor.hello(party="gamma.example")], "wrong-party"),
        "no hello": ([frame(encode_message(holding))], "out-of-order"),
        "hello twice": ([hello, hello], "out-of-order"),
        "garbage": ([hello, frame(b"\xc1garbage")], "malformed"),
        "an empty frame": ([hello, bytes(4)], "malformed"),
        "a huge frame": ([hello, b"\xff\xff\xff\xff"], "malformed"),
        "trailing bytes": ([hello, frame(padded + b"\x00")], "malformed"),
        "another spelling": ([hello, frame(b"\xdc\x00\x08" + padded[1:])], "malformed"),
        "a strange channel": ([hello, frame(encode_message(other))], "wrong-channel"),
        "records ahead": (
            [hello, frame(encode_message(holding)), frame(encode_message(ahead))],
            "out-of-order",
        ),
        "a co-signature never asked for": (
            [hello, frame(encode_message(holding)), frame(encode_message(never_sent))],
            "out-of-order",
        ),
        "evidence that is none": (
            [hello, frame(encode_message(Accusation(b"tallystick evidence v1\n")))],
            "bad-evidence",
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        "an earlier version", "a later version", "another party's name", "no hello",
        "hello twice", "garbage", "an empty frame", "a huge frame",
        "trailing bytes", "another spelling", "a strange channel", "records ahead",
        "a co-signature never asked for", "evidence that is none",
    ],
)  # fmt: skip
def test_a_breach_ends_the_session_with_its_name(
    acme_and_impostor: tuple[nodes.Party, Impostor], case: str
) -> None:
    acme, impostor = acme_and_impostor
    bodies, code = _cases(impostor)[case]
    assert _bye(trio.run(impostor.talk, *bodies)) == code
    assert acme.json("status")["channels"][0]["state"] == "confirming"


def test_a_truncated_frame_is_waited_for_and_forgotten(
    acme_and_impostor: tuple[nodes.Party, Impostor],
) -> None:
    acme, impostor = acme_and_impostor
    heard = trio.run(impostor.talk, impostor.hello(), frame(b"x" * 100)[:50])
    assert _bye(heard) == ""
    assert acme.json("status")["running"]


def test_a_clock_an_hour_wrong_is_reported_and_nothing_else(
    acme_and_impostor: tuple[nodes.Party, Impostor],
) -> None:
    acme, impostor = acme_and_impostor
    holding = Holding(impostor.channel, 0, impostor.own_size, 0, bytes(32), b"", b"")
    heard = trio.run(impostor.talk, impostor.hello(skew=3600), frame(encode_message(holding)))
    assert _bye(heard) == ""
    log = (acme.home.parent / f"{acme.name}.log").read_text()
    # The hello has whole seconds, so up to one is lost on the way.
    (said,) = [line for line in map(json.loads, log.splitlines()) if "clocks" in line["event"]]
    assert said["peer"] == "beta.example"
    assert said["seconds"] in (3599, 3600)


def test_an_invalid_record_halts_the_channel_and_stores_nothing(tmp_path: Path) -> None:
    with _only_acme(tmp_path) as (acme, impostor):
        # The consumer records nothing under these terms, so any delta of its is invalid.
        delta = Delta("x", "context-tokens", "s", 1, 1, 2**50, None)
        batch = batch_bytes([encode_record(delta)])
        append = Append(impostor.channel, impostor.own_size, batch, bytes(64))
        holding = Holding(impostor.channel, 0, impostor.own_size, 0, bytes(32), b"", b"")
        heard = trio.run(
            impostor.talk,
            impostor.hello(),
            frame(encode_message(holding)),
            frame(encode_message(append)),
        )
        halts = [message for message in heard if isinstance(message, Halt)]
        assert "does not record the meter" in halts[0].reason
        channel = acme.json("status")["channels"][0]
        assert channel["state"] == "halted"
        assert channel["theirs"]["size"] == impostor.own_size
        refused = acme.tally(
            "emit", "context-tokens", "1", "--subject", "s", "--id", "x", check=False
        )
        assert refused.returncode == 2
        assert "halted" in refused.stderr


def test_a_head_that_its_author_did_not_sign_halts_the_channel(tmp_path: Path) -> None:
    with _only_acme(tmp_path) as (acme, impostor):
        books = Books.open(open_home(acme.home), read_only=True)
        terms = next(iter(books.channels.values()))[0].terms
        books.close()
        assert isinstance(terms, Terms)
        # A claim about acme's own log, under a signature that acme never made.
        holding = Holding(impostor.channel, 0, impostor.own_size, 1, bytes(32), bytes(64), b"")
        heard = trio.run(impostor.talk, impostor.hello(), frame(encode_message(holding)))
        assert any(isinstance(m, Halt) and "never signed" in m.reason for m in heard)
        assert acme.json("status")["channels"][0]["state"] == "halted"


def test_plain_text_half_open_and_strangers_do_not_disturb(pair: tuple[nodes.Party, ...]) -> None:
    acme, beta = pair
    host, port = acme.address.rsplit(":", 1)
    idle = [socket.create_connection((host, int(port))) for _ in range(20)]
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.settimeout(5)
        plain.recv(100)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([tls.ALPN_SESSION])
    with (
        socket.create_connection((host, int(port))) as raw,
        context.wrap_socket(raw) as stranger,
    ):
        stranger.settimeout(5)
        stranger.sendall(frame(encode_message(Hello(PROTOCOL_VERSION, "beta.example", 0, ""))))
        with _ignored():
            assert stranger.recv(100) == b""
    acme.tally("emit", "context-tokens", "1", "--subject", "s", "--id", "undisturbed", "--wait")
    for connection in idle:
        connection.close()
    assert beta.json("show", "undisturbed")["deltas"][0]["cosigned"]


@contextmanager
def _ignored() -> Iterator[None]:
    """A refusal may come as a closed connection or as an alert."""
    try:
        yield
    except (ssl.SSLError, ConnectionError):
        return
