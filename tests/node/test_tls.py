"""TLS between two ends on loopback: who gets in, and what is said to those who do not."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from builders import identity
from cryptography import x509

from tallystick.node.errors import PeerUnreachable
from tallystick.node.transport import tls
from tallystick.protocol.errors import FormatError
from tallystick.protocol.keys import Identity

ACME, BETA, GAMMA = identity("acme.example"), identity("beta.example"), identity("gamma.example")
IMPOSTOR = Identity.from_seed(BETA.name, b"i" * 32)
SECONDS = 5

Serve = Callable[[trio.SocketStream], Awaitable[None]]


def certificate(party: Identity) -> bytes:
    return tls.certificate_der(party.name, party.transport)


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


class Server:
    """Echoes once to whom it accepts, and keeps what `accept` said."""

    def __init__(self, home: Path, *paired: bytes) -> None:
        self._context = tls.server_context(ACME, certificate(ACME), paired, home)
        self.accepted: list[tuple[bytes | None, str | None]] = []
        self.refused: list[str] = []
        self.done = trio.Event()

    async def __call__(self, raw: trio.SocketStream) -> None:
        try:
            stream, key, alpn = await tls.accept(raw, self._context, SECONDS)
            self.accepted.append((key, alpn))
            await stream.send(await stream.receive())
            await stream.aclose()
        except PeerUnreachable as error:
            self.refused.append(error.message)
        finally:
            self.done.set()


def session(client: Identity, home: Path, server: Identity = ACME) -> ssl.SSLContext:
    return tls.session_context(client, certificate(client), certificate(server), home)


async def echo(address: str, context: ssl.SSLContext) -> bytes:
    stream = await tls.dial(address, context, ACME.transport_key, SECONDS)
    await stream.send(b"hello")
    answer = await stream.receive()
    assert await stream.receive() == b""
    await stream.aclose()
    return answer


# Certificates


def test_a_certificate_is_the_same_every_time_and_shows_its_key() -> None:
    assert certificate(ACME) == certificate(ACME)
    assert tls.certificate_key(certificate(ACME)) == ACME.transport_key


def test_a_certificate_holds_whatever_a_clock_says() -> None:
    made = x509.load_der_x509_certificate(certificate(ACME))
    assert made.not_valid_before_utc.year == 1970
    assert made.not_valid_after_utc.year == 9999


def test_the_longest_name_has_a_certificate() -> None:
    name = ".".join(["a" * 62] * 4)
    assert tls.certificate_key(tls.certificate_der(name, ACME.transport)) == ACME.transport_key


def test_a_changed_certificate_is_refused() -> None:
    der = certificate(ACME)
    for at in range(0, len(der), 7):
        changed = bytearray(der)
        changed[at] ^= 1
        with pytest.raises(FormatError):
            tls.certificate_key(bytes(changed))
    for other in (b"", b"garbage", der[:-1], der + b"\0"):
        with pytest.raises(FormatError):
            tls.certificate_key(other)


def test_no_private_key_stays_in_a_file(tmp_path: Path) -> None:
    session(BETA, tmp_path)
    tls.server_context(ACME, certificate(ACME), [], tmp_path)
    assert list(tmp_path.iterdir()) == []


# Who gets in


async def test_two_paired_nodes_talk_and_know_each_other(tmp_path: Path) -> None:
    server = Server(tmp_path, certificate(GAMMA), certificate(BETA))
    async with listening(server) as address:
        assert await echo(address, session(BETA, tmp_path)) == b"hello"
    assert server.accepted == [(BETA.transport_key, tls.ALPN_SESSION)]


async def test_hundreds_of_peers_can_be_trusted_at_once(tmp_path: Path) -> None:
    others = [certificate(identity(f"p{number}.example")) for number in range(300)]
    async with listening(Server(tmp_path, *others, certificate(BETA))) as address:
        assert await echo(address, session(BETA, tmp_path)) == b"hello"


@pytest.mark.parametrize("paired", [(), (GAMMA,)])
async def test_an_unknown_certificate_is_refused_and_both_sides_say_so(
    tmp_path: Path, paired: tuple[Identity, ...], caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(tmp_path, *(certificate(party) for party in paired))
    with caplog.at_level(logging.WARNING):
        async with listening(server) as address:
            stream = await tls.dial(address, session(BETA, tmp_path), ACME.transport_key, SECONDS)
            assert await stream.receive() == b""
            await stream.aclose()
            await server.done.wait()
    assert server.accepted == []
    assert "certificate is not the paired one" in server.refused[0]
    assert "may not know this node's certificate" in caplog.text


async def test_a_peer_under_anothers_name_neither_gets_in_nor_keeps_it_out(
    tmp_path: Path,
) -> None:
    for paired in ([IMPOSTOR, BETA], [BETA, IMPOSTOR]):
        server = Server(tmp_path, *(certificate(party) for party in paired))
        async with listening(server) as address:
            assert await echo(address, session(BETA, tmp_path)) == b"hello"
            assert await echo(address, session(IMPOSTOR, tmp_path)) == b"hello"
        assert [key for key, _ in server.accepted] == [
            BETA.transport_key,
            IMPOSTOR.transport_key,
        ]


async def test_a_server_with_another_key_is_not_talked_to(tmp_path: Path) -> None:
    async with listening(Server(tmp_path, certificate(BETA))) as address:
        with pytest.raises(PeerUnreachable, match="not the node that it should be"):
            context = session(BETA, tmp_path, server=GAMMA)
            await tls.dial(address, context, GAMMA.transport_key, SECONDS)
        with pytest.raises(PeerUnreachable, match="its key is another"):
            await tls.dial(address, tls.pairing_context(), GAMMA.transport_key, SECONDS)


async def test_a_joiner_shows_no_certificate(tmp_path: Path) -> None:
    server = Server(tmp_path, certificate(BETA))
    async with listening(server) as address:
        assert await echo(address, tls.pairing_context()) == b"hello"
    assert server.accepted == [(None, tls.ALPN_PAIRING)]


async def test_no_session_without_a_certificate(tmp_path: Path) -> None:
    context = tls.pairing_context()
    context.set_alpn_protocols([tls.ALPN_SESSION])
    server = Server(tmp_path, certificate(BETA))
    async with listening(server) as address:
        stream = await tls.dial(address, context, ACME.transport_key, SECONDS)
        assert await stream.receive() == b""
        await stream.aclose()
    assert server.accepted == []
    assert "without a certificate" in server.refused[0]


async def test_another_protocol_version_is_named(tmp_path: Path) -> None:
    context = session(BETA, tmp_path)
    context.set_alpn_protocols(["tallystick/9"])
    async with listening(Server(tmp_path, certificate(BETA))) as address:
        with pytest.raises(PeerUnreachable, match="another version"):
            await tls.dial(address, context, ACME.transport_key, SECONDS)


async def test_older_tls_is_refused(tmp_path: Path) -> None:
    context = tls.pairing_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = Server(tmp_path)
    async with listening(server) as address:
        with pytest.raises(PeerUnreachable):
            await tls.dial(address, context, ACME.transport_key, SECONDS)
    assert server.accepted == []


# What else can be at the other end


@pytest.mark.parametrize(
    "address",
    ["", "acme.example", "acme.example:", ":7450", "acme:99999", "a\0b:1", "x" * 70 + ":1"],
)
async def test_a_bad_address_is_unreachable_and_nothing_else(address: str) -> None:
    with pytest.raises(PeerUnreachable):
        await tls.dial(address, tls.pairing_context(), ACME.transport_key, SECONDS)


async def test_refused(tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(PeerUnreachable, match="connection refused"):
        await tls.dial(f"127.0.0.1:{port}", tls.pairing_context(), ACME.transport_key, SECONDS)


async def test_a_service_without_tls_is_named() -> None:
    async def speak_http(raw: trio.SocketStream) -> None:
        await raw.receive_some(1000)
        await raw.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await raw.receive_some(1000)

    async with listening(speak_http) as address:
        with pytest.raises(PeerUnreachable, match="does not speak TLS"):
            await tls.dial(address, tls.pairing_context(), ACME.transport_key, SECONDS)


async def test_a_service_that_hangs_up_or_says_nothing_is_named() -> None:
    async def hang_up(raw: trio.SocketStream) -> None:
        await raw.receive_some(1000)
        await raw.aclose()

    async def say_nothing(raw: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with listening(hang_up) as address:
        with pytest.raises(PeerUnreachable, match="closed the connection during"):
            await tls.dial(address, tls.pairing_context(), ACME.transport_key, SECONDS)
    async with listening(say_nothing) as address:
        with pytest.raises(PeerUnreachable, match="did not answer within"):
            await tls.dial(address, tls.pairing_context(), ACME.transport_key, 0.1)


async def test_a_client_that_sends_garbage_or_nothing_does_not_stay(tmp_path: Path) -> None:
    context = tls.server_context(ACME, certificate(ACME), [], tmp_path)
    said = []

    async def serve(raw: trio.SocketStream) -> None:
        try:
            await tls.accept(raw, context, 0.2)
        except PeerUnreachable as error:
            said.append(error.message)

    async with listening(serve) as address:
        port = int(address.rpartition(":")[2])
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000, b""):
            raw = await trio.open_tcp_stream("127.0.0.1", port)
            async with raw:
                await raw.send_all(garbage)
                try:
                    while await raw.receive_some(1000):
                        pass
                except trio.BrokenResourceError:
                    continue
        with trio.fail_after(SECONDS):
            while len(said) < 3:
                await trio.sleep(0.01)
    assert "did not finish its handshake" in said[2]


async def test_closing_cannot_hang_and_an_abrupt_end_is_an_end(tmp_path: Path) -> None:
    context = tls.server_context(ACME, certificate(ACME), [], tmp_path)
    ends: list[bytes] = []

    async def serve(raw: trio.SocketStream) -> None:
        stream, _, _ = await tls.accept(raw, context, SECONDS)
        await stream.send(b"x")
        ends.append(await stream.receive())
        with pytest.raises(PeerUnreachable, match="broke"):
            while True:
                await stream.send(b"x" * 100_000)
        await stream.aclose()

    async with listening(serve) as address:
        stream = await tls.dial(address, tls.pairing_context(), ACME.transport_key, SECONDS)
        assert await stream.receive() == b"x"
        await trio.aclose_forcefully(stream._stream.transport_stream)
        await stream.aclose()
        with trio.fail_after(SECONDS):
            while not ends:
                await trio.sleep(0.01)
    assert ends == [b""]


# Keys that change


async def test_a_server_shows_the_key_that_is_asked_for(tmp_path: Path) -> None:
    second = ACME.signer("transport", 1)
    key, der = bytes(second.verify_key), tls.certificate_der(ACME.name, second)
    server = Server(tmp_path, certificate(BETA))
    other = tls.server_context(tls.Shown(second), der, [certificate(BETA)], tmp_path)
    names = {tls.server_name(key): other}
    tls.serve_by_name(server._context, names.get)
    async with listening(server) as address:
        for expected, shown in ((ACME.transport_key, certificate(ACME)), (key, der)):
            context = tls.session_context(BETA, certificate(BETA), shown, tmp_path)
            stream = await tls.dial(address, context, expected, SECONDS)
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
            await stream.aclose()
        stranger = session(GAMMA, tmp_path)  # the other context lets nobody else in, either
        stranger.load_verify_locations(cadata=der)
        stream = await tls.dial(address, stranger, key, SECONDS)
        assert await stream.receive() == b""
        await stream.aclose()
    assert server.accepted == [(BETA.transport_key, tls.ALPN_SESSION)] * 2
