"""Receivers of webhooks on loopback, well-behaved and other, that keep what they were sent."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from documented import check_data, documented

from tallystick.node.webhooks.endpoints import HOSTED


@dataclass(frozen=True)
class Request:
    """What came: the path, the headers in lower case, and the body as it was sent."""

    path: str
    headers: dict[str, str]
    raw: str

    @property
    def body(self) -> dict[str, Any]:
        """The body, as JSON."""
        found: dict[str, Any] = json.loads(self.raw)
        return found


class Receiver:
    """A server; `answer` says what to do with a request that was kept as the last of `requests`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Handler, Request], None] = ok
        self.faults: list[str] = []  # events that are not as documented
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        receiver = self

        class Bound(Handler):
            owner = receiver

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook"

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, and let go who hangs."""
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def named(self, *events: str) -> list[dict[str, Any]]:
        """The bodies of these kinds of events, in the order in which they came."""
        return [one.body for one in list(self.requests) if one.body["event"] in events]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    owner: Receiver
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer of two writes waits for a delayed ACK

    def handle(self) -> None:
        """Serve the connection until either side ends it."""
        with suppress(OSError):
            super().handle()

    def do_POST(self) -> None:
        """Keep what came and answer."""
        raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._check(json.loads(raw))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, raw)
        with self.owner.lock:
            self.owner.requests.append(request)
        with suppress(OSError):
            self.owner.answer(self, request)

    def _check(self, body: dict[str, Any]) -> None:
        """The data of events is as it is documented."""
        if body.get("event") in documented():
            added = {"channel", "peer", "cursor", "said"} if body["event"] not in HOSTED else set()
            added -= documented()[body["event"]][0]
            found = {name: value for name, value in body["data"].items() if name not in added}
            try:
                check_data(body["event"], found)
            except AssertionError:
                self.owner.faults.append(f"{body['event']} has {sorted(found)}")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def ok(handler: Handler, request: Request) -> None:
    """Take it."""
    handler.reply(200, b"thanks")


def failing(status: int, body: bytes = b"no", **headers: str) -> Callable[[Handler, Request], None]:
    """Refuse it."""
    return lambda handler, request: handler.reply(status, body, **headers)


def hang(handler: Handler, request: Request) -> None:
    """Say nothing until the test is over."""
    handler.owner.stopping.wait(60)
    handler.close_connection = True


def endless(handler: Handler, request: Request) -> None:
    """Answer with ten gigabytes, as long as anybody reads."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**10))
    handler.end_headers()
    for _ in range(10**10 // 65536):
        handler.wfile.write(bytes(65536))


def drip(handler: Handler, request: Request) -> None:
    """Answer a byte at a time, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "4000")
    handler.end_headers()
    while not handler.owner.stopping.wait(0.05):
        handler.wfile.write(b".")


def hang_up(handler: Handler, request: Request) -> None:
    """Close without a word."""
    handler.close_connection = True
    handler.connection.close()


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A running receiver."""
    made = Receiver()
    made.start()
    try:
        yield made
    finally:
        made.stop()
    assert made.faults == [], made.faults
