"""A real authority of timestamps, by `openssl ts`, and servers of it on loopback."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIG = """\
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[stamps]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/authority.pem
signer_key = {folder}/authority.key
certs = {folder}/root.pem
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500
ess_cert_id_alg = {naming}
ordering = no
tsa_name = yes
ess_cert_id_chain = no
"""


class Authority:
    """An authority in a folder: a root, a key below it, and openssl that answers."""

    def __init__(self, folder: Path, *, naming: str = "sha256", key: str = "rsa:2048") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "tsa.cnf"
        self.config.write_text(_CONFIG.format(folder=folder, naming=naming))
        (folder / "serial").write_text("01\n")
        self.root = folder / "root.pem"
        self._lock = threading.Lock()
        new = ["-newkey", key, "-nodes", "-config", str(self.config)]
        if key == "ec":
            new += ["-pkeyopt", "ec_paramgen_curve:P-256"]
        _openssl("req", "-x509", *new, "-keyout", folder / "root.key", "-out", self.root,
                 "-subj", "/CN=Root of time", "-days", "3650", "-extensions", "root")  # fmt: skip
        _openssl("req", *new, "-keyout", folder / "authority.key", "-out", folder / "request.pem",
                 "-subj", "/CN=time.example")  # fmt: skip
        _openssl("x509", "-req", "-in", folder / "request.pem", "-CA", self.root, "-CAkey",
                 folder / "root.key", "-CAcreateserial", "-days", "365", "-extfile", self.config,
                 "-extensions", "stamps", "-out", folder / "authority.pem")  # fmt: skip

    def reply(self, query: bytes) -> bytes:
        """What it answers to a request."""
        with self._lock, tempfile.TemporaryDirectory() as name:
            asked, said = Path(name) / "query", Path(name) / "response"
            asked.write_bytes(query)
            _openssl("ts", "-reply", "-config", self.config, "-section", "tsa", "-queryfile", asked,
                     "-out", said)  # fmt: skip
            return said.read_bytes()

    def stamp(self, data: bytes) -> bytes:
        """Its timestamp of something."""
        with tempfile.TemporaryDirectory() as name:
            file, query = Path(name) / "data", Path(name) / "query"
            file.write_bytes(data)
            _openssl("ts", "-query", "-data", file, "-sha256", "-cert", "-out", query)
            return self.reply(query.read_bytes())

    def verifies(self, data: bytes, response: bytes) -> bool:
        """Whether openssl itself finds that a response is over something, and trusted."""
        with tempfile.TemporaryDirectory() as name:
            file, said = Path(name) / "data", Path(name) / "response"
            file.write_bytes(data)
            said.write_bytes(response)
            command = ["openssl", "ts", "-verify", "-data", file, "-in", said, "-CAfile", self.root]
            return subprocess.run(command, capture_output=True).returncode == 0


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


Answer = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request to an authority."""

    server: Door

    def do_POST(self) -> None:
        """Let the server's `answer` answer."""
        self.query = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.queries.append(self.query)
        self.server.answer(self)

    def say(
        self, body: bytes, status: int = 200, kind: str = "application/timestamp-reply"
    ) -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Door(ThreadingHTTPServer):
    """Where an authority is asked over HTTP; `answer` may be set to one that lies."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answer = answer
        self.queries: list[bytes] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/tsr"


@contextmanager
def served(answer: Answer) -> Iterator[Door]:
    """A server while the block runs."""
    door = Door(answer)
    thread = threading.Thread(target=door.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield door
    finally:
        door.stopping.set()
        door.shutdown()
        thread.join()
        door.server_close()


def honest(authority: Authority) -> Answer:
    """The answers of an authority."""
    return lambda asked: asked.say(authority.reply(asked.query))
