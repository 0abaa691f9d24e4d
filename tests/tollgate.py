"""A way between two nodes that counts the bytes that pass."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread

CHUNK_BYTES = 65536


class Tollgate:
    """Listens on a port of its own, and passes all on to and from `target` until it is closed."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.passed = 0  # bytes that the target sent
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._threads.append(Thread(target=self._serve, args=(near,)))
                self._threads[-1].start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self._target) as far:
            other = Thread(target=self._pass, args=(near, far))
            other.start()
            self._pass(far, near, count=True)
            other.join()

    def _pass(self, source: socket.socket, sink: socket.socket, *, count: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self.passed += len(data) if count else 0
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let nobody in any more, and wait until who is inside has left."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
