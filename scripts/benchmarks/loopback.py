"""TLS between two processes on loopback, with nothing in it: what a link's bytes and turns cost.

Run as a program it is the other end: it prints its port and answers one connection.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacl.signing import SigningKey

from tallystick.node.transport import tls

PIECE = 256 * 1024
PIECES = 256  # 64 MiB
TURNS = 300
SERVER, CLIENT = SigningKey(b"\1" * 32), SigningKey(b"\2" * 32)
HEAD = 4


def certificates() -> tuple[bytes, bytes]:
    return tls.certificate_der("server.example", SERVER), tls.certificate_der(
        "client.example", CLIENT
    )


def _serve(folder: Path) -> None:
    """Take so many bytes as the first four say, answer with one; until the other end closes."""
    own, other = certificates()
    context = tls.server_context(tls.Shown(SERVER), own, [other], folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        plain, _ = listener.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_side=True) as stream:
            while head := stream.recv(HEAD):
                left = int.from_bytes(head, "big")
                while left:
                    left -= len(stream.recv(min(left, PIECE)))
                stream.send(b"k")


@contextmanager
def _opened(folder: Path) -> Iterator[socket.socket]:
    command = [sys.executable, "-P", __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        other, own = certificates()
        context = tls.session_context(tls.Shown(CLIENT), own, other, folder)
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain) as stream:
            yield stream


def measure(folder: Path, repeats: int) -> tuple[list[float], list[float]]:
    """Bytes a second, and seconds a round trip of a small message; so often each."""
    rates, turns = [], []
    piece, total = bytes(PIECE), PIECE * PIECES
    with _opened(folder) as stream:
        for _ in range(repeats):
            began = time.perf_counter()
            stream.sendall(total.to_bytes(HEAD, "big"))
            for _ in range(PIECES):
                stream.sendall(piece)
            stream.recv(1)
            rates.append(total / (time.perf_counter() - began))
        for _ in range(TURNS):
            began = time.perf_counter()
            stream.sendall((1).to_bytes(HEAD, "big") + b"x")
            stream.recv(1)
            turns.append(time.perf_counter() - began)
    return rates, turns


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
