"""One attempt, at receivers of every kind: it ends in time, reads little, and follows nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pacspace_sdk.webhooks import Webhooks
from receivers import Handler, Request, drip, endless, failing, hang, hang_up, receiver

from tallystick.node.config import WebhooksConfig
from tallystick.node.webhooks.endpoints import Endpoint, Secret
from tallystick.node.webhooks.sending import Outcome, Sender

BODY = b'{"id":"evt_1"}'
QUICK = WebhooksConfig(timeout_seconds=0.5)


def _endpoint(url: str) -> Endpoint:
    return Endpoint("whk_0011223344556677", url, [], "", 0, 0, [Secret("whsec_s")])


async def _send(url: str, config: WebhooksConfig = QUICK, times: int = 1) -> list[Outcome]:
    sender = Sender(_endpoint(url), config)
    try:
        return [await sender.send(BODY, "dispute.opened", "evt_1", n + 1) for n in range(times)]
    finally:
        await sender.aclose()


async def test_a_receiver_gets_body_names_and_signature() -> None:
    with receiver() as there:
        outcomes = await _send(there.url, WebhooksConfig(), times=3)
    assert {(one.ok, one.said) for one in outcomes} == {(True, "200")}
    for n, request in enumerate(there.requests, 1):
        assert request.raw.encode() == BODY
        assert request.headers["content-type"] == "application/json"
        assert request.headers["x-tallystick-event"] == "dispute.opened"
        assert request.headers["x-tallystick-delivery"] == "evt_1"
        assert request.headers["x-tallystick-attempt"] == str(n)
        assert Webhooks("whsec_s").verify_from_headers(request.headers, request.raw)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (failing(500, b"out of \x1b[31mdisk"), "500: out of  [31mdisk"),
        (failing(404, b""), "404"),
        (failing(302, b"", Location="http://127.0.0.1:1/elsewhere"), "302: it redirects"),
        (hang, "no answer within 0.5 seconds"),
        (drip, "no answer within 0.5 seconds"),
        (hang_up, "Server disconnected"),
    ],
)
async def test_what_is_no_success_says_why(
    answer: Callable[[Handler, Request], None], said: str
) -> None:
    with receiver() as there:
        there.answer = answer
        (outcome,) = await _send(there.url)
        assert (outcome.ok, outcome.gone) == (False, False)
        assert outcome.said.startswith(said)
        assert len(there.requests) == 1


async def test_ten_gigabytes_are_not_read() -> None:
    with receiver() as there:
        there.answer = endless
        (outcome,) = await _send(there.url, WebhooksConfig(timeout_seconds=30))
        assert outcome == Outcome(True, "200")


async def test_gone_is_said() -> None:
    with receiver() as there:
        there.answer = failing(410, b"")
        assert await _send(there.url) == [Outcome(False, "410", gone=True)]


async def test_nobody_there_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    (outcome,) = await _send(f"http://127.0.0.1:{port}/")
    assert not outcome.ok
    assert outcome.said


async def test_an_answer_that_is_not_http_and_headers_without_end() -> None:
    for words in (b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10**6):
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=_say, args=(server, words))
            thread.start()
            (outcome,) = await _send(f"http://127.0.0.1:{server.getsockname()[1]}/")
            thread.join()
        assert not outcome.ok


def _say(server: socket.socket, words: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        try:
            connection.sendall(words)
            connection.recv(10**6)
        except OSError:
            pass


async def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with receiver() as there:
        assert (await _send(there.url))[0].ok


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a self-signed certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret


async def test_https_is_verified(tmp_path: Path) -> None:
    certificate, secret = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    with receiver() as there:
        there.wrap(context)
        url = f"https://localhost:{there.port}/hook"
        (refused,) = await _send(url)
        assert not refused.ok
        assert "certificate" in refused.said.lower()
        assert there.requests == []
        trusting = WebhooksConfig(ca_file=str(certificate))
        (taken,) = await _send(url, trusting)
        assert taken.ok, taken.said
        (other_name,) = await _send(f"https://127.0.0.1:{there.port}/hook", trusting)
        assert not other_name.ok
